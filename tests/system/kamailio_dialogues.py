#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 150
"""The SIP edge as packaged: every SDP of a dialogue is anchored, whichever message carries it (INVITE, reliable 183, PRACK, UPDATE,
200, ACK, re-INVITE), and call control is told the source address and one branch of all of them. A phone behind a NAT, a phone that
comes back from another port, a gateway that is silent, a phone that is away, a restart of Kamailio."""
import os
import re
import signal
import sys
import threading

sys.path.insert(0, sys.path[0] + "/../lib")
import sip
from fake_ng import FULL
from harness import check, equal, main, wait_until
from sip_stand import ANCHOR, PHONE, UNIT, SipStand


def anchored(message, what):
    equal(sip.media_of(message), (ANCHOR, 20000), f"{what}: where its SDP points")


class Caller:
    """An INVITE whose replies are looked at one by one."""

    def __init__(self, agent, user, call_id, body=None, reliable=True):
        self.agent, self.call_id, self.to = agent, call_id, f"<sip:{user}@{agent.proxy}>"
        self.uri, self.cseq = f"sip:{user}@{agent.proxy}", 1
        self.body = agent.sdp if body is None else body
        self.extra = ("Supported: 100rel",) if reliable else ()

    def start(self):
        self.result = None

        def run():
            self.result = self.agent.request("INVITE", self.uri, self.to, self.call_id, 1, body=self.body, extra=self.extra)
        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        return self

    def reply(self, code):
        return wait_until(lambda: next((r for r in self.agent.replies(self.call_id, "1 INVITE") if r.startswith(f"SIP/2.0 {code} ")), None),
                          f"{code} to the INVITE of {self.call_id}", 10)

    def dialogue(self, reply):
        call = sip.Call(self.agent, self.call_id, reply, self.cseq)
        return call

    def inside(self, reply, method, body="", extra=()):
        call = self.dialogue(reply)
        self.cseq += 1
        return self.agent.request(method, call.target, call.to, self.call_id, self.cseq, call.routes, body=body, extra=extra)


class Ringing:
    """A callee that sends a reliable 183 first and waits to be told."""

    def __init__(self, agent, sdp_in_183=True, sdp_in_200=False):
        self.agent, self.invite, self.in_183, self.in_200 = agent, None, sdp_in_183, sdp_in_200
        agent.on_request = self.asked

    def asked(self, agent, text):
        method = text.split(" ", 1)[0]
        if method == "INVITE" and "tag=" not in sip.header(text, "To"):
            self.invite = text
            agent.respond(text, "183 Session Progress", ("Require: 100rel", "RSeq: 1"), agent.sdp if self.in_183 else "")
            return True
        if method in ("PRACK", "UPDATE", "INVITE"):
            offer = sip.media_of(text) is not None and not (method == "PRACK" and sip.media_of(self.invite) is None)
            agent.respond(text, "200 OK", body=agent.sdp if offer or method == "INVITE" else "")
            return True
        return False

    def answer(self):
        self.agent.respond(self.invite, "200 OK", body=self.agent.sdp if self.in_200 else "")


def offer_in_invite(stand, alice, bob):
    callee = Ringing(bob)
    caller = Caller(alice, "bob", "prack-1").start()
    early = caller.reply(183)
    anchored(early, "183")
    anchored(bob.asked("INVITE", "prack-1")[0], "INVITE")
    reply = caller.inside(early, "PRACK", body=alice.sdp, extra=("RAck: 1 1 INVITE",))
    anchored(bob.asked("PRACK", "prack-1")[0], "offer in PRACK")
    anchored(reply, "answer in PRACK's 200")
    reply = caller.inside(early, "UPDATE", body=alice.sdp)
    anchored(bob.asked("UPDATE", "prack-1")[0], "offer in UPDATE, early dialogue")
    anchored(reply, "answer in UPDATE's 200")
    callee.answer()
    up = caller.reply(200)
    call = caller.dialogue(up)
    call.cseq = 1
    call.ack()
    call.cseq = caller.cseq
    check(" 200 " in call.again(), "re-INVITE")
    anchored(call.reply, "re-INVITE's 200")
    anchored(bob.asked("INVITE", "prack-1")[-1], "re-INVITE")
    check(" 200 " in call.bye(), "BYE")
    asked = [r for r in stand.ng.requests if r.get("call-id") == "prack-1"]
    equal([r["command"] for r in asked], ["offer", "answer"] * 4 + ["delete"], "what call control was asked")
    equal(len({r.get("via-branch") for r in asked}), 1, "branches of one dialogue")
    check(asked[0].get("via-branch"), "the branch is told")
    equal([r.get("received-from") for r in asked[:8]], [["IP4", UNIT], ["IP4", PHONE]] * 4, "source of each offer and answer")
    for spoken in (bob.asked("PRACK", "prack-1") + bob.asked("UPDATE", "prack-1")):
        check(UNIT not in spoken.split("\r\n\r\n")[1], "the caller's address is in no SDP")


