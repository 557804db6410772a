# SPDX-License-Identifier: Apache-2.0
"""What stands between the two ends, one class each: Tandem's data plane, rtpengine in user space with one worker thread, the
kernel's own forwarding, and nothing. Each tells tandem-load where to send and with which keys, and how much CPU it used."""

import base64
import re
import shutil
from pathlib import Path

import netns
import ng
from frames import mac
from load import CORE_PORT, FIRST_PORT, UNIT_PORT, Pinned, key_lines, load, stream_key
from peer import sdp

LOAD_CPU, RELAY_CPU = 0, 1
MOST = 1_000_000  # packets/s; so many are prepared for a flat-out second


class Relay:
    """trial() sends through it and returns tandem-load's counts; sequence numbers go on from trial to trial."""

    engine = "?"

    def __init__(self, bench, suite, streams, payload=160):
        self.bench, self.net, self.suite, self.streams, self.payload = bench, bench.net, suite, streams, payload
        self.next, self.lost = {"rtp-srtp": 1, "srtp-rtp": 1}, 0
        self.start()

    def ways(self, direction):
        """Arguments and keys for tandem-load."""
        core = (self.net.core.name, f"{self.net.bob_address}:{CORE_PORT}", "core0", "core0")
        unit = (self.net.ue.name, f"{self.net.ue_address}:{UNIT_PORT}", "ue0", "acc0")
        sends, hears = (core, unit) if direction == "rtp-srtp" else (unit, core)
        suites = ["clear", self.suite] if direction == "rtp-srtp" else [self.suite, "clear"]
        return ["--from-netns", sends[0], "--from", sends[1], "--interface", sends[2], "--to-mac", mac(self.net.gw, sends[3]).hex(":"), "--receive-netns",
                hears[0], "--receive", hears[1], "--to",
                self.to(direction), "--suite", suites[0], "--receive-suite", suites[1]]

    def trial(self, direction, rate=None, seconds=1.0, spin=False, verify_every=16, linger=0.15, xdp=False):
        """rate None: flat out."""
        self.revive()
        pace = ["--rate", int(rate or MOST), "--prepare", *([] if rate else ["--flat-out"])]
        if xdp:  # the kernel makes the frames: several times what a socket sends
            pace = ["--rate", int(rate), "--xdp"] if rate else ["--flat-out", "--xdp"]
        elif spin:  # latency: the time of sending is in each packet
            pace = ["--rate", int(rate), "--spin"]
        result = load(*self.ways(direction), *pace, "--seconds", seconds, "--streams", self.streams, "--payload", self.payload,
                      "--first-sequence", self.next[direction], "--verify-every", verify_every, "--linger", linger,
                      keys=self.keys(direction), cpu=LOAD_CPU, nice=self.bench.nice)
        self.next[direction] += result["sent"] // self.streams + 1
        self.lost = result.get("lost", 0)
        return result

    def revive(self):
        """Before a trial."""

    def to(self, direction):
        address = self.net.core_address if direction == "rtp-srtp" else self.net.access
        return f"{address}:{FIRST_PORT}-{FIRST_PORT + 2 * self.streams - 1}/2"

    def keys(self, direction):
        word, side = ("receive", "down") if direction == "rtp-srtp" else ("send", "up")
        return key_lines(self.suite, self.streams, word, side)

    def start(self):
        pass

    def stop(self):
        pass

    def pids(self):
        return []

    def busy_seconds(self):
        """What its work cost, without polling in vain."""
        return self.cpu_seconds()

    def cpu_seconds(self):
        """CPU time of all threads of its processes, to the nanosecond."""
        total = 0
        for pid in self.pids():
            for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                try:
                    total += int(task.read_text().split()[0])
                except OSError:
                    pass
        return total / 1e9


class Tandem(Relay):
    engine = "tandem"

    def start(self):
        # The edge drops other UDP to a media address, so the core's media has one of its own, as in the field.
        self.dataplane = Pinned(self.bench.test, self.net, name=f"dp{self.bench.number()}", holder=False, edge={"tunnel_tcp": [4433]}, max_flows=2 * self.streams + 16,
                                **self.bench.dataplane)
        self.dataplane.cpu, self.dataplane.nice = RELAY_CPU, self.bench.nice
        self.dataplane.start()
        self.contract = self.dataplane.add_streams(self.suite, self.streams, self.net.bob_address, self.net.ue_address)

    def pids(self):
        return [self.dataplane.pid()]

    def busy_seconds(self):
        return self.dataplane.busy_seconds()

    def stop(self):
        self.contract.close()
        self.dataplane.process.stop(10)


