# SPDX-License-Identifier: Apache-2.0
"""Two small RTP phones without SIP: one on a unit's TUN, one in the core, joined through ng. Faster and more exact than a phone
where a test is about media: 50 packets a second each way, numbered, and what came is told by number."""

import random
import socket
import struct
import threading
import time

import netns
from ng import Client
from peer import sdp


class RtpPhone:
    """Sends RTP (PCMU) to `remote` every 20 ms and records what comes: received = [(time, sequence)]."""

    def __init__(self, space, address, seed=1, first_sequence=None):
        self.address = address
        self.socket = netns.inside(space.name, lambda: self._open(address))
        self.port = self.socket.getsockname()[1]
        chance = random.Random(seed)
        self.ssrc = chance.getrandbits(32)
        self.sequence = chance.getrandbits(15) if first_sequence is None else first_sequence
        self.timestamp = chance.getrandbits(32)
        self.payload = bytes(chance.getrandbits(8) for _ in range(160))
        self.sent, self.received, self.rtcp = [], [], 0
        self.remote, self.sending, self._stop = None, False, threading.Event()
        for body in (self._receive, self._send):
            threading.Thread(target=body, daemon=True).start()

    @staticmethod
    def _open(address):
        s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        for _ in range(50):  # even ports, as SDP wants them
            s.bind((address, 0))
            if s.getsockname()[1] % 2 == 0:
                return s
            s.close()
            s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        return s

    def start(self, remote):
        self.remote, self.sending = remote, True

    def pause(self):
        self.sending = False

    def close(self):
        self._stop.set()
        self.socket.close()

    def _send(self):
        due = time.monotonic()
        while not self._stop.is_set():
            due += 0.02
            time.sleep(max(0.0, due - time.monotonic()))
            if not self.sending:
                continue
            header = struct.pack("!BBHII", 0x80, 0, self.sequence & 0xffff, self.timestamp & 0xffffffff, self.ssrc)
            try:
                self.socket.sendto(header + self.payload, self.remote)
            except OSError:
                continue
            self.sent.append((time.monotonic(), self.sequence & 0xffff))
            self.sequence += 1
            self.timestamp += 160

    def _receive(self):
        while not self._stop.is_set():
            try:
                data, _ = self.socket.recvfrom(2048)
            except OSError:
                return
            if len(data) >= 12 and not 192 <= data[1] <= 223:
                self.received.append((time.monotonic(), struct.unpack_from("!H", data, 2)[0]))
            else:
                self.rtcp += 1

    def heard_since(self, moment):
        return [s for when, s in self.received if when >= moment]

    def longest_gap(self, begin, end):
        """Longest silence in seconds of what it heard between two moments."""
        return longest_gap(self.received, begin, end)

    def longest_pause(self, begin, end):
        """Of what it sent: its own, on a busy machine."""
        return longest_gap(self.sent, begin, end)


def longest_gap(packets, begin, end):
    times = [begin] + [when for when, _ in packets if begin <= when <= end] + [end]
    return max(b - a for a, b in zip(times, times[1:]))


def sdp_port(text):
    """(address, port) of the first media line."""
    address = next(line.split()[-1] for line in text.splitlines() if line.startswith("c="))
    port = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("m="))
    return address, port


class Call:
    """A unit's phone and a core phone in a call made by ng offer and answer; media run from the start."""

    def __init__(self, gw, unit_space, unit_address, core_space, core_address, call_id="c1", caller="alice", callee="bob",
                 first_sequence=None, start=True, metadata=""):
        self.gw, self.call_id = gw, call_id
        self.unit = RtpPhone(unit_space, unit_address, seed=11, first_sequence=first_sequence)
        self.core = RtpPhone(core_space, core_address, seed=12, first_sequence=first_sequence)
        self.ng = netns.inside(gw.netns.name, Client)
        offer = self.command("offer", sdp=sdp(unit_address, self.unit.port), metadata=f"caller={caller};callee={callee};{metadata}")
        answer = self.command("answer", to_tag="b", sdp=sdp(core_address, self.core.port))
        self.towards_core, self.towards_unit = sdp_port(offer["sdp"]), sdp_port(answer["sdp"])
        if start:
            self.start()

    def command(self, name, **keys):
        reply = self.ng.command(name, call_id=self.call_id, from_tag="a", **keys)
        if reply.get("result") != "ok":
            raise RuntimeError(f"ng {name} is refused: {reply}")
        return reply

    def start(self):
        self.unit.start(self.towards_unit)
        self.core.start(self.towards_core)

    def media(self):
        """The control plane's view; None once it is over."""
        return next((m for m in self.gw.ctl.media() if m["call_id"] == self.call_id), None)

    def leg(self, kind="unit"):
        return next(leg for leg in self.media()["legs"] if leg["kind"] == kind)

    def hang_up(self):
        self.unit.pause()
        self.core.pause()
        return self.command("delete")

    def close(self):
        self.unit.close()
        self.core.close()
