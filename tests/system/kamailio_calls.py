#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""The SIP gateway with its packaged configuration, two phones and SIPp, and our ng server over a relay that moves no media:
calls both ways, hold, hang-up from either end, CANCEL, busy, unknown user, INVITE without SDP. What Kamailio asks of call
control is seen in what the relay was asked: each call opened once, between the right legs, and closed."""
import re
import shutil
import socket
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
import sipp
from baresip import Baresip
from harness import check, equal, main, skip, wait_until
from programs import program
from sip_stand import CORE, INNER, PHONE, UNIT, SipStand


class Scene(SipStand):
    """The stand with our ng server over a relay that moves no media, and phones."""

    def __init__(self, t):
        super().__init__(t, ng=lambda gw: t.start("ng_fake", [program("ng_fake"), "127.0.0.1", "2223", CORE], gw))
        self.silence = t.dir / "play.wav"
        netns_wav(self.silence)

    def phone(self, user, space, address, registrar, **options):
        phone = Baresip(user, self.t.dir / f"{user}-{time.monotonic_ns()}", space, address=address, registrar=registrar,
                        play=self.silence, record=False, log_dir=self.t.log_dir, **options)
        self.t.defer(phone.stop)
        phone.start()
        phone.wait_registered(15)
        return phone


def netns_wav(path):
    import wave
    with wave.open(str(path), "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(8000)
        w.writeframes(b"\0\0" * 8000 * 60)


def invite_from(scene, user):
    """The final reply to an INVITE with this user in From, sent from the core to alice."""
    sdp = f"v=0\r\no=- 1 1 IN IP4 {PHONE}\r\ns=-\r\nc=IN IP4 {PHONE}\r\nt=0 0\r\nm=audio 7000 RTP/AVP 8\r\n"
    text = (f"INVITE sip:alice@{CORE} SIP/2.0\r\nVia: SIP/2.0/UDP {PHONE}:5090;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n"
            f"From: <sip:{user}@{CORE}>;tag=1\r\nTo: <sip:alice@{CORE}>\r\nCall-ID: from-test\r\nCSeq: 1 INVITE\r\n"
            f"Contact: <sip:x@{PHONE}:5090>\r\nContent-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n\r\n{sdp}")

    def socket_there():
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind((PHONE, 5090))
        return s

    with netns.inside(scene.core.name, socket_there) as s:
        s.settimeout(5)
        s.sendto(text.encode(), (CORE, 5060))
        while True:
            reply = s.recv(65535).decode().split("\r\n")[0]
            if not reply.startswith("SIP/2.0 1"):
                return reply


def call(caller, callee, to, seconds=0.5, hang_up=None, during=lambda: None):
    for phone in (caller, callee):
        phone.clear_events()
    caller.dial(to)
    caller.wait_established(10)
    callee.wait_established(10)
    time.sleep(seconds)
    during()
    (hang_up or caller).hang_up()
    for phone in (caller, callee):
        if phone is not (hang_up or caller):
            phone.wait_closed(10)
    time.sleep(0.5)


def test(t):
    for needed, package in (("kamailio", "kamailio"), ("baresip", "baresip-core"), ("sipp", "sip-tester")):
        if not shutil.which(needed):
            skip(f"{needed} is not installed (package {package})")
    scene = Scene(t)
    scene.sip.peer(PHONE)  # the trunk of SIPp and of invite_from
    alice = scene.phone("alice", scene.ue, UNIT, INNER)
    bob = scene.phone("bob", scene.core, PHONE, CORE)

    def holds():
        for phone in (alice, bob):
            phone.hold()
            time.sleep(0.7)
            phone.resume()
            time.sleep(0.7)

    call(alice, bob, "bob", during=holds)
    t.say("alice calls bob, both hold and resume")
    call(bob, alice, "alice", hang_up=alice)
    t.say("bob calls alice, she hangs up")
    alice.clear_events()
    alice.dial("nobody")
    equal(alice.wait_closed_reason(), "404 Not Found", "an unknown user")
    check("400 Bad User Name" in invite_from(scene, "x;callee=carol"), "a From that would name another callee is refused")
    bob.stop()
    bob = scene.phone("bob", scene.core, PHONE, CORE, answer=False)
    alice.clear_events()
    alice.dial("bob")
    wait_until(lambda: bob.seen("CALL_INCOMING"), "bob rings", 5)
    alice.hang_up()
    bob.wait_closed(5)
    t.say("CANCEL reaches bob")
    for phone in (alice, bob):
        phone.clear_events()
    alice.dial("bob")
    wait_until(lambda: bob.seen("CALL_INCOMING"), "bob rings again", 5)
    bob.hang_up()
    check(re.match("4|6", alice.wait_closed_reason()), "bob's refusal reaches alice")
    scenario = t.dir / "late.xml"
    scenario.write_text(sipp.caller(f"alice@{CORE}:5060", f"trunk@{CORE}", late=True))
    done = scene.core.run("sipp", "-sf", scenario, "-i", PHONE, "-p", "5080", "-m", "1", "-timeout", "15", "-nostdin", f"{CORE}:5060",
                          check=False, timeout=30)
    check(sipp.counted(done, "Successful") == 1, f"INVITE without SDP: {done[-1500:]}")
    time.sleep(0.5)
    for phone in (alice, bob):
        phone.clear_events()
    alice.dial("bob")
    wait_until(lambda: bob.seen("CALL_INCOMING"), "bob rings a third time", 5)
    scene.ng.stop()
    heard = t.capture(scene.ue, "ue0", "no-gateway")
    bob.answer()
    wait_until(lambda: alice.seen("CALL_ESTABLISHED") or alice.seen("CALL_CLOSED"), "the 200 reaches alice", 20)
    time.sleep(0.5)
    leaked = [f for f in heard.stop() if f.is_udp and b"198.51.100.10" in f.payload and b"m=audio" in f.payload]
    equal(len(leaked), 0, "SDP of bob's that reached alice while no gateway answered")
    t.say("without the gateway's answer no SDP passes")
    alice.hang_up()
    log = re.findall(r"^(?:open|update|close) .*$", scene.ng.log(), re.M)
    opened = [line.split(" ", 3)[3] for line in log if line.startswith("open")]
    equal(opened, ["unit:alice core:core alice>bob", "core:core unit:alice bob>alice", "unit:alice core:core alice>bob",
                   "unit:alice core:core alice>bob", "unit:alice core:core trunk>alice", "unit:alice core:core alice>bob"], "legs and names of each call")
    updates = [sum(line == f"update #{n}" for line in log) for n in range(1, 6)]
    check(updates[0] == 5, f"first call: its answer and those of four re-offers: {updates}")
    check(updates[1] >= 1 and updates[4] >= 1, f"answers reached the relay: {updates}")
    equal(updates[2:4], [0, 0], "calls that were never answered changed nothing")
    equal([line for line in log if line.startswith("close")], [f"close #{n} deleted" for n in range(1, 6)], "each call's end")


main(test, "Kamailio: calls, hold, CANCEL, refusal, late offer")
