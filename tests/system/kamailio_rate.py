#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 400
# count: 24000 calls
"""The SIP edge as packaged under 400 calls a second (as fast as the machine lets it): every call of a trunk to a phone behind an agent
is set up, answered and hung up, call control is told of each, and none is left there."""
import re
import shutil
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
import ng
from harness import check, equal, main, skip, wait_until
from programs import build_dir
from sip_stand import CORE, TRUNK, UNIT, SipStand

CALLS_A_SECOND = 400
SDP = """      Content-Type: application/sdp
      Content-Length: [len]

      v=0
      o=- 1 1 IN IP4 [local_ip]
      s=-
      c=IN IP4 [local_ip]
      t=0 0
      m=audio {port} RTP/AVP 8
      a=rtpmap:8 PCMA/8000
"""
CALLER = """<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="caller">
  <send retrans="500"><![CDATA[
      INVITE sip:alice@{core}:5060 SIP/2.0
      Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
      From: <sip:trunk@{core}>;tag=[call_number]
      To: <sip:alice@{core}>
      Call-ID: [call_id]
      CSeq: 1 INVITE
      Contact: <sip:trunk@[local_ip]:[local_port]>
      Max-Forwards: 70
{sdp}
  ]]></send>
  <recv response="100" optional="true"></recv>
  <recv response="180" optional="true"></recv>
  <recv response="200" rrs="true"></recv>
  <send><![CDATA[
      ACK [next_url] SIP/2.0
      Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
      [routes]
      From: <sip:trunk@{core}>;tag=[call_number]
      To: <sip:alice@{core}>[peer_tag_param]
      Call-ID: [call_id]
      CSeq: 1 ACK
      Max-Forwards: 70
      Content-Length: 0

  ]]></send>
  <pause milliseconds="1000"/>
  <send retrans="500"><![CDATA[
      BYE [next_url] SIP/2.0
      Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
      [routes]
      From: <sip:trunk@{core}>;tag=[call_number]
      To: <sip:alice@{core}>[peer_tag_param]
      Call-ID: [call_id]
      CSeq: 2 BYE
      Max-Forwards: 70
      Content-Length: 0

  ]]></send>
  <recv response="200"></recv>
</scenario>
""".replace("{sdp}", SDP.format(port=7000))
REPLY = """  <send{more}><![CDATA[
      SIP/2.0 200 OK
      [last_Via:]
      [last_Record-Route:]
      [last_From:]
      [last_To:]{tag}
      [last_Call-ID:]
      [last_CSeq:]
      Contact: <sip:alice@[local_ip]:[local_port]>
{body}
  ]]></send>
"""
CALLEE = ("""<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="callee">
  <recv request="INVITE" crlf="true"></recv>
""" + REPLY.format(more=' retrans="500"', tag=";tag=[call_number]", body=SDP.format(port=9000)) + """  <recv request="ACK"></recv>
  <recv request="BYE"></recv>
""" + REPLY.format(more="", tag="", body="      Content-Length: 0\n") + """  <timewait milliseconds="4000"/>
</scenario>
""")


def test(t):
    if not shutil.which("sipp"):
        skip("sipp is not installed (package sip-tester)")
    fake = build_dir() / "controlplane/callcontrol/ng_fake"
    if not fake.exists():
        skip(f"{fake} is not built: run tools/build")
    stand = SipStand(t, ng=lambda gw: t.start("ng_fake", [fake, "127.0.0.1", "2223", CORE], gw))
    stand.sip.peer(TRUNK)
    stand.sip.own(UNIT, "alice")
    phone = stand.agent("alice", UNIT, 5066)
    equal(phone.try_register(extra=(f"Contact: <sip:alice@{UNIT}:5070>",)), "SIP/2.0 200 OK", "registered")
    (t.dir / "caller.xml").write_text(CALLER.replace("{core}", CORE))
    (t.dir / "callee.xml").write_text(CALLEE)
    t.start("callee", ["sipp", "-sf", t.dir / "callee.xml", "-i", UNIT, "-p", "5070", "-nostdin", "-buff_size", "8388608"], stand.ue)
    time.sleep(0.5)
    begin = time.monotonic()
    caller = t.start("caller", ["sipp", "-sf", t.dir / "caller.xml", "-i", TRUNK, "-p", "5060", "-m", str(t.count), "-r", str(CALLS_A_SECOND),
                                "-l", "20000", "-nostdin", "-buff_size", "8388608", "-timeout_error", f"{CORE}:5060"], stand.core)
    status = caller.wait(380)
    took = time.monotonic() - begin
    done = re.findall(r"Successful call\s*\|\s*\d+\s*\|\s*(\d+)", caller.log())
    failed = re.findall(r"Failed call\s*\|\s*\d+\s*\|\s*(\d+)", caller.log())
    again = sum(int(n) for n in re.findall(r"^ +(?:INVITE|ACK|BYE) -+> +\d+ +(\d+)", caller.log()[-6000:], re.M))
    t.say(f"{t.count} calls in {took:.1f} s, asked for {CALLS_A_SECOND} a second: {done[-1:]} done, {failed[-1:]} failed, "
          f"{again} messages sent again")
    equal((status, done[-1:], failed[-1:]), (0, [str(t.count)], ["0"]), f"SIPp's end; {caller.tail(40)}")
    client = netns.inside(stand.gw.name, ng.Client)
    wait_until(lambda: client.command("list")["calls"] == [], "no call is left at call control", 60)
    stand.ng.stop()  # it writes its log at the end
    log = stand.ng.log()
    equal([len(re.findall(rf"^{word} ", log, re.M)) for word in ("open", "close")], [t.count, t.count], "calls that call control was told of, and of their end")
    check("out of memory" not in stand.kamailio.log() and "no more shm" not in stand.kamailio.log(), "Kamailio had memory")


main(test, "Kamailio: 400 calls a second, all of them")