def offer_in_183(stand, alice, bob):
    callee = Ringing(bob, sdp_in_200=True)
    caller = Caller(alice, "bob", "late-1", body="").start()
    early = caller.reply(183)
    anchored(early, "offer in 183")
    caller.inside(early, "PRACK", body=alice.sdp, extra=("RAck: 1 1 INVITE",))
    anchored(bob.asked("PRACK", "late-1")[0], "answer in PRACK")
    callee.answer()
    up = caller.reply(200)
    check(sip.media_of(up) in (None, (ANCHOR, 20000)), "the SDP that a 200 repeats is not the callee's own")
    call = caller.dialogue(up)
    call.cseq = 1
    call.ack()
    call.cseq = caller.cseq
    check(" 200 " in call.bye(), "BYE")
    equal([r["command"] for r in stand.ng.requests if r.get("call-id") == "late-1"], ["offer", "answer", "delete"], "what call control was asked")


def offer_in_200(stand, alice, bob):
    bob.on_request = None
    reply = alice.request("INVITE", "sip:bob@" + alice.proxy, f"<sip:bob@{alice.proxy}>", "late-2", 1)
    anchored(reply, "offer in 200")
    call = sip.Call(alice, "late-2", reply, 1)
    alice.request("ACK", call.target, call.to, "late-2", 1, call.routes, alice.sdp)
    ack = wait_until(lambda: bob.asked("ACK", "late-2"), "ACK", 5)[0]
    anchored(ack, "answer in ACK")
    # A second one that nobody asked for goes nowhere.
    alice.request("ACK", call.target, call.to, "late-2", 1, call.routes, alice.sdp)
    ack = wait_until(lambda: bob.asked("ACK", "late-2")[1:], "second ACK", 5)[0]
    check(UNIT not in ack.partition("\r\n\r\n")[2], "no SDP in an ACK that answers nothing")
    check(" 200 " in call.bye(), "BYE")
    equal([r["command"] for r in stand.ng.requests if r.get("call-id") == "late-2"], ["offer", "answer", "delete"], "what call control was asked")


def another_port(stand, alice):
    again = stand.agent("bob", PHONE, 5073).register()
    call = alice.invite("bob", "moved-1")
    equal(len(again.asked("INVITE", "moved-1")), 1, "INVITEs at the phone's new port")
    check(" 200 " in call.bye(), "BYE")
    return again


def behind_nat(stand, alice):
    """What a phone says of itself is 192.168.1.5; it sends from the NAT's address and another port."""
    phone = stand.agent("nat", PHONE, 40000)
    phone.seen_as = ("192.168.1.5", 5060)
    equal(phone.try_register(), "SIP/2.0 200 OK", "registered")
    call = alice.invite("nat", "nat-1")
    equal(len(phone.asked("INVITE", "nat-1")), 1, "INVITEs that got through the NAT")
    wait_until(lambda: phone.asked("ACK", "nat-1"), "ACK gets through the NAT", 5)
    check(" 200 " in call.bye(), "BYE gets through the NAT")
    mine = phone.invite("alice", "nat-2")
    theirs = alice.asked("INVITE", "nat-2")[0]
    target = re.search(r"^Contact: <(.*?)>", theirs, re.M)[1]
    routes = [r.strip() for line in re.findall(r"^Record-Route:\s*(.*?)\r?$", theirs, re.M) for r in line.split(",")]
    reply = alice.request("BYE", target, sip.header(theirs, "From"), "nat-2", 7, routes)
    check(" 200 " in reply.splitlines()[0], f"the other side's BYE gets through the NAT: {reply.splitlines()[0]}")
    check(mine is not None and phone.asked("BYE", "nat-2"), "it is at the phone")


