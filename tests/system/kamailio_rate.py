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
import sipp
from harness import check, equal, main, skip, wait_until
from programs import program
from sip_stand import CORE, TRUNK, UNIT, SipStand

CALLS_A_SECOND = 400


def test(t):
    if not shutil.which("sipp"):
        skip("sipp is not installed (package sip-tester)")
    stand = SipStand(t, ng=lambda gw: t.start("ng_fake", [program("ng_fake"), "127.0.0.1", "2223", CORE], gw))
    stand.sip.peer(TRUNK)
    stand.sip.own(UNIT, "alice")
    phone = stand.agent("alice", UNIT, 5066)
    equal(phone.try_register(extra=(f"Contact: <sip:alice@{UNIT}:5070>",)), "SIP/2.0 200 OK", "registered")
    (t.dir / "caller.xml").write_text(sipp.caller(f"alice@{CORE}:5060", f"trunk@{CORE}"))
    (t.dir / "callee.xml").write_text(sipp.callee("alice", timewait_ms=32000))
    t.start("callee", ["sipp", "-sf", t.dir / "callee.xml", "-i", UNIT, "-p", "5070", "-nostdin", "-buff_size", "8388608"], stand.ue)
    time.sleep(0.5)
    begin = time.monotonic()
    caller = t.start("caller", ["sipp", "-sf", t.dir / "caller.xml", "-i", TRUNK, "-p", "5060", "-m", str(t.count), "-r", str(CALLS_A_SECOND),
                                "-l", "20000", "-nostdin", "-buff_size", "8388608", "-timeout_error", f"{CORE}:5060"], stand.core)
    status = caller.wait(380)
    took = time.monotonic() - begin
    done, failed = (sipp.counted(caller.log(), word) for word in ("Successful", "Failed"))
    again = sum(int(n) for n in re.findall(r"^ +(?:INVITE|ACK|BYE) -+> +\d+ +(\d+)", caller.log()[-6000:], re.M))
    t.say(f"{t.count} calls in {took:.1f} s, asked for {CALLS_A_SECOND} a second: {done} done, {failed} failed, "
          f"{again} messages sent again")
    equal((status, done, failed), (0, t.count, 0), f"SIPp's end; {caller.tail(40)}")
    client = netns.inside(stand.gw.name, ng.Client)
    wait_until(lambda: client.command("list")["calls"] == [], "no call is left at call control", 60)
    stand.ng.stop()  # it writes its log at the end
    log = stand.ng.log()
    equal([len(re.findall(rf"^{word} ", log, re.M)) for word in ("open", "close")], [t.count, t.count], "calls that call control was told of, and of their end")
    check("out of memory" not in stand.kamailio.log() and "no more shm" not in stand.kamailio.log(), "Kamailio had memory")


main(test, "Kamailio: 400 calls a second, all of them")
