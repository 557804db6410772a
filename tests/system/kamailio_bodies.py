#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 90
"""The SIP edge as packaged: an SDP in whatever wrapping is anchored or goes no further. In a multipart body it is anchored where it
stands; two of them, one inside another part, one under another Content-Type or an encoding are refused (415) or taken out."""
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
import sip
from harness import check, equal, main, wait_until
from sip_stand import ANCHOR, PHONE, UNIT, SipStand

SDP, ISUP, PLACE = "Content-Type: application/sdp", "Content-Type: application/isup", "Content-Type: application/pidf+xml"


def multipart(*parts, boundary="xyz"):
    return "".join(f"--{boundary}\r\n{head}\r\n\r\n{body}\r\n" for head, body in parts) + f"--{boundary}--\r\n"


def wrappings(sdp):
    """(what, more header lines, body, whether it is anchored)"""
    mixed = "Content-Type: multipart/mixed;boundary=xyz"
    yield "alone", (SDP,), sdp, True
    yield "in capitals", ("Content-Type: APPLICATION/Sdp ;x=y",), sdp, True
    yield "one part", (mixed,), multipart((SDP, sdp)), True
    yield "a part, its boundary in quotes", ('Content-Type: Multipart/Mixed; boundary="xyz"',), multipart((SDP, sdp)), True
    yield "beside ISUP", (mixed,), multipart((ISUP, "\x01\x00\x49\x00"), (SDP, sdp), (PLACE, "<presence/>")), True
    yield "two parts", (mixed,), multipart((SDP, sdp), (SDP, sdp)), False
    yield "two parts, a NUL before them", (mixed,), multipart((ISUP, "\x00"), (SDP, sdp), (SDP, sdp)), False
    yield "before the parts", (mixed,), sdp + multipart((SDP, sdp)), False
    yield "under another type", ("Content-Type: text/plain",), sdp, False
    yield "a part without type", (mixed,), multipart(("X: y", sdp)), False
    yield "alternative", ("Content-Type: multipart/alternative;boundary=xyz",), multipart((SDP, sdp)), False
    yield "a part of a part", ("Content-Type: multipart/mixed;boundary=abc",), multipart(
        ("Content-Type: multipart/alternative;boundary=xyz", multipart((SDP, sdp))), boundary="abc"), False
    yield "encoded", (SDP, "Content-Encoding: gzip"), sdp, False
    yield "encoded, in short", (SDP, "e: gzip"), sdp, False
    yield "two types", (SDP, "Content-Type: text/plain"), sdp, False


def body_of(text):
    return text.partition("\r\n\r\n")[2]


def in_invite(stand, alice, bob):
    for n, (what, lines, body, anchored) in enumerate(wrappings(alice.sdp)):
        call_id = f"invite-{n}"
        reply = alice.request("INVITE", f"sip:bob@{alice.proxy}", f"<sip:bob@{alice.proxy}>", call_id, 1, body=body, extra=lines)
        there = bob.asked("INVITE", call_id)
        equal(bool(there), anchored, f"SDP {what}: whether the INVITE goes on; {reply.splitlines()[0]}")
        if there:
            check(UNIT not in body_of(there[0]) and ANCHOR in body_of(there[0]), f"SDP {what}: anchored: {there[0]}")
            check("<presence/>" in body_of(there[0]) or PLACE not in body, "the other parts go along")
            call = sip.Call(alice, call_id, reply, 1)
            call.ack()
            call.bye()
        else:
            check(reply.startswith(("SIP/2.0 415 ", "SIP/2.0 503 ")), f"SDP {what}: {reply.splitlines()[0]}")
            alice.request("ACK", f"sip:bob@{alice.proxy}", sip.header(reply, "To"), call_id, 1)


def in_answer(stand, alice, bob):
    wrapped = []

    def asked(agent, text):
        if text.startswith("INVITE "):
            agent.respond(text, "183 Session Progress", *wrapped)
            agent.respond(text, "200 OK", *wrapped)
            return True
        return False

    bob.on_request = asked
    for n, (what, lines, body, anchored) in enumerate(wrappings(bob.sdp)):
        wrapped[:] = [lines, body]
        call_id = f"answer-{n}"
        reply = alice.request("INVITE", f"sip:bob@{alice.proxy}", f"<sip:bob@{alice.proxy}>", call_id, 1, body=alice.sdp)
        for seen in alice.replies(call_id, "1 INVITE"):
            check(PHONE not in body_of(seen), f"answer {what}: not around the gateway: {seen}")
        equal(ANCHOR in body_of(reply), anchored, f"answer {what}: whether it is anchored: {reply}")
        call = sip.Call(alice, call_id, reply, 1)
        call.ack()
        call.bye()
    bob.on_request = None


def in_ack(stand, alice, bob):
    """INVITE without SDP: the answer goes in the ACK."""
    for n, (what, lines, body, anchored) in enumerate(wrappings(alice.sdp)):
        call_id = f"ack-{n}"
        reply = alice.request("INVITE", f"sip:bob@{alice.proxy}", f"<sip:bob@{alice.proxy}>", call_id, 1)
        call = sip.Call(alice, call_id, reply, 1)
        alice.request("ACK", call.target, call.to, call_id, 1, call.routes, body, extra=lines)
        ack = wait_until(lambda c=call_id: bob.asked("ACK", c), "ACK", 5)[0]
        check(UNIT not in body_of(ack), f"ACK, SDP {what}: not around the gateway: {ack}")
        equal(ANCHOR in body_of(ack), anchored, f"ACK, SDP {what}: whether it is anchored")
        call.bye()


def in_others(stand, alice, bob):
    """A request that offers nothing carries none."""
    call = alice.invite("bob", "info-1")
    for n, method in enumerate(("INFO", "MESSAGE")):
        alice.request(method, call.target, call.to, "info-1", 2 + n, call.routes, alice.sdp)
        check(UNIT not in body_of(bob.asked(method, "info-1")[0]), f"{method}: not around the gateway")
        alice.request(method, call.target, call.to, "info-1", 4 + n, call.routes, "m=1", extra=("Content-Type: text/plain",))
        equal(body_of(bob.asked(method, "info-1")[1]), "m=1", f"{method}: what is no SDP goes on")
    call.cseq = 6
    call.bye()


def test(t):
    stand = SipStand(t)
    alice, bob = stand.agent("alice", UNIT, 5060).register(), stand.agent("bob", PHONE, 5070).register()
    for wrapped in (in_invite, in_answer, in_ack, in_others):
        wrapped(stand, alice, bob)
    wait_until(lambda: stand.ng.calls == set(), "no call is left at call control", 5)


main(test, "Kamailio: an SDP in whatever wrapping is anchored or goes no further")
