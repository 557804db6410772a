#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench/restart/run.py [--quick] [--json FILE] [--kills N] [--calls N] [--after MS] [--only one|two] [--phases]: how long each of many calls is silent when the
data plane is killed (kill -9) and its standby goes on: one stream a call, 50 packets a second, clear in and SRTP out. Then pairs of
kills, the second AFTER ms behind the first. --phases prints what each
successor says that it spent its time on.
Needs root; leaves nothing behind."""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent / "tests/lib")]
from harness import Failed, Test, wait_until  # noqa: E402
from latency import percentile  # noqa: E402
from load import CORE_PORT, FIRST_PORT, UNIT_PORT, Load, Pinned, key_lines  # noqa: E402
from netns import NetError  # noqa: E402
from process import ProcessError  # noqa: E402
from programs import NotBuilt  # noqa: E402

SUITE, RATE = "AEAD_AES_128_GCM", 50
APART_S = 2.0  # between two kills: the spares are ready again


def pid_or_none(dp, *not_these):
    try:
        pid = dp.pid()
    except (OSError, ValueError):
        return None
    return pid if pid and pid not in not_these and Path(f"/proc/{pid}").exists() else None


class Calls:
    """The streams of all calls, running; silences() tells what they met."""

    def __init__(self, net, calls, seconds, first):
        self.load = Load("--from-netns", net.core.name, "--from", f"{net.bob_address}:{CORE_PORT}", "--receive-netns", net.ue.name, "--receive",
                         f"{net.ue_address}:{UNIT_PORT}", "--to", f"{net.core_address}:{FIRST_PORT}-{FIRST_PORT + 2 * calls - 1}/2", "--suite", "clear",
                         "--receive-suite", SUITE, "--streams", calls, "--rate", calls * RATE, "--seconds", seconds, "--gaps-ms", 35, "--first-sequence", first,
                         keys=key_lines(SUITE, calls, "receive", "down"))

    def result(self, timeout):
        return self.load.result(timeout)


def silences(gaps, kills, calls):
    """ms of the longest silence of each call around each moment of `kills` (0-based lists by kill)."""
    out = []
    for first, last in kills:
        longest = [20.0] * calls
        for g in gaps:
            begin, end = g["since_s"], g["since_s"] + g["ms"] / 1000
            if begin < last + 1.0 and end > first - 0.02:
                longest[g["stream"]] = max(longest[g["stream"]], g["ms"])
        out.append(longest)
    return out


def kill_all(dp, times, after_s):
    """Kills the data plane in force at each moment; after_s: and its successor so much later. Returns (first, last) of each."""
    kills = []
    for at in times:
        time.sleep(max(0.0, at - time.monotonic()))
        was = wait_until(lambda: pid_or_none(dp), "a data plane in force", 5, 0.001)
        first = last = time.monotonic()
        os.kill(was, signal.SIGKILL)
        if after_s is not None:
            time.sleep(max(0.0, first + after_s - time.monotonic()))
            second = wait_until(lambda: pid_or_none(dp, was), "its successor", 5, 0.001)
            last = time.monotonic()
            os.kill(second, signal.SIGKILL)
        kills.append((first, last))
    return kills


def trial(args, dp, net, after_s, first):
    seconds = 1.5 + args.kills * args.apart + 2
    calls = Calls(net, args.calls, seconds, first)
    begin = time.monotonic() + 1.5
    kills = kill_all(dp, [begin + args.apart * i for i in range(args.kills)], after_s)
    counts = calls.result(seconds + 30)
    per_kill = silences(counts["gaps"], kills, args.calls)
    flat = sorted(ms for one in per_kill for ms in one)
    note = "kill" if after_s is None else f"two kills, {after_s * 1000:.0f} ms apart"
    print(f"  {note}: {args.kills} of {args.calls} calls: silence ms p50 {percentile(flat, 50):.0f} p99 {percentile(flat, 99):.0f} max {flat[-1]:.0f};"
          f" lost {counts['lost'] / args.kills / args.calls:.2f} packets a call and kill; bad tags {counts['bad_tags']}, late {counts['late']}", flush=True)
    print("  worst call of each kill:", " ".join(f"{max(one):.0f}" for one in per_kill), flush=True)
    row = {"bench": "restart", "engine": "tandem", "suite": SUITE, "direction": "rtp-srtp", "payload": 160, "flows": args.calls}
    rows = [{**row, "value": percentile(flat, p), "unit": "ms", "percentile": p, "note": f"silence of a call: {note}"} for p in (50, 99)]
    rows.append({**row, "value": flat[-1], "unit": "ms", "percentile": 100, "note": f"silence of a call: {note}"})
    rows.append({**row, "value": counts["bad_tags"], "unit": "count", "note": f"wrong tags: {note}"})
    return rows, first + int(seconds * RATE) + 1


def phases(dp):
    """What each successor said that it spent its time on."""
    print("\n".join("  " + line.partition("after its turn came: ")[2] for line in dp.process.log().splitlines() if "after its turn came" in line))


def measure(args, t):
    net = t.network(ue2=False)
    dp = Pinned(t, net).start()
    dp.add_streams(SUITE, args.calls, net.bob_address, net.ue_address)
    time.sleep(1.5)
    rows, first = ([], 1) if args.only == "two" else trial(args, dp, net, None, 1)
    if args.only != "one":  # the same streams go on: after a jump of their numbers the gateway would send numbers of its own
        rows += trial(args, dp, net, args.after / 1000, first)[0]
    if args.phases:
        phases(dp)
    return rows


def main():
    parser = argparse.ArgumentParser(prog="bench/restart/run.py", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--kills", type=int)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--after", type=float, default=90, metavar="MS")
    parser.add_argument("--apart", type=float, default=APART_S, metavar="S")
    parser.add_argument("--only", choices=("one", "two"), help="single kills, or pairs")
    parser.add_argument("--phases", action="store_true")
    args = parser.parse_args()
    args.kills = args.kills or (5 if args.quick else 30)
    if os.geteuid() != 0:
        print("bench/restart: needs root for network namespaces", file=sys.stderr)
        return 1
    t = Test("restart")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        rows = measure(args, t)
    except (Failed, NetError, ProcessError, NotBuilt) as wrong:
        print(f"bench/restart: {wrong}", file=sys.stderr)
        return 1
    finally:
        t.clean()
    if args.json:
        args.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