class Rtpengine(Relay):
    engine = "rtpengine"

    def start(self):
        if not shutil.which("rtpengine"):
            raise FileNotFoundError("rtpengine is not installed (package rtpengine-daemon)")
        number = self.bench.number()
        self.process = self.bench.test.start(
            f"rtpengine{number}",
            ["taskset", "-c", RELAY_CPU, "nice", "-n", self.bench.nice, "rtpengine", "--table=-1", f"--interface=access/{self.net.access}",
             f"--interface=core/{self.net.core_address}", "--listen-ng=127.0.0.1:2222", "--foreground", "--log-stderr", "--log-level=3",
             f"--pidfile={self.bench.test.dir}/rtpengine{number}.pid", "--port-min=20000", "--port-max=39999", "--num-threads=1"],
            self.net.gw)
        client = netns.inside(self.net.gw.name, lambda: ng.Client("127.0.0.1", 2222))
        client.await_pong()
        self.ports, self.received = {"rtp-srtp": [], "srtp-rtp": []}, []
        for i in range(self.streams):
            self.call(client, i)
        client.close()

    def revive(self):
        """After an overload it may not read a socket again whose buffer is full: it starts the next trial afresh."""
        if self.lost:
            self.stop()
            self.lost, self.next = 0, {"rtp-srtp": 1, "srtp-rtp": 1}
            self.start()

    def call(self, client, i):
        name = {"call-id": f"wire{i}", "from-tag": "core"}
        offer = client.request({"command": "offer", **name, "transport-protocol": "RTP/SAVP", "DTLS": "off", "ICE": "remove",
                                "direction": ["core", "access"], "sdp": sdp(self.net.bob_address, CORE_PORT)})
        crypto = next((m for m in re.finditer(r"a=crypto:(\d+) (\S+) inline:([^\s|]+)", offer.get("sdp", "")) if m[2] == self.suite), None)
        if crypto is None:
            raise RuntimeError(f"rtpengine does not offer {self.suite}: {offer}")
        mine = base64.b64encode(bytes.fromhex("".join(stream_key(self.suite, i, "up")))).decode()
        answer = client.request({"command": "answer", **name, "to-tag": "unit", "sdp": sdp(
            self.net.ue_address, UNIT_PORT, profile="RTP/SAVP", more=f"a=crypto:{crypto[1]} {self.suite} inline:{mine}\r\n")})
        if answer.get("result") != "ok":
            raise RuntimeError(f"rtpengine refuses the answer: {answer}")
        key = crypto[3]
        self.received.append(base64.b64decode(key + "=" * (-len(key) % 4)).hex())
        for direction, reply in (("srtp-rtp", offer), ("rtp-srtp", answer)):  # where to send: the SDP that each end is given
            self.ports[direction].append(int(re.search(r"m=audio (\d+)", reply["sdp"])[1]))

    def to(self, direction):
        address = self.net.core_address if direction == "rtp-srtp" else self.net.access
        return f"{address}:" + ",".join(map(str, self.ports[direction]))

    def keys(self, direction):
        if direction == "rtp-srtp":
            return "".join(f"receive {i} {key}\n" for i, key in enumerate(self.received))
        return super().keys(direction)

    def pids(self):
        return [self.process.pid]

    def stop(self):
        self.process.stop(10)


class Kernel(Relay):
    """The same packets routed by the kernel, in clear both ways: what this machine's veths and sockets allow."""

    engine = "kernel"

    def start(self):
        self.net.gw.sysctl("net.ipv4.ip_forward", 1)

    def ways(self, direction):
        given = super().ways(direction)
        at = given.index("--suite")
        return [*given[:at], "--suite", "clear", "--receive-suite", "clear"]

    def to(self, direction):
        return f"{self.net.ue_address}:{UNIT_PORT}" if direction == "rtp-srtp" else f"{self.net.bob_address}:{CORE_PORT}"

    def keys(self, direction):
        return ""


class Nothing(Relay):
    """Nobody answers: the sender's own limit on this link (the gateway's edge drops all of it)."""

    engine = "none"

    def trial(self, direction, rate=None, seconds=1.0, **_):
        return load(*self.ways(direction)[:8], "--to", f"{self.net.core_address}:9", "--no-receive", "--flat-out", "--prepare", "--rate", MOST,
                    "--seconds", seconds, "--streams", self.streams, "--payload", self.payload, cpu=LOAD_CPU, nice=self.bench.nice)
