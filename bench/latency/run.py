#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench/latency/run.py [--quick] [--json FILE] [--rounds N] [--seconds N]: how long a unit's packets take through its secondary (agent, SRTP,
data plane) and the same packets through its primary (agent, TLS, control plane, kernel), 160 B, 50 a second each way: quiet, and beside a
download through the primary at a radio's rate and as fast as it goes. All in one call, in turns (tests/lib/latency.py); needs root, leaves nothing behind."""

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
from latency import DOWN, UP, Ways, percentile  # noqa: E402
from netns import NetError  # noqa: E402
from process import ProcessError  # noqa: E402
from programs import NotBuilt  # noqa: E402

SUITE = "AEAD_AES_128_GCM"
LOADS = {"quiet": None, "download of 100 Mbit/s": 12_500_000, "download at full speed": 0}  # bytes a second


def row(direction, value, unit, note, **more):
    return {"bench": "latency", "engine": "tandem", "suite": SUITE, "direction": direction, "payload": 160, "flows": 1, "value": value, "unit": unit,
            "note": note, **more}


def measure(args, t):
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False, tunnel={"inner_from": ["core0"]}, dataplane={"idle": args.idle} if args.idle else None)
    alice = t.agent(net.ue, gw, "alice")
    ways = Ways(t, net, gw, alice)
    t.defer(ways.close)
    wait_until(lambda: gw.ctl.media() and gw.ctl.media()[0]["active"], "media of the call")
    ways.measure(1)
    times, sent, fetched = {}, {}, dict.fromkeys(LOADS, 0)
    for _ in range(args.rounds):
        for load, rate in LOADS.items():
            client = ways.download(1 << 40, rate) if rate is not None else None
            if client:
                time.sleep(0.3)
            before = alice.status()["primary"]["rx_bytes"]
            for key, (count, took) in ways.measure(args.seconds).items():
                times.setdefault((*key, load), []).extend(took)
                sent[(*key, load)] = sent.get((*key, load), 0) + count
            fetched[load] += alice.status()["primary"]["rx_bytes"] - before
            if client:
                client.stop(5)
                time.sleep(0.5)
    rows = []
    for (way, direction, load), took in times.items():
        for p in (50, 99):
            rows.append(row(direction, percentile(took, p), "us", f"{way}, {load}", percentile=p))
        rows.append(row(direction, 1 - len(took) / sent[way, direction, load], "share", f"lost: {way}, {load}"))
    for direction in (UP, DOWN):
        for load in LOADS:
            for p in (50, 99):
                ratio = percentile(times["primary", direction, load], p) / percentile(times["secondary", direction, load], p)
                rows.append(row(direction, ratio, "ratio", f"primary's time to the secondary's, {load}", percentile=p))
            if load != "quiet":
                more = percentile(times["secondary", direction, load], 99) - percentile(times["secondary", direction, "quiet"], 99)
                rows.append(row(direction, more, "us", f"secondary's p99 more than quiet, {load}"))
    for load, size in fetched.items():
        if load != "quiet":
            rows.append(row(DOWN, size / (args.rounds * (args.seconds + 0.5)), "per_s", f"bytes through the primary, {load}"))
    return rows


def main():
    parser = argparse.ArgumentParser(prog="bench/latency/run.py", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--idle", help="the data plane's idle mode; its default lets a worker sleep that 50 packets a second do not keep awake")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    args = parser.parse_args()
    args.rounds = args.rounds or (3 if args.quick else 8)
    args.seconds = args.seconds or (3 if args.quick else 5)
    if os.geteuid() != 0:
        print("latency: needs root for network namespaces", file=sys.stderr)
        return 1
    t = Test("latency")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    rows, status = [], 0
    try:
        rows = measure(args, t)
    except (Failed, NetError, ProcessError, NotBuilt, RuntimeError) as error:
        print(f"latency: {error}", file=sys.stderr)
        status = 1
    finally:
        for error in t.clean():
            print(f"latency: {error}", file=sys.stderr)
    for r in rows:
        print(f"  {r['note']:48} {r['direction']:10} {'p' + str(r['percentile']) if 'percentile' in r else '':4} {r['value']:>14,.2f} {r['unit']}", flush=True)
    if args.json and rows:
        args.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
