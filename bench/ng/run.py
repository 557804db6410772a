#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench/ng/run.py [--quick] [--json FILE] [--rounds N] [--only plain,srtp] [--relays tandem,rtpengine] [--outstanding N]:
calls set up through the ng protocol (offer, answer, delete, with what Kamailio really sends), a second and in CPU time, beside rtpengine in
the same run. Each relay with all its processes is on CPU 1, tandem-ng-load on CPU 0; they take turns, medians count. Needs root; leaves
nothing behind."""

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "tests/lib")]
import netns  # noqa: E402
from harness import Network, Test  # noqa: E402
from process import ProcessError  # noqa: E402
from programs import NotBuilt, program  # noqa: E402
from servers import Rtpengine, Tandem  # noqa: E402

RELAYS = {"tandem": Tandem, "rtpengine": Rtpengine}
SDES = "AES_CM_128_HMAC_SHA1_80"
# name: (suite in the rows, flags of tandem-ng-load, note)
VARIANTS = {"plain": ("-", ["--metadata"], "RTP to RTP"), "srtp": (SDES, ["--metadata", "--srtp"], "RTP to SRTP, our SDES offered")}
LOAD_CPU = 0


class Bench:
    def __init__(self, args, test):
        self.args, self.test, self.rows, self._number = args, test, [], 0
        self.net = Network(test.prefix, ue2=False)
        test.defer(self.net.delete)
        self.addresses = [f"198.51.100.{n}" for n in range(2, 6)]  # several: ports of ended calls rest for a while
        self.net.gw.address("core0", *[f"{a}/24" for a in self.addresses[1:]])

    def number(self):
        self._number += 1
        return self._number

    def load(self, relay, *flags):
        """tandem-ng-load's account; a call that failed is said and makes the figure none."""
        command = ["taskset", "-c", str(LOAD_CPU), "ip", "netns", "exec", self.net.gw.name, program("tandem-ng-load"), "--port", str(relay.port),
                   "--first", str(relay.next), "--caller", self.net.bob_address, "--callee", self.net.bob_address, *map(str, flags)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"tandem-ng-load: {done.stderr.strip()}")
        result = json.loads(done.stdout)
        relay.next = result["next"]
        if result["failed"]:
            print(f"  {relay.engine}: {result['failed']} of {result['calls']} calls failed: {result['reasons']}", file=sys.stderr, flush=True)
        return result

    def row(self, engine, suite, value, unit, note, **more):
        row = {"bench": "ng", "engine": engine, "suite": suite, "direction": "-", "payload": 0, "flows": 0, "value": value, "unit": unit, "note": note, **more}
        self.rows.append(row)
        words = " ".join(str(x) for x in (engine, suite, f"p{more['percentile']}" if "percentile" in more else "") if x != "-")
        print(f"  {words:40} {value:>12,.2f} {unit:7} {note}", flush=True)


class Trial:
    """One round of one relay: as fast as it goes, with what it cost."""

    def __init__(self, bench, relay, flags):
        used = relay.cpu_seconds()
        result = bench.load(relay, *flags, "--outstanding", bench.args.outstanding, "--seconds", bench.args.seconds, "--warm-up", 0.5)
        spent = relay.cpu_seconds() - used
        self.rate, self.failed = result["calls_per_s"], result["failed"] + result["retries"]
        self.cpu_us = 1e6 * spent / max(1, result["next"] - bench.first)  # warm-up and the last ones included
        self.latency = result["latency_us"]


def one_trial(bench, relay, flags):
    bench.first = relay.next
    return Trial(bench, relay, flags)


def with_relay(bench, name, what):
    relay = RELAYS[name](bench)
    try:
        relay.start()
        return what(relay)
    finally:
        relay.stop()


