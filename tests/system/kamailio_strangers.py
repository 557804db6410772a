#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""The SIP edge as packaged: whose name it is. A unit speaks under its own names alone, a user of the core side with its digest, a
trusted peer by its address; a foreign Contact, a request into a dialogue that is none, and a Call-ID of 20,000 octets leave nothing."""
import hashlib
import os
import re
import sys
import threading
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import sip
from harness import check, equal, main, wait_until
from sip_stand import CORE, INNER, OTHER, PHONE, TRUNK, UNIT, UNIT2, SipStand


def status(text):
    return text.splitlines()[0].split(" ")[1]


def invite(agent, user, call_id, **options):
    """The status of an INVITE from this agent; the call is hung up where it came to be one."""
    to = f"<sip:{user}@{agent.proxy}>"
    reply = agent.request("INVITE", f"sip:{user}@{agent.proxy}", to, call_id, 1, body=agent.sdp, **options)
    call = sip.Call(agent, call_id, reply, 1)
    if status(reply) == "200":
        call.ack()
        call.bye()
    return status(reply)


def own_names(stand):
    alice, thief = stand.agent("alice", UNIT, 5060), stand.agent("mallory", UNIT2, 5060)
    stand.sip.own(UNIT, "+46701", "alice")
    equal(status(alice.try_register()), "200", "a unit registers its id code")
    equal(status(alice.try_register("+46701", sender="+46701")), "200", "and a name of its own")
    equal(status(thief.try_register("alice")), "403", "another unit's To")
    equal(status(thief.try_register("alice", sender="alice")), "403", "another unit's To and From")
    equal(status(thief.try_register(sender="alice")), "403", "another unit's From")
    equal(status(thief.try_register("%61lice", sender="%61lice")), "403", "the same, escaped")
    equal(status(thief.try_register("Alice", sender="Alice")), "403", "the same in another case")
    bob = stand.agent("bob", PHONE, 5060).register()
    equal(invite(alice, "bob", "own-1"), "200", "a unit calls under its id code")
    equal(invite(alice, "bob", "own-2", sender="+46701"), "200", "and under its name")
    equal(invite(thief, "bob", "own-3", sender="alice"), "403", "another unit's name in an INVITE")
    nobody = stand.agent("nobody", UNIT2, 5062, enrolled=False)
    equal(invite(nobody, "bob", "own-4"), "403", "a name that is nobody's")
    equal(len(bob.asked("INVITE", "own-3") + bob.asked("INVITE", "own-4")), 0, "INVITEs under others' names that reached the callee")
    return alice, bob


def digest(stand, alice):
    guest = stand.agent("guest", PHONE, 5070, enrolled=False)
    equal(status(guest.try_register()), "401", "REGISTER without digest")
    equal(invite(guest, "alice", "digest-1"), "407", "INVITE without digest")
    wrong = stand.agent("carol", PHONE, 5072)
    wrong.password = "wrong"
    equal(status(wrong.try_register()), "401", "a wrong password")
    carol = stand.agent("carol", PHONE, 5074)
    equal(status(carol.try_register("bob")), "403", "another's To under her own digest")
    equal(invite(carol, "alice", "digest-2", sender="bob"), "403", "another's From under her own digest")
    equal(invite(carol, "alice", "digest-3"), "200", "her own")
    for name in ("alice", "+46701"):
        equal(status(stand.agent(name, PHONE, 5076 + len(name)).try_register()), "403", f"a user of the core side named as a unit: {name}")
    equal(status(stand.agent("carol", PHONE, 5074 + 2).try_register()), "200", "the same user from another port takes its old place")
    trunk = stand.agent("+49301234", TRUNK, 5060, enrolled=False)
    equal(invite(trunk, "alice", "trunk-1"), "407", "a trunk that nobody trusts")
    stand.sip.peer("198.51.100.16/28")
    equal(invite(trunk, "alice", "trunk-2"), "200", "trusted by its address")
    equal(status(trunk.try_register("alice", sender="alice")), "401", "a peer does not register")
    listed = stand.sip.ctl("user", "list")
    check("carol" in listed and "pw-" not in listed, f"users are listed, without a secret: {listed}")
    users = stand.sip.tables / "subscriber"
    equal(oct(os.stat(users).st_mode & 0o777), "0o640", "mode of the table with HA1")
    check("pw-carol" not in users.read_text(), "no password in it")
    stand.sip.ctl("user", "remove", "carol")
    equal(status(stand.agent("carol", PHONE, 5078, enrolled=False).try_register()), "401", "a user that was removed")
    return carol


def uncounted_digest(stand):
    """One without qop could be used again by whoever saw it."""
    grace = stand.agent("grace", PHONE, 5092)
    password, grace.password = grace.password, None

    def md5(text):
        return hashlib.md5(text.encode()).hexdigest()

    asked = dict(re.findall(r'(\w+)="([^"]*)"', sip.header(grace.request("INVITE", f"sip:alice@{CORE}", "<sip:alice@x>", "count-1", 1), "Proxy-Authenticate")))
    equal(asked.get("qop"), "auth", "what is asked for")
    ha1, ha2 = md5(f"grace:{asked['realm']}:{password}"), md5(f"INVITE:sip:alice@{CORE}")
    said = (f'Proxy-Authorization: Digest username="grace", realm="{asked["realm"]}", nonce="{asked["nonce"]}", uri="sip:alice@{CORE}", '
            f'response="{md5(ha1 + ":" + asked["nonce"] + ":" + ha2)}"')
    for more in ("", ', opaque="a, qop=auth"'):
        equal(invite(grace, "alice", f"count-2{len(more)}", extra=(said + more,)), "407", f"a digest without qop {more}")


def stray_reply(stand, alice, bob):
    """What nobody waits for is not sent on to where its Via says."""
    text = (f"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP {CORE}:5060;branch=z9hG4bKx\r\nVia: SIP/2.0/UDP {UNIT}:5060;branch=z9hG4bKy\r\n"
            "From: <sip:alice@x>;tag=1\r\nTo: <sip:x@x>;tag=2\r\nCall-ID: stray\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n")
    bob.socket.sendto(text.encode(), (CORE, 5060))
    time.sleep(0.3)
    equal(alice.replies("stray", "1 INVITE"), [], "replies to nothing that reached a unit")


def contacts(stand, alice):
    dave = stand.agent("dave", PHONE, 5080)
    for contact in (f"<sip:dave@{TRUNK}:5060>", f"<sip:dave@{UNIT}:5060>", "<sip:dave@pbx.example.com>", f"<sip:dave@{CORE}>",
                    f"<sip:dave@{PHONE}:5080>, <sip:dave@{TRUNK}:5060>", f"<sip:dave@{PHONE}:5080>\r\nContact: <sip:dave@{TRUNK}:5060>"):
        equal(status(dave.try_register(extra=(f"Contact: {contact}",))), "403", f"REGISTER with Contact {contact}")
    equal(invite(dave, "alice", "contact-1", extra=(f"Contact: <sip:dave@{UNIT2}:5060>",)), "403", "INVITE with a foreign Contact")
    equal(status(alice.try_register(extra=(f"Contact: <sip:alice@{PHONE}:5060>",))), "403", "a unit's foreign Contact")
    equal(status(alice.try_register(extra=(f"Contact: <sip:alice@{UNIT2}:5060>",))), "403", "another unit's address as Contact")
    for more in (", <tel:1>", ", <mailto:a@b>", f";received=\"sip:{TRUNK}:5060\""):
        equal(status(dave.try_register(extra=(f"Contact: <sip:dave@{PHONE}:5080>{more}",))), "403", f"REGISTER with {more} beside his own Contact")
    for more in (f"alias={TRUNK}~5060~1", f"maddr={TRUNK}", f"transport=udp;alias={TRUNK}~5060~1"):
        equal(status(dave.try_register(extra=(f"Contact: <sip:dave@{PHONE}:5080;{more}>",))), "403", f"REGISTER with {more} in his Contact")
    rich = f'"Dave, <sip:x>" <sip:dave@{PHONE}:5080>;+sip.instance="<urn:uuid:0, 1>";q=0.5'
    equal(status(dave.try_register(extra=(f"Contact: {rich}",))), "200", "his own with a name in quotes and an instance")
    equal(status(dave.try_register()), "200", "his own")


def no_dialogue(stand, alice, bob):
    """A To tag and a Route do not get around the credentials."""
    eve = stand.agent("eve", PHONE, 5090, enrolled=False)
    for route in (f"<sip:{CORE};lr>", f"<sip:{CORE};lr;ftag=eve;tb={'0' * 32};tm={'0' * 64}>", f"<sip:{INNER};lr;r2=on>, <sip:{CORE};lr;r2=on>"):
        for target in (f"sip:alice@{UNIT}:5060", f"sip:bob@{PHONE}:5060"):
            reply = eve.request("INVITE", target, "<sip:alice@x>;tag=a", "no-dialogue", 1, routes=(route,), body=eve.sdp)
            equal(status(reply), "403", f"INVITE to {target} by Route {route}")
    equal(len(alice.asked("INVITE", "no-dialogue") + bob.asked("INVITE", "no-dialogue")), 0, "INVITEs that got through")
    # The mark of one's own dialogue is none in another.
    own = bob.invite("alice", "marked")
    reply = eve.request("INVITE", f"sip:alice@{UNIT}:5060", "<sip:alice@x>;tag=a", "other-call", 1, routes=own.routes, body=eve.sdp)
    equal(status(reply), "403", "a mark of another call")
    # Nor is it a way to elsewhere, or under another name.
    for target, routes in ((f"sip:x@{OTHER}:5060", own.routes), (f"sip:mallory@{UNIT2}:5060", own.routes),
                           (own.target, [*own.routes, f"<sip:{OTHER};lr>"]), (f"{own.target};alias={OTHER}~5060~1", own.routes)):
        reply = bob.request("MESSAGE", target, own.to, "marked", 9, routes=routes)
        equal(status(reply), "403", f"by a mark of one's own to {target} and {routes[-1]}")
    equal(status(bob.request("MESSAGE", own.target, own.to, "marked", 10, routes=own.routes, sender="carol")), "403", "under another's name")
    equal(status(bob.request("MESSAGE", own.target, own.to, "marked", 11, routes=own.routes)), "200", "under his own")
    check(" 200 " in own.bye(), "its own BYE")


def long_call_id(stand, alice, bob):
    stand.ng.requests.clear()
    equal(invite(bob, "alice", "c" * 20000), "400", "a Call-ID of 20,000 octets")
    equal(invite(alice, "bob", "d" * 300), "400", "a Call-ID of 300 octets")
    equal(stand.ng.requests, [], "what call control was asked")
    equal(len(alice.asked("INVITE", "c" * 20000)), 0, "INVITEs at the callee")


def no_way(stand, alice, bob):
    """A call that cannot be sent on leaves nothing at call control."""
    stand.ng.requests.clear()
    for uri in ("sip:x@127.0.0.1:2223", "sip:x@[::1]:5060", "tel:+4670", "sip:x@224.0.0.1"):
        reply = alice.request("INVITE", uri, f"<{uri}>", f"no-way-{uri}", 1, body=alice.sdp)
        equal(status(reply), "480", f"INVITE {uri}")
    wait_until(lambda: stand.ng.calls == set(), "no call is left", 5)
    hidden = ("Record-Route: <sip:192.0.2.77;lr>", "P-Preferred-Identity: <sip:bob@x>", "p-asserted-identity :\r\n <sip:bob@x>")
    equal(invite(alice, "bob", "said-1", extra=hidden), "200", "an INVITE that says more")
    text = bob.asked("INVITE", "said-1")[0]
    check("192.0.2.77" not in text and "sip:bob@x" not in text, f"a phone's Record-Route and its word on who it is do not go on: {text}")


def others_cancel(stand, alice, bob):
    """Who knows an INVITE's Via does not end it from elsewhere."""
    bob.on_request = lambda agent, text: text.startswith("INVITE ") and not agent.respond(text, "180 Ringing")
    calling = threading.Thread(target=lambda: alice.request("INVITE", f"sip:bob@{INNER}", f"<sip:bob@{INNER}>", "ringing", 1, body=alice.sdp))
    calling.start()
    seen = wait_until(lambda: bob.asked("INVITE", "ringing"), "bob rings", 10)[0]
    branch = re.search(rf"{UNIT}:5060;.*?branch=([^;\s]+)", seen)[1]
    cancel = (f"CANCEL sip:bob@{INNER} SIP/2.0\r\nVia: SIP/2.0/UDP {UNIT}:5060;branch={branch}\r\nMax-Forwards: 70\r\n"
              f"From: <sip:alice@{INNER}>;tag=alice\r\nTo: <sip:bob@{INNER}>\r\nCall-ID: ringing\r\nCSeq: 1 CANCEL\r\nContent-Length: 0\r\n\r\n")
    thief = stand.agent("thief", UNIT2, 5068, enrolled=False)
    thief.socket.sendto(cancel.encode(), (INNER, 5060))
    time.sleep(0.5)
    equal(bob.asked("CANCEL", "ringing"), [], "CANCELs from another unit that got through")
    alice.socket.sendto(cancel.encode(), (INNER, 5060))
    wait_until(lambda: bob.asked("CANCEL", "ringing"), "the caller's own gets through", 10)
    bob.respond(seen, "487 Request Terminated")
    calling.join()
    bob.on_request = None


