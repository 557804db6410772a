# SPDX-License-Identifier: Apache-2.0
"""How long a unit's packets take through its secondary, and the same packets through its primary (RIM-35). They take turns in one call:
each packet carries the time at which it was sent, the kernel stamps it on arrival (SO_TIMESTAMPNS), so no reader has to be quick."""

import random
import socket
import struct
import sys
import time

import netns
from media import sdp_port
from ng import Client
from peer import sdp

_STAMP = 35  # SO_TIMESTAMPNS of 64-bit Linux
UP, DOWN = "unit-core", "core-unit"
SERVER = """
import socket, sys, time
listener = socket.create_server((sys.argv[1], 8080))
print("serving", flush=True)
while True:
    peer, _ = listener.accept()
    try:
        left, rate = map(int, peer.recv(64).split())
        block, due = bytes(16384), time.monotonic()
        while left > 0:
            sent = peer.send(block[:left])
            left -= sent
            if rate:
                due += sent / rate
                time.sleep(max(0.0, due - time.monotonic()))
    except OSError:
        pass
    peer.close()
"""
CLIENT = """
import socket, sys
peer = socket.create_connection((sys.argv[1], 8080), 10)
peer.sendall(sys.argv[2].encode())
got = 0
while part := peer.recv(1 << 20):
    got += len(part)
print("fetched", got, flush=True)
"""


def percentile(values, p):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * p / 100))]


def _open(space, address):
    def make():
        while True:  # an even port, as SDP wants it
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
            s.setsockopt(socket.SOL_SOCKET, _STAMP, 1)
            s.bind((address, 0))
            if s.getsockname()[1] % 2 == 0:
                s.setblocking(False)
                return s
            s.close()
    return netns.inside(space.name, make)


class Ways:
    """A call of the unit with the core, and a plain UDP flow beside it through the tunnel and the gateway's kernel. The agent's routes
    and the gateway's forwarding for the latter are made here."""

    def __init__(self, t, net, gw, agent):
        self.t, self.net, self.gw, self.agent = t, net, gw, agent
        net.ue.ip("route", "add", f"{net.bob_address}/32", "dev", agent.tun)
        net.gw.sysctl("net.ipv4.ip_forward", 1)
        inner = agent.inner()
        self.sockets = {(way, end): _open(space, address) for way in ("secondary", "primary")
                        for end, space, address in (("unit", net.ue, inner), ("core", net.core, net.bob_address))}
        port = {key: s.getsockname()[1] for key, s in self.sockets.items()}
        self.ng = netns.inside(gw.netns.name, Client)
        offer = self.command("offer", sdp=sdp(inner, port["secondary", "unit"]), metadata=f"caller={agent.unit};callee=bob")
        answer = self.command("answer", to_tag="b", sdp=sdp(net.bob_address, port["secondary", "core"]))
        self.target = {("secondary", UP): sdp_port(answer["sdp"]), ("secondary", DOWN): sdp_port(offer["sdp"]),
                       ("primary", UP): (net.bob_address, port["primary", "core"]), ("primary", DOWN): (inner, port["primary", "unit"])}
        chance = random.Random(7)
        self.filler = bytes(chance.getrandbits(8) for _ in range(144))
        self.sequence = 0
        self.server = t.start("bulk-server", [sys.executable, "-c", SERVER, gw.inner], net.gw)
        self.server.wait_for_text("serving")
        self.downloads = 0

    def command(self, name, **keys):
        reply = self.ng.command(name, call_id="latency", from_tag="a", **keys)
        if reply.get("result") != "ok":
            raise RuntimeError(f"ng {name} is refused: {reply}")
        return reply

    def download(self, size, rate=0):
        """Begins to fetch so many bytes through the primary, so many a second (0: as fast as it goes); a process."""
        self.downloads += 1
        return self.t.start(f"bulk-client{self.downloads}", [sys.executable, "-c", CLIENT, self.gw.inner, f"{size} {rate}"], self.net.ue)

    def _send(self, way, direction):
        end = "unit" if direction == UP else "core"
        head = struct.pack("!BBHII", 0x80, 0, self.sequence & 0xffff, 160 * self.sequence & 0xffffffff, 0x1234 if end == "unit" else 0x5678)
        sender, target = self.sockets[way, end], self.target[way, direction]
        try:
            sender.sendto(head + struct.pack("!QQ", self.sequence, time.clock_gettime_ns(time.CLOCK_REALTIME)) + self.filler, target)
        except OSError:
            pass

    def _drain(self, way, end, since):
        took = []
        while True:
            try:
                data, more, _, _ = self.sockets[way, end].recvmsg(2048, 256)
            except BlockingIOError:
                return took
            if len(data) < 28:
                continue
            number, sent = struct.unpack_from("!QQ", data, 12)
            stamps = [struct.unpack("qq", value[:16]) for level, kind, value in more if level == socket.SOL_SOCKET and kind == _STAMP]
            if number >= since and stamps:
                took.append((stamps[0][0] * 1_000_000_000 + stamps[0][1] - sent) / 1000)

    def measure(self, seconds, ways=("secondary", "primary")):
        """{(way, direction): (packets sent, [microseconds of those that came])}: 50 packets a second each, evenly apart."""
        begin, turns = self.sequence, [(w, d) for w in ways for d in (UP, DOWN)]
        due, rounds = time.monotonic(), int(seconds * 50)
        for _ in range(rounds):
            for turn in turns:
                due += 0.02 / len(turns)
                time.sleep(max(0.0, due - time.monotonic()))
                self._send(*turn)
            self.sequence += 1
        time.sleep(0.5)
        return {(w, d): (rounds, self._drain(w, "core" if d == UP else "unit", begin)) for w, d in turns}

    def close(self):
        self.command("delete")
        self.server.stop(5)
        for s in self.sockets.values():
            s.close()
