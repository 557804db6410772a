#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What each idle mode costs and how late it makes a packet: tandem-dataplane on veth, one clear stream of 50 packets/s by tandem-load.
CPU time of the worker's thread in silence (share of a CPU); latency through the gateway, p50 and p99, each packet after 20 ms of
silence, so that it meets a sleeping worker; the kernel's own forwarding beside it. idle.py [--quick] [--json FILE] [--before PROGRAM]"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/lib"))
from flows import Dataplane  # noqa: E402
from harness import Test  # noqa: E402
from programs import program  # noqa: E402

MODES = ("poll", "interrupt", "adaptive")


class Mode(Dataplane):
    def __init__(self, t, net, mode, binary=None):
        super().__init__(t, net, name=mode, instance=f"{net.gw.name}-{mode}", holder=False, idle="adaptive" if binary else mode)
        self.binary = binary

    def command(self):
        return [self.binary, "--config", self.config] if self.binary else super().command()


def load(net, to, seconds):
    command = [program("tandem-load"), "--from-netns", net.ue.name, "--from", f"{net.ue_address}:7000", "--to", to,
               "--receive-netns", net.core.name, "--receive", f"{net.bob_address}:6000", "--streams", "1", "--seconds", str(seconds),
               "--spin", "--linger", "0.3", "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True)
    return json.loads(done.stdout[done.stdout.index("{"):done.stdout.rindex("}") + 1])


def worker_ns(pid):
    """CPU time of the process's busiest thread beside the first, by the scheduler."""
    return max(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir() if int(task.name) != pid)


def measure(t, net, mode, quick, rows, binary=None):
    name = mode if binary is None else "adaptive, before"
    dp = Mode(t, net, mode if binary is None else "before", binary).start()
    c = dp.contract()
    c("hello")
    c.all_ok("add", flows=[{"id": "access:4000", "reverse": "core:5000", "in": "RTP", "out": "RTP", "source": "first", "tag": 1, "timeout": 0,
                            "rtp_out": "core:5000", "rtcp_out": "core:5000", "rtp_remote": f"{net.bob_address}:6000",
                            "rtcp_remote": f"{net.bob_address}:6000"}])
    time.sleep(1)
    shares = []
    for _ in range(3):
        begin, used = time.monotonic(), worker_ns(dp.pid())
        time.sleep(1 if quick else 3)
        shares.append((worker_ns(dp.pid()) - used) / 1e9 / (time.monotonic() - begin))
    rows.append(row(sorted(shares)[1], "share", f"idle: {name}; CPU of a silent worker", 1))
    stream(net, f"{net.access}:4000", quick, rows, f"idle: {name}", "tandem")
    c.close()
    dp.process.stop(20)
    time.sleep(0.5)


def stream(net, to, quick, rows, note, engine):
    seen = [load(net, to, 3 if quick else 10) for _ in range(1 if quick else 3)]
    lost = sum(s["lost"] for s in seen)
    for name, percentile in (("p50", "50"), ("p99", "99")):
        value = sorted(s["latency_us"][name] for s in seen)[len(seen) // 2]
        rows.append({**row(value, "us", f"{note}; 50 packets/s, each after 20 ms of silence; {lost} lost", 1), "engine": engine, "percentile": percentile,
                     "offered": 50})


def row(value, unit, note, flows):
    return {"bench": "workers", "engine": "tandem", "suite": "-", "direction": "-", "payload": 160, "flows": flows, "value": value, "unit": unit,
            "workers": 1, "note": note}


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--quick", action="store_true")
    p.add_argument("--json", type=Path)
    p.add_argument("--before", help="another tandem-dataplane, measured beside the modes")
    o = p.parse_args()
    if os.geteuid() != 0:
        print("idle.py: needs root for network namespaces", file=sys.stderr)
        return 1
    rows = []
    t = Test("idle")
    try:
        net = t.network(ue2=False)
        net.gw.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        stream(net, f"{net.bob_address}:6000", o.quick, rows, "forwarded by the kernel, same way", "kernel")
        if o.before:
            measure(t, net, "adaptive", o.quick, rows, o.before)
        for mode in MODES:
            measure(t, net, mode, o.quick, rows)
    finally:
        t.clean()
    for r in rows:
        print(f"{r['engine']:8} {r['value']:10.4f} {r['unit']:6} {'p' + r['percentile'] if 'percentile' in r else '':4} {r['note']}")
    if o.json:
        o.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
