# SPDX-License-Identifier: Apache-2.0
"""Captures frames on an interface of a namespace (AF_PACKET), writes them as pcap, and reads their headers."""

import ipaddress
import socket
import struct
import threading
import time

from netns import inside

ETH_P_ALL = 3
SO_TIMESTAMPNS = 35


class Frame:
    """One captured frame: `l3` is "ipv4", "ipv6", "arp" or "other"; addresses are strings; payload is that of UDP or TCP."""

    __slots__ = ("time", "data", "l3", "src", "dst", "protocol", "sport", "dport", "payload", "tcp_flags", "outgoing",
                 "dscp", "fragment")

    def __init__(self, when, data, outgoing=None):
        self.time, self.data, self.outgoing = when, data, outgoing
        self.l3, self.src, self.dst, self.protocol = "other", None, None, None
        self.sport = self.dport = self.tcp_flags = self.dscp = None
        self.payload, self.fragment = b"", False
        self._parse()

    def _parse(self):
        data, at = self.data, 14
        if len(data) < 14:
            return
        kind = struct.unpack_from("!H", data, 12)[0]
        if kind == 0x8100 and len(data) >= 18:
            kind, at = struct.unpack_from("!H", data, 16)[0], 18
        if kind == 0x0806:
            self.l3 = "arp"
        elif kind == 0x0800 and len(data) >= at + 20:
            self.l3 = "ipv4"
            header = (data[at] & 15) * 4
            total, flags = struct.unpack_from("!H", data, at + 2)[0], struct.unpack_from("!H", data, at + 6)[0]
            self.fragment = bool(flags & 0x3fff)
            self.dscp, self.protocol = data[at + 1] >> 2, data[at + 9]
            self.src, self.dst = socket.inet_ntoa(data[at + 12:at + 16]), socket.inet_ntoa(data[at + 16:at + 20])
            self._transport(data[at + header:at + total])
        elif kind == 0x86dd and len(data) >= at + 40:
            self.l3 = "ipv6"
            length, self.protocol = struct.unpack_from("!HB", data, at + 4)
            self.dscp = (struct.unpack_from("!H", data, at)[0] >> 6) & 63
            self.src = str(ipaddress.IPv6Address(data[at + 8:at + 24]))
            self.dst = str(ipaddress.IPv6Address(data[at + 24:at + 40]))
            body = data[at + 40:at + 40 + length]
            if self.protocol == 0 and len(body) >= 8:  # hop-by-hop options, as multicast listener reports have them
                self.protocol, body = body[0], body[8 + 8 * body[1]:]
            self._transport(body)

    def _transport(self, data):
        if self.protocol == 17 and len(data) >= 8:
            self.sport, self.dport, length = struct.unpack_from("!HHH", data)
            self.payload = data[8:length]
        elif self.protocol == 6 and len(data) >= 20:
            self.sport, self.dport = struct.unpack_from("!HH", data)
            self.tcp_flags = data[13]
            self.payload = data[(data[12] >> 4) * 4:]

    @property
    def is_udp(self):
        return self.protocol == 17

    @property
    def is_tcp(self):
        return self.protocol == 6


class Rtp:
    """RTP's fixed header (RFC 3550 5.1) of a UDP payload; of SRTP it is readable too. None-like (falsy) where it is not RTP."""

    def __init__(self, payload):
        self.ok = False
        if len(payload) < 12 or payload[0] >> 6 != 2:
            return
        if 192 <= payload[1] <= 223:  # RTCP where both are muxed (RFC 5761 4)
            return
        self.cc, self.marker, self.type = payload[0] & 15, payload[1] >> 7, payload[1] & 127
        self.sequence, self.timestamp, self.ssrc = struct.unpack_from("!HII", payload, 2)
        header = 12 + 4 * self.cc
        if payload[0] & 16:
            if len(payload) < header + 4:
                return
            header += 4 + 4 * struct.unpack_from("!H", payload, header + 2)[0]
        if len(payload) < header:
            return
        self.header, self.body, self.ok = header, payload[header:], True

    def __bool__(self):
        return self.ok


def is_rtcp(payload):
    return len(payload) >= 8 and payload[0] >> 6 == 2 and 192 <= payload[1] <= 223


class Capture:
    """Captures in a thread until stop(); both ways of the interface are seen once each."""

    def __init__(self, netns, interface, pcap=None):
        name = getattr(netns, "name", netns)

        def make():
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)  # hears nothing yet: with a protocol it would hear every interface until bound
            s.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
            s.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            s.bind((interface, ETH_P_ALL))
            s.settimeout(0.2)
            return s

        self._socket = inside(name, make)
        self._raw, self._stop, self.path = [], threading.Event(), pcap
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            try:
                data, ancillary, _, address = self._socket.recvmsg(65535, 64)
            except socket.timeout:
                if self._stop.is_set():
                    return
                continue
            except OSError:
                return  # the namespace is gone
            when = time.time_ns()
            for level, kind, value in ancillary:
                if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                    seconds, nanoseconds = struct.unpack("qq", value[:16])
                    when = seconds * 1_000_000_000 + nanoseconds
            if address[3] == 65534:  # ARPHRD_NONE: a TUN device has no link header; it gets an empty one
                data = bytes(12) + struct.pack("!H", 0x86dd if data[:1] and data[0] >> 4 == 6 else 0x0800) + data
            self._raw.append((when, data, address[2] == 4))  # PACKET_OUTGOING
            if self._stop.is_set() and when > self._end:
                return

    def dropped(self):
        """Frames that the kernel could not keep for us: must be 0 for a count to mean anything."""
        statistics = self._socket.getsockopt(263, 6, 8)  # SOL_PACKET, PACKET_STATISTICS
        return struct.unpack("II", statistics)[1]

    def frames(self):
        return [Frame(*raw) for raw in list(self._raw)]

    def stop(self):
        """Ends it; returns the frames, and writes the pcap where a path was given."""
        if not self._stop.is_set():
            self._end = time.time_ns()
            self._stop.set()
            self._thread.join(5)
            self.lost = self.dropped()
            self._socket.close()
            if self.path:
                write_pcap(self.path, self._raw)
        return self.frames()


def write_pcap(path, frames):
    with open(path, "wb") as f:
        f.write(struct.pack("=IHHiIII", 0xa1b23c4d, 2, 4, 0, 0, 65535, 1))
        for when, data, *_ in frames:
            f.write(struct.pack("=IIII", when // 1_000_000_000, when % 1_000_000_000, len(data), len(data)) + data)


def read_pcap(path):
    """[Frame] of a little- or big-endian pcap in micro- or nanoseconds (tcpdump's or ours)."""
    with open(path, "rb") as f:
        data = f.read()
    order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    scale = 1 if struct.unpack(order + "I", data[:4])[0] == 0xa1b23c4d else 1000
    frames, at = [], 24
    while at + 16 <= len(data):
        seconds, fraction, length, _ = struct.unpack_from(order + "IIII", data, at)
        frames.append(Frame(seconds * 1_000_000_000 + fraction * scale, data[at + 16:at + 16 + length]))
        at += 16 + length
    return frames
