# SPDX-License-Identifier: Apache-2.0
"""Frames that a flood is made of, as bytes for tandem-load's --frames: to a gateway's media address on its access side."""

import json
import socket
import struct

from load import FIRST_PORT

HANDSHAKE_PORT = 4433


def mac(space, interface):
    return bytes.fromhex(json.loads(space.ip("-j", "link", "show", "dev", interface))[0]["address"].replace(":", ""))


def _sum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def ipv4(source, destination, protocol, body, total=None, flags=0x4000, ihl=5):
    head = struct.pack("!BBHHHBBH4s4s", 0x40 | ihl, 0, total or 20 + len(body), 0, flags, 64, protocol, 0, socket.inet_aton(source),
                       socket.inet_aton(destination))
    return head[:10] + struct.pack("!H", _sum(head)) + head[12:] + body


def udp(sport, dport, body=b"\x80" + bytes(171), length=None):
    return struct.pack("!HHHH", sport, dport, length if length is not None else 8 + len(body), 0) + body


class _Link:
    def __init__(self, net):
        self.head = mac(net.gw, "acc0") + mac(net.ue, "ue0") + b"\x08\0"
        self.source, self.to = net.ue_address, net.access

    def frame(self, ip):
        return self.head + ip


def closed_ports(net, count=64):
    """UDP to ports of the media address where no flow is open."""
    link = _Link(net)
    return [link.frame(ipv4(link.source, link.to, 17, udp(9000 + i, 60000 + i))) for i in range(count)]


def malformed(net, port=FIRST_PORT):
    """To a live port, wrong in turn: UDP length beyond the frame, UDP length too small, a fragment, an IP header that is too short."""
    link = _Link(net)
    return [link.frame(ip) for ip in (
        ipv4(link.source, link.to, 17, udp(9000, port, length=2000)), ipv4(link.source, link.to, 17, udp(9000, port, length=3)),
        ipv4(link.source, link.to, 17, udp(9000, port), flags=0x2000), ipv4(link.source, link.to, 17, udp(9000, port), ihl=4))]


MALFORMED = ("edge_bad_udp", "edge_bad_udp", "edge_fragment", "edge_bad_ip")  # what each is counted as


def syn_flood(net, count=256, port=HANDSHAKE_PORT, spread=False):
    """TCP SYNs to the tunnel port from many ports of one source, or (spread) from a /24 each that nobody has seen."""
    link = _Link(net)
    frames = []
    for i in range(count):
        source = f"{11 + i % 80}.{i * 7 % 251}.{i // 80 % 256}.{1 + i % 254}" if spread else link.source
        head = struct.pack("!HHIIBBHHH", 10000 + i, port, 1, 0, 0x50, 2, 65535, 0, 0)
        pseudo = socket.inet_aton(source) + socket.inet_aton(link.to) + struct.pack("!BBH", 0, 6, len(head))
        frames.append(link.frame(ipv4(source, link.to, 6, head[:16] + struct.pack("!H", _sum(pseudo + head)) + head[18:])))
    return frames
