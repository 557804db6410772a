#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench/tunnel/handshakes.py [--units N] [--rate N] [--prefixes N] [--only KIND,...] [--certificates]: what new units and running calls get
while an attacker opens connections to the tunnel port from many prefixes and leaves them half open: silent, with a part of a ClientHello,
or with a whole one (whose answer it does not take). Each new unit is a process of its own that says when it has its inner address; a call
of a unit that was up before gets new keys each second. Needs root; leaves nothing behind."""

import argparse
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent / "tests/lib")]
import netns  # noqa: E402
from certificates import client_hello, gateway_certificate  # noqa: E402
from harness import Network, Test  # noqa: E402
from media import Call  # noqa: E402
from programs import program  # noqa: E402

KINDS = ("none", "silent", "part", "hello")
CROWD = 10 << 24 | 1 << 16  # 10.1.0.0 and on: a /24 for each prefix


def attack(to, kind, rate, prefixes, report):
    """Until it is killed: connections at that rate, each kept until the gateway closes it."""
    try:
        os.nice(10)
        os.sched_setaffinity(0, {0})
        words = {"silent": b"", "part": bytes([22, 3, 1, 1, 0, 1, 0, 0]), "hello": client_hello()}[kind]
        poll, held, n, begin, told = select.epoll(), {}, 0, time.monotonic(), 0
        while True:
            now = time.monotonic()
            for _ in range(min(64, int((now - begin) * rate) - n)):
                s = socket.socket()
                s.setblocking(False)
                s.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
                address = CROWD + (n % prefixes << 8) + n // prefixes % 254 + 1
                s.bind((socket.inet_ntoa(address.to_bytes(4, "big")), 0))
                n += 1
                try:
                    s.connect_ex(to)
                except OSError:
                    continue
                held[s.fileno()] = s
                poll.register(s, select.EPOLLRDHUP | (select.EPOLLOUT if words else 0))
            for fd, what in poll.poll(0.001):
                if what & (select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR):
                    poll.unregister(fd)
                    held.pop(fd).close()
                else:
                    held[fd].send(words)
                    poll.modify(fd, select.EPOLLRDHUP)
            if now - told > 0.5:
                told = now
                fresh = report.with_suffix(".new")
                fresh.write_text(json.dumps({"opened": n, "held": len(held), "seconds": now - begin}))
                fresh.rename(report)
    except BaseException as e:
        report.write_text(json.dumps({"error": repr(e)}))


def new_unit(net, gw, name):
    """Seconds until it is configured at its first try, or None."""
    begin = time.monotonic()
    one = subprocess.Popen(["ip", "netns", "exec", net.ue.name, program("probe_unit"), "--gateway", gw.server, "--keys", str(gw.dir), "--units", name],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        if select.select([one.stdout], [], [], 5)[0] and b'"configured"' in one.stdout.readline():
            return time.monotonic() - begin
        return None
    finally:
        one.kill()
        one.communicate()


def measure(bench, args, kind):
    net = Network(f"{bench.prefix}-{kind}")
    bench.defer(net.delete)
    net.ue2.ip("route", "add", "local", "10.0.0.0/10", "dev", "lo")
    net.gw.ip("route", "add", "10.0.0.0/10", "via", net.ue2_address)
    gw = bench.gateway(net, kamailio=False, level={"rekey_s": 1, "overlap_s": 0.5},
                       tunnel=gateway_certificate(bench.dir / "ca") if args.certificates else None)
    known = bench.agent(net.ue, gw, f"known{kind}")
    call = Call(gw, net.ue, known.inner(), net.core, net.bob_address)
    names = [f"unit{i}" for i in range(args.units)]
    for name in names:
        gw.unit_add(name)
    report, pid = bench.dir / f"{kind}.json", None
    try:
        if kind != "none":
            pid = netns.forked(net.ue2.name, lambda: attack((net.access, gw.tunnel_port), kind, args.rate, args.prefixes, report))
            time.sleep(3)
        before, began = gw.ctl.control_totals(), time.monotonic()
        times = [new_unit(net, gw, name) for name in names]
        seconds, after = time.monotonic() - began, gw.ctl.control_totals()
        attacker = json.loads(report.read_text()) if pid else {"opened": 0, "seconds": 1, "held": 0}
        found = sorted(t for t in times if t is not None)
        moved = {n: after[n] - before.get(n, 0) for n in after if after[n] != before.get(n, 0)}
        return {"kind": kind, "certificates": args.certificates, "opened_per_s": attacker["opened"] / attacker["seconds"], "held": attacker["held"],
                "units": len(times), "up_share": len(found) / len(times), "p50_s": found[len(found) // 2] if found else None,
                "p99_s": found[int(len(found) * 0.99)] if found else None, "seconds": seconds, "moved": moved}
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        call.close()
        known.stop()
        gw.stop()
        net.delete()


def main():
    parser = argparse.ArgumentParser(prog="bench/tunnel/handshakes.py", description="New units beside half-open connections.")
    parser.add_argument("--units", type=int, default=50, help="new ones, one after another (default 50)")
    parser.add_argument("--rate", type=int, default=8000, help="connections a second that the attacker opens, if it can (default 8000)")
    parser.add_argument("--prefixes", type=int, default=256, help="that they come from (default 256)")
    parser.add_argument("--only", default=",".join(KINDS), help=f"some of {', '.join(KINDS)}")
    parser.add_argument("--certificates", action="store_true", help="the gateway has a certificate, too: a ClientHello without a key is answered")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    bench, rows = Test("handshakes"), []
    try:
        for kind in args.only.split(","):
            r = measure(bench, args, kind)
            rows.append(r)
            words = {n: v for n, v in r["moved"].items() if any(w in n for w in ("silent", "half_open", "handshake", "rekey", "seed", "connections"))}
            print(f"  {kind:7} {r['opened_per_s']:>8,.0f}/s opened, {r['held']} held: {100 * r['up_share']:.1f} % of {r['units']} new units are up, "
                  f"p50 {r['p50_s'] or 0:.3f} s, p99 {r['p99_s'] or 0:.3f} s; {r['seconds']:.1f} s: {words}", flush=True)
    finally:
        for error in bench.clean():
            print(error, file=sys.stderr)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


main()
