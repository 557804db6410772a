#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 60
"""Injected frames that are no media, though their addresses and ports are: of a VLAN that is not the address's, at the end of their TTL,
with a wrong UDP checksum (verify_checksum). Each is dropped by its name. What is forwarded leaves with one hop less, so that two
gateways that name each other's ports do not keep a packet for ever."""
import socket
import struct
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from flows import Dataplane
from frames import _sum, mac
from harness import equal, main, wait_until


def ip_frame(net, to, sport, dport, body, ttl=64, tag=None, checksum=True):
    """Ethernet [802.1Q] IPv4 UDP from the phone in the core."""
    source, target = socket.inet_aton(net.bob_address), socket.inet_aton(to)
    udp = struct.pack("!HHHH", sport, dport, 8 + len(body), 0) + body
    value = _sum(source + target + struct.pack("!BBH", 0, 17, len(udp)) + udp) or 0xffff
    udp = udp[:6] + struct.pack("!H", value if checksum else value ^ 0x55) + udp[8:]
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0x4000, ttl, 17, 0, source, target)
    head = head[:10] + struct.pack("!H", _sum(head)) + head[12:]
    link = mac(net.gw, "core0") + mac(net.core, "core0")
    return link + (b"" if tag is None else struct.pack("!HH", 0x8100, tag)) + b"\x08\0" + head + udp


def test(t):
    net = t.network(ue2=False)
    dp = Dataplane(t, net, port_keys={"verify_checksum": True}).start()
    c = dp.contract()
    c("hello")
    phone, unit = f"{net.bob_address}:6000", f"{net.ue_address}:7000"
    c.all_ok("add", flows=[
        {"id": "core:5000", "reverse": "access:4000", "in": "RTP", "out": "RTP", "source": "signalled", "signalled": phone,
         "rtp_remote": unit, "tag": 1, "timeout": 0},
        {"id": "access:4000", "reverse": "core:5000", "in": "RTP", "out": "RTP", "source": "signalled", "signalled": unit,
         "rtp_remote": phone, "tag": 1, "timeout": 0}])
    ear = netns.inside(net.ue.name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    ear.bind((net.ue_address, 7000))
    ear.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
    wire = netns.inside(net.core.name, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
    wire.bind(("core0", 0))
    sequence = 0

    def send(**how):
        nonlocal sequence
        sequence += 1
        wire.send(ip_frame(net, net.core_address, 6000, 5000, struct.pack("!BBHII", 0x80, 0, sequence, 160 * sequence, 7) + bytes(160), **how))
        return sequence

    def heard(patience):
        """(sequence number, TTL) of the next packet."""
        ear.settimeout(patience)
        try:
            data, extra, _, _ = ear.recvmsg(2048, 64)
        except TimeoutError:
            return None
        return struct.unpack_from("!H", data, 2)[0], struct.unpack("=i", extra[0][2][:4])[0]

    def passes(ttl):
        n = send(ttl=ttl)
        equal(heard(5), (n, ttl - 1), f"what the unit hears of a packet with TTL {ttl}")

    wait_until(lambda: send() and heard(0.3), "the first packet, once the way is known", 10)
    for ttl in (64, 2):
        passes(ttl)
    before = dp.drops()
    for reason, how in (("wrong_vlan", {"tag": 7}), ("hops_over", {"ttl": 1}), ("hops_over", {"ttl": 0}), ("udp_checksum", {"checksum": False})):
        send(**how)
        equal(heard(0.4), None, f"what the unit hears of {how}")
    wait_until(lambda: [dp.drops().get(r, 0) - before.get(r, 0) for r in ("wrong_vlan", "hops_over", "udp_checksum")] == [1, 2, 1],
               "each is named once", 5)
    passes(64)


main(test, "frames of another VLAN, at their last hop or broken are no media")
