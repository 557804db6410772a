#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""Calls of one gateway that name each other's ports: joined by a PBX that stays out of the media's way; one call that comes by twice
(loop-protect); a ring of ports, in which packets do not go round for ever; two phones behind one agent, one of which holds by c=0.0.0.0."""
import socket
import struct
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import check, main, wait_until
from socket_phones import COUNT, Lab, rtp, sdp, where

def spoofed(payload, source, to):
    """An IPv4 datagram as its sender would not make it."""
    udp = struct.pack("!HHHH", source[1], to[1], 8 + len(payload), 0) + payload
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, socket.inet_aton(source[0]),
                       socket.inet_aton(to[0])) + udp


def joined(t, lab):
    a, b = lab.phone(), lab.phone()
    o1 = lab.ok("offer", "first", sdp(*a.getsockname()))
    o2 = lab.ok("offer", "second", o1)
    r2 = lab.ok("answer", "second", sdp(*b.getsockname()), to_tag="b")
    r1 = lab.ok("answer", "first", r2, to_tag="p")
    lab.talk(a, where(r1), b, where(o2), "packets from one call to the other")
    for call in ("first", "second"):
        lab.client.request({"command": "delete", "call-id": call, "from-tag": "a"})
    t.say("two calls joined beside their media: all packets pass")


def twice(t, lab):
    a, b, flags = lab.phone(), lab.phone(), {"flags": ["loop-protect"]}
    o1 = lab.ok("offer", "twice", sdp(*a.getsockname()), **flags)
    o2 = lab.ok("offer", "twice", o1, **flags)
    r2 = lab.ok("answer", "twice", sdp(*b.getsockname()), to_tag="b", **flags)
    r1 = lab.ok("answer", "twice", r2, to_tag="b", **flags)
    check("a=tandem:" in o1 and o1 == o2 and r1 == r2, "what comes again goes on as it is, under a mark")
    lab.talk(a, where(r1), b, where(o2), "packets of the call that comes by twice")
    lab.client.request({"command": "delete", "call-id": "twice", "from-tag": "a"})


def ring(t, lab):
    a, b = lab.phone(), lab.phone()
    there = where(lab.ok("offer", "ring", sdp(*a.getsockname())))
    here = where(lab.ok("answer", "ring", sdp(*b.getsockname()), to_tag="b"))
    lab.ok("offer", "ring", sdp(*there), to_tag="b")  # each leg's peer is the other leg's port
    lab.ok("answer", "ring", sdp(*here), to_tag="b")
    raw = netns.inside(lab.net.core.name, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW))
    for n in range(COUNT):
        raw.sendto(spoofed(rtp(n, 0xc), there, here), (here[0], 0))
    wait_until(lambda: lab.gw.ctl.drops().get("circulates") == COUNT, "packets in a ring are dropped under their name", 5)
    time.sleep(0.5)
    turned = lab.gw.ctl.totals()["turned_back"]
    lab.client.request({"command": "delete", "call-id": "ring", "from-tag": "a"})
    t.say(f"a ring: {COUNT} packets in, each dropped after 8 turns; {turned} turns since the start")


def one_unit(t, lab):
    inner = t.agent(lab.net.ue, lab.gw, "alice").inner()
    a, b = (lab.phone(lab.net.ue, inner) for _ in (0, 1))
    keys = {"metadata": "caller=alice;callee=alice", "received_from": ["IP4", inner]}
    there = where(lab.ok("offer", "house", sdp(*a.getsockname()), **keys))
    here = where(lab.ok("answer", "house", sdp(*b.getsockname()), to_tag="b", **keys))
    time.sleep(0.5)
    lab.talk(a, here, b, there, "packets between two phones of one unit")
    lab.ok("offer", "house", sdp("0.0.0.0", a.getsockname()[1]), to_tag="b", **keys)
    lab.ok("answer", "house", sdp(*b.getsockname(), way="recvonly"), to_tag="b", **keys)
    lab.talk(a, here, b, there, "packets while a holds by its address", [COUNT, 0])
    lab.ok("offer", "house", sdp(*a.getsockname()), to_tag="b", **keys)
    lab.ok("answer", "house", sdp(*b.getsockname()), to_tag="b", **keys)
    lab.talk(a, here, b, there, "packets afterwards")
    t.say("two phones behind one agent hear each other, hold and go on")


def test(t):
    lab = Lab(t)
    joined(t, lab)
    twice(t, lab)
    ring(t, lab)
    one_unit(t, lab)


main(test, "joined_calls: calls that name the gateway's own ports")
