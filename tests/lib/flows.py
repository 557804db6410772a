# SPDX-License-Identifier: Apache-2.0
"""The data plane alone: its programs without a control plane, flows installed over the contract, SRTP ends on libsrtp2."""

import json
import os
import re
import socket
import struct
import subprocess
from pathlib import Path

import netns
from process import Process
from programs import ROOT, pid_in_force, program, write_toml

# Name: (bytes of the key, of the salt), as the programs have them; without `clear`.
SUITES = {name: (int(key), int(salt)) for name, key, salt in
          re.findall(r'^X\(\w+, +\d+, "(\w+)", *(\d+), *(\d+),', (ROOT / "dataplane/api/suites.def").read_text(), re.M) if key != "0"}


def key_of(suite, seed):
    """A test key: (key, salt) in hex."""
    k, s = SUITES[suite]
    data = bytes((seed * 37 + i * 11) & 0xff for i in range(k + s))
    return data[:k].hex(), data[k:].hex()


class Dataplane:
    """tandem-dataplane, by its holder unless holder=False, with addresses access and core (and more)."""

    def __init__(self, t, net, name="dp", addresses=None, ports=None, holder=True, edge=None, port_keys=None,
                 **settings):
        self.t, self.net, self.name, self.holder = t, net, name, holder
        self.dir = t.dir / name
        self.dir.mkdir(parents=True, exist_ok=True)
        self.run_dir = self.dir / "run"
        self.instance = settings.pop("instance", f"{net.gw.name}-{name}")
        addresses = addresses or {"access": net.access, "core": net.core_address}
        self.config = write_toml(self.dir / "dataplane.toml",
                                 {"instance": self.instance, "run_dir": self.run_dir, "hugepages": "never", **settings},
                                 [*[("[[address]]", {"name": n, "ip": a}) for n, a in addresses.items()],
                                  *[("[[port]]", {"interface": p, **(port_keys or {})}) for p in (ports or net.ports)],
                                  *([("[edge]", edge)] if edge else [])])
        self.process = None

    def command(self):
        words = [program("tandem-dataplane"), "--config", self.config]
        return [program("tandem-holder"), "--", *words] if self.holder else words

    def start(self, timeout=30):
        self.t.defer(lambda: Path(f"/dev/shm/tandem-{self.instance}.stats").unlink(missing_ok=True))
        self.process = self.t.start(self.name, self.command(), self.net.gw)
        self.process.wait_for_path(self.run_dir / "dataplane.sock", timeout)
        return self

    def fails(self, prefix=(), timeout=30):
        """Runs it where it must not start; returns (exit status, what it said)."""
        done = subprocess.run(["ip", "netns", "exec", self.net.gw.name, *prefix, *map(str, self.command())],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False)
        return done.returncode, done.stdout.strip()

    def pid(self):
        """The pid of the data plane in force."""
        return pid_in_force(self.instance) if self.holder else self.process.pid

    def contract(self):
        c = Contract(self.run_dir / "dataplane.sock")
        self.t.defer(c.close)
        return c

    def silent(self, count):
        """Connections to the contract's socket that say nothing; more than there may be, so that the oldest is closed."""
        opened = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(count)]
        for one in opened:
            self.t.defer(one.close)
            one.connect(str(self.run_dir / "dataplane.sock"))  # waits its turn where several do
        opened[0].settimeout(20)
        if opened[0].recv(1) != b"":
            raise netns.NetError("who says nothing is answered")

    def drops(self):
        """Dropped packets by reason, from the stats segment (workers and the edge)."""
        names = [line.split("(")[1].split(",")[0] for line in
                 (ROOT / "dataplane/api/drops.def").read_text().splitlines() if line.startswith("X(")]
        data = Path(f"/dev/shm/tandem-{self.instance}.stats").read_bytes()
        workers = struct.unpack_from("<H", data, 6)[0]
        worker_offset, flow_offset = struct.unpack_from("<QQ", data, 40)
        size = (flow_offset - worker_offset) // workers
        edge = struct.unpack_from("<256Q", data, 56)
        out = {}
        for i, name in enumerate(names):
            n = edge[i] + sum(struct.unpack_from("<Q", data, worker_offset + w * size + 512 + 8 * i)[0] for w in range(workers))
            if n:
                out[name] = n
        return out


class Contract:
    """A conversation with a data plane, by tests/tools/contract."""

    def __init__(self, path):
        self.process = subprocess.Popen([str(program("contract")), str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)

    def send(self, do, **arguments):
        """Without waiting for the answer."""
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.process.stdin.flush()

    def __call__(self, do, **arguments):
        self.send(do, **arguments)
        line = self.process.stdout.readline()
        if not line:
            raise netns.NetError(f"contract tool: {self.process.stderr.read().strip()}")
        return json.loads(line)

    def all_ok(self, do, **arguments):
        answer = self(do, **arguments)
        if set(answer.get("status", ["?"])) - {"ok"}:
            raise netns.NetError(f"{do}: {answer}")
        return answer

    def close(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(2)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def add_call(self, phone, port=4000, core_port=5000, suite="AEAD_AES_128_GCM", seed=1, tag=1, access="access", core="core"):
        """A unit leg (SRTP, MKI 4, muxed) and a clear core leg; keys of epoch 0. Returns the peers' key arguments."""
        unit, back = f"{access}:{port}", f"{core}:{core_port}"
        self.all_ok("add", flows=[
            {"id": unit, "reverse": back, "in": suite, "out": "RTP", "in_mki": 4, "rtp_remote": phone, "tag": tag, "timeout": 0},
            {"id": back, "reverse": unit, "in": "RTP", "out": suite, "out_mki": 4, "source": "signalled", "signalled": phone,
             "tag": tag}])
        up, down = key_of(suite, seed), key_of(suite, seed + 1)
        self.all_ok("install", keys=[{"id": unit, "side": "in", "epoch": 0, "key": up[0], "salt": up[1]},
                                     {"id": back, "side": "out", "epoch": 0, "key": down[0], "salt": down[1]}])
        return ["--suite", suite, "--mki", "4", "--send-key", "0:" + "".join(up), "--receive-key", "0:" + "".join(down)]


class Peer:
    """tests/tools/srtp_peer, running; result() waits for its end and returns its counts."""

    def __init__(self, t, space, name, *arguments):
        self.process = t.start(name, [program("srtp_peer"), *arguments], space)

    def result(self, timeout=60):
        self.process.wait(timeout)
        for line in reversed(self.process.log().splitlines()):
            if line.startswith("{"):
                return json.loads(line)
        raise netns.NetError(f"srtp_peer said: {self.process.log()[-500:]}")