def rates(bench, variant):
    """Rounds in turn, each relay started afresh, then latencies at a rate that both carry."""
    suite, flags, note = VARIANTS[variant]
    seen = {n: [] for n in bench.args.relays}
    for _ in range(bench.args.rounds):
        for n in seen:
            seen[n].append(with_relay(bench, n, lambda relay: one_trial(bench, relay, flags)))
    for n, trials in seen.items():
        bench.row(n, suite, statistics.median(t.rate for t in trials), "per_s", f"calls set up and ended: {note}")
        bench.row(n, suite, statistics.median(t.cpu_us for t in trials), "us_cpu", f"CPU time a call: {note}")
        bench.row(n, suite, sum(t.failed for t in trials), "count", f"calls failed or asked twice: {note}")
    if bench.latency_rate is None:
        bench.latency_rate = round(0.5 * min(statistics.median(t.rate for t in trials) for trials in seen.values()))
    for n in seen:
        found = with_relay(bench, n, lambda relay: bench.load(relay, *flags, "--rate", bench.latency_rate, "--outstanding", 256,
                                                              "--seconds", bench.args.seconds))
        for percentile in ("p50", "p99"):
            bench.row(n, suite, found["latency_us"]["answer"][percentile], "us", f"answer, at one rate for all: {note}",
                      percentile=percentile[1:], offered=bench.latency_rate)


def memory(bench):
    """What standing calls take: growth of the resident memory, once some calls were made and ended. rtpengine has four sockets a call, and
    the machine's limit of them may be lower than what is asked."""
    for n in bench.args.relays:
        calls = bench.args.standing
        if n == "rtpengine":
            calls = min(calls, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500) // 4)

        def grow(relay, calls=calls):
            bench.load(relay, "--metadata", "--calls", 500)
            before = relay.memory_bytes()
            result = bench.load(relay, "--metadata", "--calls", calls, "--stand")
            if result["failed"]:
                raise RuntimeError(f"{relay.engine} keeps no {calls} calls: {result['reasons']}")
            return relay.memory_bytes() - before + relay.state_bytes(calls)
        bench.row(n, "-", with_relay(bench, n, grow) / calls, "B", f"memory a call, {calls:,} standing", flows=calls)


def arguments(words=None):
    parser = argparse.ArgumentParser(prog="bench/ng/run.py", description="Call set-ups through ng: Tandem and rtpengine in one run.")
    parser.add_argument("--quick", action="store_true", help="shorter and fewer rounds: about a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    parser.add_argument("--rounds", type=int, help="of each relay (default 3, quick 1)")
    parser.add_argument("--seconds", type=float, help="a round takes (default 5, quick 2)")
    parser.add_argument("--outstanding", type=int, default=32, help="calls in flight (default 32)")
    parser.add_argument("--standing", type=int, default=10_000, help="calls for the memory figure; 0: none (default 10,000)")
    parser.add_argument("--only", metavar="NAME[,NAME]", default=",".join(VARIANTS), help=f"some of {', '.join(VARIANTS)}; memory goes with plain")
    parser.add_argument("--relays", metavar="NAME[,NAME]", default=",".join(RELAYS), help="to measure (default both)")
    args = parser.parse_args(words)
    args.only, args.relays = args.only.split(","), args.relays.split(",")
    args.rounds = args.rounds or (1 if args.quick else 3)
    args.seconds = args.seconds or (2 if args.quick else 5)
    for wrong in [*(set(args.only) - set(VARIANTS)), *(set(args.relays) - set(RELAYS))]:
        parser.error(f"nothing is called {wrong}")
    return args


def main():
    args = arguments()
    if os.geteuid() != 0:
        sys.exit("bench/ng: needs root for network namespaces")
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("bench/ng: needs two CPUs, one for the load and one for the relay")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench/ng: ended by a signal"))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # rtpengine has a socket for each port
    netns.remove_leftovers()
    test, status, bench = Test("ng"), 0, None
    try:
        for name in ("tandem-dataplane", "tandem-controlplane", "tandem-ng-load"):
            program(name)
        bench = Bench(args, test)
        bench.latency_rate = None
        for name in args.only:
            rates(bench, name)
        if args.standing and "plain" in args.only:
            memory(bench)
    except (NotBuilt, FileNotFoundError, RuntimeError, netns.NetError, ProcessError) as wrong:
        print(f"bench/ng: {wrong}", file=sys.stderr)
        status = 1
    finally:
        for error in test.clean():
            print(f"bench/ng: at the end: {error}", file=sys.stderr)
        if bench and args.json:
            args.json.write_text(json.dumps({"rows": bench.rows}, indent=1) + "\n")
    if status == 0:
        import shutil
        shutil.rmtree(test.dir, ignore_errors=True)
    else:
        print(f"bench/ng: logs are in {test.dir}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
