#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 90
"""An attacker on an access wire makes frames as he likes to reach the inner network: with IP options and source routes, in fragments, in
IPv6 extension headers, in tunnels (IP in IP, GRE), in one VLAN tag and in two, to broadcast and multicast, from the inner network's own
addresses, by ARP and by ICMP redirects. No socket of the gateway's hears them, nothing of them goes into a tunnel, and nobody answers."""
import json
import select
import socket
import struct
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from frames import _sum, ipv4, mac, udp
from harness import check, equal, main, wait_until

INNER, INNER6 = "10.64.0.1", "fd64::1"
MARK = b"tandem-stranger"


def address(text):
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def options4(source, to, options, protocol=17, body=None):
    """IPv4 with options, padded."""
    options += bytes(-len(options) % 4)
    body = body or udp(9000, 5060, MARK)
    head = struct.pack("!BBHHHBBH4s4s", 0x40 | (5 + len(options) // 4), 0, 20 + len(options) + len(body), 0, 0, 64, protocol, 0,
                       address(source), address(to)) + options
    return head[:10] + struct.pack("!H", _sum(head)) + head[12:] + body


def udp6(source, to):
    body = struct.pack("!HHHH", 9000, 5060, 8 + len(MARK), 0) + MARK
    pseudo = address(source) + address(to) + struct.pack("!II", len(body), 17)
    return body[:6] + struct.pack("!H", _sum(pseudo + body) or 0xffff) + body[8:]


def ipv6(source, to, chain=(), final=None, last=17, body=None):
    """chain: (number of a header, its bytes after next-header), in order; final: the address that UDP's checksum is of."""
    payload = body if body is not None else udp6(source, final or to)
    following = last
    for number, rest in reversed(chain):
        payload, following = bytes([following]) + rest + payload, number
    return struct.pack("!IHBB", 6 << 28, len(payload), following, 64) + address(source) + address(to) + payload


def attacks(net):
    """(what, ethertype and what follows, to whom on the link or None: to the gateway)"""
    me, gateway, me6, gateway6 = net.ue2_address, "192.0.2.129", "2001:db8:9::10", "2001:db8:9::1"
    plain = ipv4(me, INNER, 17, udp(9000, 5060, MARK))
    v4, v6 = b"\x08\x00", b"\x86\xdd"
    route = bytes([7, 4]) + address(INNER)
    yield "plain", v4 + plain, None
    yield "plain IPv6", v6 + ipv6(me6, INNER6), None
    yield "to a unit", v4 + ipv4(me, "10.64.0.2", 17, udp(9000, 5060, MARK)), None
    for source in (INNER, "10.64.0.2", "10.64.77.77"):
        yield f"from {source}", v4 + ipv4(source, INNER, 17, udp(9000, 5060, MARK)), None
        yield f"from {source} to the wire's own", v4 + ipv4(source, gateway, 17, udp(9000, 5060, MARK)), None
    for tag in (b"\x81\x00\x00\x00", b"\x81\x00\x00\x07", b"\x81\x00\x60\x00", b"\x88\xa8\x00\x00"):
        yield f"tag {tag.hex()}", tag + v4 + plain, None
        for second in (b"\x81\x00\x00\x00", b"\x81\x00\x00\x05", b"\x88\xa8\x00\x00"):
            yield f"tags {tag.hex()} {second.hex()}", tag + second + v4 + plain, None
            yield f"tags {tag.hex()} {second.hex()}, IPv6", tag + second + v6 + ipv6(me6, INNER6), None
    for options in (b"\x94\x04\x00\x00", b"\x01" * 40, b"\x44\x04\x05\x00", b"\x07\x27\x04" + bytes(36)):
        yield f"options {options[:2].hex()}", v4 + options4(me, INNER, options), None
    for kind in (0x83, 0x89):
        yield f"source route {kind:x}", v4 + options4(me, gateway, bytes([kind, 7, 4]) + address(INNER)), None
        yield f"source route {kind:x}, gone", v4 + options4(me, INNER, bytes([kind, 7, 8]) + address(gateway)), None
    whole = udp(9000, 5060, MARK + bytes(64 - len(MARK)))
    yield "first fragment", v4 + ipv4(me, INNER, 17, whole[:40], flags=0x2000), None
    yield "last fragment", v4 + ipv4(me, INNER, 17, whole[40:], flags=5), None
    for protocol in (4, 47):
        inside = plain if protocol == 4 else b"\0\0\x08\0" + plain
        yield f"in IP protocol {protocol}", v4 + ipv4(me, gateway, protocol, inside), None
        yield f"in IP protocol {protocol}, IPv6", v6 + ipv6(me6, gateway6, last=protocol, body=inside), None
    yield "IPv6 in IPv4", v4 + ipv4(me, gateway, 41, ipv6(me6, INNER6)), None
    yield "IPv6 in IPv6", v6 + ipv6(me6, gateway6, last=41, body=ipv6(me6, INNER6)), None
    pad = (60, bytes([0, 1, 4]) + bytes(4))
    for name, chain in (("hop by hop", [(0, pad[1])]), ("destination options", [pad]), ("seven headers", [pad] * 7),
                        ("fragment", [(44, bytes(7))]), ("first fragment", [(44, b"\0\0\1" + bytes(4))])):
        yield f"IPv6, {name}", v6 + ipv6(me6, INNER6, chain), None
    for kind in (0, 2, 4):
        words = bytes([2, kind, 1]) + bytes(4) + address(INNER6)
        yield f"routing header {kind}", v6 + ipv6(me6, gateway6, [(43, words)], INNER6), None
    yield "mapped", v6 + ipv6(me6, f"::ffff:{INNER}"), None
    for link in (b"\xff" * 6, b"\x01\0\x5e\0\0\1", b"\x33\x33\0\0\0\1"):
        yield f"to {link.hex()} of the link", v4 + plain, link
        yield f"to {link.hex()} of the link, IPv6", v6 + ipv6(me6, INNER6), link
    for to in ("255.255.255.255", "192.0.2.255", "224.0.0.1"):
        yield f"from the inner network to {to}", v4 + ipv4("10.64.0.2", to, 17, udp(9000, 5060, MARK)), b"\xff" * 6
    redirect = struct.pack("!BBH4s", 5, 1, 0, address(me)) + ipv4(gateway, "10.64.0.2", 17, udp(5060, 5060, b""))[:28]
    redirect = redirect[:2] + struct.pack("!H", _sum(redirect)) + redirect[4:]
    yield "ICMP redirect", v4 + ipv4(me, gateway, 1, redirect), None


def of_inner(frame):
    """Whether it is an IP packet from the inner network. An ICMP error of the wire's own address tells nothing of it."""
    return frame[12:14] == b"\x08\x00" and frame[26:28] == address(INNER)[:2] or frame[12:14] == b"\x86\xdd" and frame[22:30] == address(INNER6)[:8]


class Tap:
    """What leaves by an interface (or comes back by it), as frames."""

    def __init__(self, space, interface):
        self.socket = netns.inside(space.name, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
        self.socket.bind((interface, 3))
        self.socket.setblocking(False)

    def frames(self):
        found = []
        while True:
            try:
                found.append(self.socket.recv(65536))
            except BlockingIOError:
                return found


def listener(space, family):
    def make():
        s = socket.socket(family, socket.SOCK_DGRAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind(("", 5060))
        return s
    return netns.inside(space.name, make)


def test(t):
    net = t.network()
    net.gw.address("acc1", "2001:db8:9::1/64")
    net.ue2.address("ue0", "2001:db8:9::10/64")
    gw = t.gateway(net, kamailio=False, inner6="fd64::1/64")
    alice = t.agent(net.ue, gw, "alice")
    for name in ("ipv4.ip_forward", "ipv6.conf.all.forwarding"):
        net.gw.sysctl(f"net.{name}", 1)
    equal(alice.inner(), "10.64.0.2", "the unit's inner address, which the attacker knows")
    ears = [listener(net.gw, socket.AF_INET), listener(net.gw, socket.AF_INET6)]
    tunnel, wire = Tap(net.gw, "tandem0"), Tap(net.ue2, "ue0")
    raw = netns.inside(net.ue2.name, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
    raw.bind(("ue0", 0))
    me, gateway = mac(net.ue2, "ue0"), mac(net.gw, "acc1")

    def heard(patience):
        """The next datagram on any of the gateway's sockets."""
        ready = select.select(ears, [], [], patience)[0]
        return ready[0].recvfrom(2048) if ready else None

    # The way there is open: what goes to the wire's own address is heard.
    raw.send(gateway + me + b"\x08\x00" + ipv4(net.ue2_address, "192.0.2.129", 17, udp(9000, 5060, b"good day")))
    equal(heard(5)[0], b"good day", "a datagram to the gateway's address of the wire")
    tunnel.frames(), wire.frames()

    sent = 0
    for what, frame, link in attacks(net):
        raw.send((link or gateway) + me + frame)
        sent += 1
        equal(heard(0.05), None, f"{what}: what is heard")
    equal(heard(0.5), None, "what is heard later")
    equal([f.hex() for f in tunnel.frames() if MARK in f], [], "what goes into tunnels, or comes out of the TUN")
    equal([f.hex() for f in wire.frames() if f[:6] == me and of_inner(f)], [], "what the attacker hears of the inner network")
    named = gw.ctl.drops().get("edge_inner", 0)
    t.say(f"{sent} frames, {named} of them named edge_inner")

    # Who has the gateway's inner address? Nobody, on a wire; and who says that he has a unit's is not believed.
    def ask(sender, target):
        request = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, me, address(sender), bytes(6), address(target))
        raw.send(b"\xff" * 6 + me + b"\x08\x06" + request)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            if any(f[12:14] == b"\x08\x06" and f[20:22] == b"\0\2" for f in wire.frames()):
                return True
            time.sleep(0.02)
        return False
    check(ask(net.ue2_address, "192.0.2.129"), "the wire's own address is told")
    check(not ask(net.ue2_address, INNER), "the inner address is not")
    check(not ask("10.64.0.2", "192.0.2.129"), "nobody answers an inner address")
    neighbours = [n["dst"] for n in json.loads(net.gw.ip("-j", "neighbour", "show", "dev", "acc1"))]
    check(not any(n.startswith("10.64.") for n in neighbours), f"no neighbour of the inner network on the wire: {neighbours}")
    wait_until(lambda: gw.ctl.drops().get("edge_inner", 0) >= named + 2, "both are named", 5)
    check(alice.status()["primary"]["up"], "the unit is up")


main(test, "no frame on a wire is of the inner network")