def away(stand, alice):
    gone = stand.agent("gone", PHONE, 5084).register()
    gone.close()
    stand.ng.requests.clear()
    reply = alice.request("INVITE", f"sip:gone@{alice.proxy}", f"<sip:gone@{alice.proxy}>", "away-1", 1, body=alice.sdp, timeout=45)
    check(re.match(r"SIP/2.0 (480|50\d|408) ", reply), f"a phone that is away: {reply.splitlines()[0]}")
    wait_until(lambda: "away-1" not in stand.ng.calls, "its media are given back", 10)


def silent(stand, alice):
    call = alice.invite("bob", "silent-0")
    stand.ng.mode = "silent"
    reply = alice.request("INVITE", call.target, call.to, "silent-0", 2, call.routes, alice.sdp, timeout=40)
    check(reply.startswith("SIP/2.0 503 "), f"a running call's re-INVITE, its gateway silent: {reply.splitlines()[0]}")
    to = f"<sip:bob@{alice.proxy}>"
    reply = alice.request("INVITE", f"sip:bob@{alice.proxy}", to, "silent-1", 1, body=alice.sdp, timeout=20)
    check(reply.startswith("SIP/2.0 503 "), f"no gateway answers: {reply.splitlines()[0]}")
    check("Retry-After:" in reply, "and says when to come again")
    for full in FULL:
        stand.ng.mode = full
        reply = alice.request("INVITE", f"sip:bob@{alice.proxy}", to, f"full-{len(full)}", 1, body=alice.sdp, timeout=20)
        check(reply.startswith("SIP/2.0 503 ") and "Retry-After:" in reply, f"every gateway says {full}: {reply.splitlines()[0]}")
    stand.ng.mode = "No suite in common"
    reply = alice.request("INVITE", f"sip:bob@{alice.proxy}", to, "refused-1", 1, body=alice.sdp, timeout=20)
    check(reply.startswith("SIP/2.0 488 "), f"the gateway refuses: {reply.splitlines()[0]}")
    stand.ng.mode = "ok"
    call.cseq = 3
    check(" 200 " in call.bye(), "BYE of the call whose gateway was silent")


def restart(stand, alice, bob, how):
    """Registrations and running dialogues outlive Kamailio."""
    call = alice.invite("bob", f"restart-{how.name}")
    if how == signal.SIGKILL:
        table = stand.sip.tables / "location"
        wait_until(lambda: f":{bob.port}" in table.read_text().replace("\\:", ":"), "registrations are written", 15)
    os.killpg(stand.kamailio.pid, how)  # a session of its own
    stand.kamailio.wait(20)
    stand.kamailio = stand.sip.start(stand.t.log_dir / how.name)
    check(" 200 " in call.bye(), f"BYE of a call from before {how.name}")
    again = alice.invite("bob", f"after-{how.name}")
    check(" 200 " in again.bye(), "a call to a phone that registered before")


def test(t):
    stand = SipStand(t)
    alice, bob = stand.agent("alice", UNIT, 5060), stand.agent("bob", PHONE, 5070)
    alice.register()
    bob.register()
    offer_in_invite(stand, alice, bob)
    offer_in_183(stand, alice, bob)
    offer_in_200(stand, alice, bob)
    t.say("INVITE, 183, PRACK, UPDATE, 200, ACK, re-INVITE: each SDP is anchored")
    bob = another_port(stand, alice)
    behind_nat(stand, alice)
    silent(stand, alice)
    t.say("503 where no gateway answers or has room, 488 where it refuses")
    for how in (signal.SIGTERM, signal.SIGKILL):
        restart(stand, alice, bob, how)
    t.say("registrations and dialogues outlive Kamailio")
    away(stand, alice)
    equal(stand.ng.calls, set(), "calls left at call control")


main(test, "Kamailio: every SDP of a dialogue is anchored; NAT, 503, restart")
