#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench/ng/flood.py [--seconds S] [--rate N] [--from] [--only KIND,...]: what a good proxy's requests get beside a flood of datagrams to
the ng port. The proxy asks as Kamailio's module does: an answer within 500 ms, or once more under the same cookie. The flood comes by the
same wire: from a stranger, from a source that [ng] from names, or from the proxy's own address and another port. --from: the configuration
has [ng] from (else anybody may ask). Media are not looked at: tests/system/edge_flood.py. Needs root; leaves nothing behind."""

import argparse
import json
import os
import select
import socket
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "tests/lib")]
import netns  # noqa: E402
from frames import ipv4, mac, udp  # noqa: E402
from harness import Network, Test  # noqa: E402
from load import Load  # noqa: E402
from ng import decode, encode  # noqa: E402
from peer import sdp  # noqa: E402

NG, PROXY, OTHER, STRANGER = "198.51.100.1", "198.51.100.10", "198.51.100.20", "198.51.100.66"
KINDS = {  # name: (what is sent, by whom)
    "none": None, "garbage": ("garbage", STRANGER), "queries": ("queries", STRANGER), "offers": ("offers", STRANGER),
    "garbage-known": ("garbage", OTHER), "queries-known": ("queries", OTHER), "offers-known": ("offers", OTHER),
    "garbage-same": ("garbage", PROXY), "queries-same": ("queries", PROXY), "offers-same": ("offers", PROXY)}


def datagrams(what, source, count=20_000):
    """Each with a cookie, and offers with a call, of its own."""
    if what == "garbage":
        return [os.urandom(64) for _ in range(256)]
    if what == "queries":
        return [b"q%d " % i + encode({"command": "query", "call-id": f"no-call-{i}"}) for i in range(count)]
    return [b"o%d " % i + encode({"command": "offer", "call-id": f"flood-{i}", "from-tag": "x", "sdp": sdp(source, 6000),
                                  "received-from": ["IP4", source]}) for i in range(count)]


def flood(bench, net, what, source, seconds, rate):
    head = mac(net.gw, "core0") + mac(net.core, "core0") + b"\x08\0"
    file = bench.dir / "flood.hex"
    file.write_text("\n".join((head + ipv4(source, NG, 17, udp(9000, 2223, body))).hex() for body in datagrams(what, source)) + "\n")
    return Load("--frames", file, "--interface", "core0", "--from-netns", net.core.name, *(["--rate", rate] if rate else ["--flat-out"]),
                "--seconds", seconds, cpu=0, nice=10)


class Proxy:
    """Offers and deletes at a steady rate, on some sockets in turn; one thread."""

    def __init__(self, space, rate, seconds):
        self.sockets = netns.inside(space.name, lambda: [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(4)])
        for s in self.sockets:
            s.bind((PROXY, 0))
            s.connect((NG, 2223))
            s.setblocking(False)
        self.rate, self.seconds = rate, seconds
        self.times, self.asked, self.again, self.failed, self.refused = [], 0, 0, 0, 0
        self.waiting = {}  # cookie: [datagram, socket, first sent, sent, tries]

    def send(self, number, command):
        cookie = f"{os.getpid()}_{number}_{command}".encode()
        request = {"command": command, "call-id": f"good-{os.getpid()}-{number}", "from-tag": "a"}
        if command == "offer":
            request |= {"sdp": sdp(PROXY, 6000), "received-from": ["IP4", PROXY]}
        s = self.sockets[number % len(self.sockets)]
        self.waiting[cookie] = [cookie + b" " + encode(request), s, time.monotonic(), time.monotonic(), 1, number, command]
        self.asked += 1
        s.send(self.waiting[cookie][0])

    def take(self, data):
        cookie, _, rest = data.partition(b" ")
        one = self.waiting.pop(cookie, None)
        if one is None:
            return
        self.times.append(time.monotonic() - one[2])
        reply = decode(rest)
        if reply["result"] != "ok":
            self.refused += 1
            self.reason = reply
        if one[6] == "offer":
            self.send(one[5], "delete")

    def run(self):
        begin, number = time.monotonic(), 0
        while time.monotonic() < begin + self.seconds or self.waiting:
            while time.monotonic() < begin + self.seconds and time.monotonic() - begin > number / self.rate:
                number += 1
                self.send(number, "offer")
            for s in select.select(self.sockets, [], [], 0.002)[0]:
                try:
                    self.take(s.recv(65536))
                except OSError:
                    pass
            now = time.monotonic()
            for cookie, one in list(self.waiting.items()):
                if now - one[3] > 0.5:
                    if one[4] == 2:
                        del self.waiting[cookie]
                        self.failed += 1
                    else:
                        one[3], one[4] = now, 2
                        self.again += 1
                        one[1].send(one[0])
        times = sorted(self.times) or [float("nan")]
        return {"asked": self.asked, "answered_share": len(self.times) / self.asked, "first_try_share": 1 - self.again / self.asked, "refused": self.refused,
                "p50_ms": 1000 * times[len(times) // 2], "p99_ms": 1000 * times[int(len(times) * 0.99)]}


def measure(bench, net, args, kind):
    gw = bench.gateway(net, kamailio=False, start=False)
    names = f'\nfrom = ["{PROXY}", "{OTHER}"]' if args.known else ""
    text = Path(gw.controlplane_config).read_text()
    Path(gw.controlplane_config).write_text(text.replace('listen = ["127.0.0.1:2223"]', f'listen = ["127.0.0.1:2223", "{NG}:2223"]{names}'))
    gw.start()
    try:
        time.sleep(1)
        running = flood(bench, net, *KINDS[kind], args.seconds + 2, args.flood) if KINDS[kind] else None
        time.sleep(1)
        found = Proxy(net.core, args.rate, args.seconds).run()
        sent = running.result()["rate_sent"] if running else 0.0
        counts = gw.ctl.control_totals()
        return {"flood": kind, "from": bool(args.known), "flood_per_s": sent, **found,
                "counters": {n: counts[n] for n in counts if n.startswith("ng_") and counts[n]}}
    finally:
        gw.stop()


def main():
    parser = argparse.ArgumentParser(prog="bench/ng/flood.py", description="Good ng requests beside a flood.")
    parser.add_argument("--seconds", type=float, default=5, help="of each flood (default 5)")
    parser.add_argument("--rate", type=float, default=50, help="calls a second of the good proxy (default 50)")
    parser.add_argument("--flood", type=float, default=0, help="datagrams a second (default: as many as one CPU can send)")
    parser.add_argument("--from", dest="known", action="store_true", help="[ng] from names the proxy and one other")
    parser.add_argument("--only", default=",".join(KINDS), help=f"some of {', '.join(KINDS)}")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    bench, rows = Test("ng flood"), []
    try:
        net = Network(bench.prefix, ue2=False)
        bench.defer(net.delete)
        net.core.address("core0", f"{OTHER}/24", f"{STRANGER}/24")
        for kind in args.only.split(","):
            r = measure(bench, net, args, kind)
            rows.append(r)
            print(f"  {kind:14} {r['flood_per_s']:>9,.0f}/s: {r['asked']} asked, {100 * r['answered_share']:6.2f} % answered ({100 * r['first_try_share']:.2f} % at "
                  f"the first try), {r['refused']} refused, p50 {r['p50_ms']:.1f} ms, p99 {r['p99_ms']:.1f} ms  {r['counters']}", flush=True)
    finally:
        for error in bench.clean():
            print(error, file=sys.stderr)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


main()
