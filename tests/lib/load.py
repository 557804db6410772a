# SPDX-License-Identifier: Apache-2.0
"""Many streams through a relay: runs tandem-load, sets up its streams on a data plane, and reads the account of where packets
went, from the sender's link to the receiver's socket. For the load tests and for bench/wire."""

import ctypes
import json
import os
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from flows import SUITES, Dataplane
from programs import ROOT, program

CLEAR = "clear"
CORE_PORT, UNIT_PORT, FIRST_PORT = 6000, 7000, 20000  # of the two ends; the relay's are FIRST_PORT, + 2, ...


class LoadError(Exception):
    pass


def _pinned(cpu):
    def before():
        ctypes.CDLL(None).prctl(1, 9)  # a killed bench leaves nothing running
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
    return before


class Load:
    """tandem-load, running. result() waits for its end. `realtime`: a priority with which only its like compete for the CPU."""

    def __init__(self, *arguments, keys="", cpu=None, nice=0, realtime=0):
        self.keys = None
        argv = [program("tandem-load"), *map(str, arguments), "--json", "-"]
        if keys:
            handle, self.keys = tempfile.mkstemp(prefix="tandem-keys-")  # mode 0600
            with os.fdopen(handle, "w") as f:
                f.write(keys)
            argv += ["--keys-file", self.keys]
        if nice:
            argv = ["nice", "-n", str(nice), *argv]
        if realtime:
            argv = ["chrt", "-r", str(realtime), *argv]
        self.popen = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_pinned(cpu))

    def result(self, timeout=120):
        try:
            out, wrong = self.popen.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.communicate()
            raise LoadError(f"tandem-load still runs after {timeout} s") from None
        finally:
            if self.keys:
                Path(self.keys).unlink(missing_ok=True)
        if self.popen.returncode != 0:
            raise LoadError(f"tandem-load ended with {self.popen.returncode}: {wrong.strip()}")
        return json.loads(out)


def load(*arguments, timeout=120, **options):
    return Load(*arguments, **options).result(timeout)


def stream_key(suite, stream, side):
    """Key and salt of one stream's side ("up" from the unit, "down" to it) in hex, for tests."""
    k, s = SUITES[suite]
    data = bytes((stream * 31 + i * 13 + (101 if side == "up" else 7) + stream // 7 * i) & 0xff for i in range(k + s))
    return data[:k].hex(), data[k:].hex()


def key_lines(suite, streams, word, side):
    return "".join(f"{word} {i} {''.join(stream_key(suite, i, side))}\n" for i in range(streams))


class Pinned(Dataplane):
    """A data plane on one CPU (None: where it likes)."""

    cpu, nice, realtime = None, 0, 0

    def command(self):
        return [*(["taskset", "-c", str(self.cpu)] if self.cpu is not None else []), *(["nice", "-n", str(self.nice)] if self.nice else []),
                *(["chrt", "-r", str(self.realtime)] if self.realtime else []), *super().command()]

    def pid(self):
        return self.process.pid if not self.holder else super().pid()

    # -- its account ----------------------------------------------------------------

    def account(self):
        """{"edge": {reason or verdict: packets}, "counter": {name: packets}, "worker": {reason: packets}} of the stats segment,
        which is refreshed each second (edge and rings)."""
        data = Path(f"/dev/shm/tandem-{self.instance}.stats").read_bytes()
        workers = struct.unpack_from("<H", data, 6)[0]
        begin, end = struct.unpack_from("<QQ", data, 40)
        size = (end - begin) // workers

        def total(offset):
            return sum(struct.unpack_from("<Q", data, begin + w * size + offset)[0] for w in range(workers))

        edge = struct.unpack_from("<256Q", data, 56)
        drops = _names("drops.def")
        return {"edge": {**{n: edge[i] for i, n in enumerate(drops) if n.startswith("edge_") and n != "edge_end"},
                         "to_worker": edge[128], "to_kernel": edge[129], "handshake": edge[130]},
                "counter": {n: total(8 * i) for i, n in enumerate(_names("counters.def"))},
                "worker": {n: total(512 + 8 * i) for i, n in enumerate(drops) if not n.startswith("edge_")}}

    def since(self, before):
        """What has been counted since an earlier account, the same shape, without what did not move."""
        now = self.account()
        return {part: {n: v - before[part][n] for n, v in names.items() if v != before[part][n]} for part, names in now.items()}

    def settled(self, before, packets, timeout=6.0):
        """since(before), once the account holds what became of all the packets that the edge must have seen; else its last state."""
        end = time.monotonic() + timeout
        while True:
            seen = self.since(before)
            inside_edge = sum(n for name, n in seen["edge"].items() if name != "to_kernel")
            rings = sum(seen["counter"].get(n, 0) for n in ("rx_packets", "rx_ring_full", "rx_no_buffer"))
            if (inside_edge >= packets and rings >= seen["edge"].get("to_worker", 0)) or time.monotonic() > end:
                return seen
            time.sleep(0.1)

    def busy_seconds(self):
        """Time that its workers spent in rounds that took packets: polling in vain is not in it, what the kernel did in them is."""
        data = Path(f"/dev/shm/tandem-{self.instance}.stats").read_bytes()
        workers = struct.unpack_from("<H", data, 6)[0]
        begin, end = struct.unpack_from("<QQ", data, 40)
        hertz = struct.unpack_from("<Q", data, 56 + 8 * 256 + 8)[0]
        return sum(struct.unpack_from("<Q", data, begin + w * (end - begin) // workers + 1024 + 8)[0] for w in range(workers)) / hertz

    # -- flows for streams ------------------------------------------------------------

    def add_streams(self, suite, streams, core, unit, first=FIRST_PORT, core_port=CORE_PORT, unit_port=UNIT_PORT):
        """Flows both ways between core (clear, core_port) and unit (SRTP, unit_port), with keys of stream_key()."""
        c = self.contract()
        c("hello")
        for at in range(0, streams, 100):
            flows, keys = [], []
            for i in range(at, min(at + 100, streams)):
                a, b = f"access:{first + 2 * i}", f"core:{first + 2 * i}"
                flows += [{"id": a, "reverse": b, "in": suite, "out": "RTP", "rtp_remote": f"{core}:{core_port}", "tag": i + 1},
                          {"id": b, "reverse": a, "in": "RTP", "out": suite, "source": "signalled", "rtp_remote": f"{unit}:{unit_port}",
                           "signalled": f"{core}:{core_port}", "tag": i + 1}]
                for flow, side, way in ((a, "in", "up"), (b, "out", "down")):
                    key, salt = stream_key(suite, i, way)
                    keys.append({"id": flow, "side": side, "epoch": 0, "key": key, "salt": salt})
            c.all_ok("add", flows=flows)
            c.all_ok("install", keys=keys)
        return c


def _names(file):
    return [line.split("(")[1].split(",")[0] for line in (ROOT / "dataplane/api" / file).read_text().splitlines()
            if line.startswith("X(")]


def link_counter(space, interface, name):
    """A statistic of an interface, e.g. tx_dropped: on a veth, what the other end's ring had no room for."""
    stats = json.loads(space.ip("-j", "-s", "link", "show", "dev", interface))[0]["stats64"]
    direction, _, what = name.partition("_")
    return stats[direction][what]


__all__ = ["CLEAR", "CORE_PORT", "FIRST_PORT", "Load", "LoadError", "Pinned", "UNIT_PORT", "key_lines", "link_counter",
           "load", "stream_key"]