def flood(stand, alice):
    """A stranger that asks too often is not answered; others are."""
    rude = stand.agent("rude", OTHER, 5060, enrolled=False)
    other = stand.agent("other", TRUNK, 5066, enrolled=False)
    text = ("{method} sip:x SIP/2.0\r\nVia: SIP/2.0/UDP {at}:5060;branch=z9hG4bK{n}\r\nMax-Forwards: 70\r\n"
            "From: <sip:rude@x>;tag=1\r\nTo: <sip:rude@x>{tag}\r\nCall-ID: {n}\r\nCSeq: 1 {method}\r\nContact: <sip:rude@{at}>\r\n"
            "Route: <sip:" + CORE + ";lr>\r\nContent-Length: 0\r\n\r\n")
    for agent, method, tag in ((rude, "REGISTER", ""), (other, "BYE", ";tag=2")):
        def blocked():
            for n in range(2000):
                agent.socket.sendto(text.format(n=n, at=agent.address, method=method, tag=tag).encode(), (CORE, 5060))
            return f"BLOCKing ip {agent.address}" in stand.kamailio.log()

        wait_until(blocked, f"who floods with {method} is left without answers", 40)
    frank = stand.agent("frank", PHONE, 5088)
    equal((status(frank.try_register()), invite(frank, "alice", "beside-1")), ("200", "200"), "beside the flood")


def test(t):
    stand = SipStand(t)
    alice, bob = own_names(stand)
    t.say("inner side: a unit's own names alone")
    digest(stand, alice)
    t.say("core side: digest, or a trusted peer")
    uncounted_digest(stand)
    stray_reply(stand, alice, bob)
    contacts(stand, alice)
    no_dialogue(stand, alice, bob)
    long_call_id(stand, alice, bob)
    no_way(stand, alice, bob)
    others_cancel(stand, alice, bob)
    flood(stand, alice)
    equal(stand.ng.calls, set(), "calls left at call control")


main(test, "Kamailio: names, digest, peers, Contacts; a stranger gets nothing")
