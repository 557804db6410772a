# SPDX-License-Identifier: Apache-2.0
"""A link that loses, doubles, delays and reorders: a user-space bridge between two interfaces of one namespace.
Used instead of `tc netem`: it works on kernels without sch_netem, impairs what AF_XDP sends too (that skips the qdisc), and
its seed makes a run repeatable.   impair.py A B --loss 2 --duplicate 1 --reorder 5 --delay-ms 10 --jitter-ms 5 --seed 1"""

import argparse
import heapq
import json
import random
import select
import signal
import socket
import sys
import time

ETH_P_ALL = 3


def open_interface(name):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)
    s.setsockopt(263, 23, 1)  # PACKET_IGNORE_OUTGOING: our own frames do not come back
    s.bind((name, ETH_P_ALL))
    s.setblocking(False)
    return s


def main():
    p = argparse.ArgumentParser()
    p.add_argument("a")
    p.add_argument("b")
    for name in ("loss", "duplicate", "reorder"):
        p.add_argument(f"--{name}", type=float, default=0.0, help="percent")
    p.add_argument("--delay-ms", type=float, default=0.0)
    p.add_argument("--jitter-ms", type=float, default=0.0)
    p.add_argument("--reorder-ms", type=float, default=25.0, help="how much later a reordered frame comes")
    p.add_argument("--udp-only", action="store_true", help="leave TCP, ARP and the rest alone")
    p.add_argument("--seed", type=int, default=1)
    o = p.parse_args()
    chance = random.Random(o.seed)
    ends = [open_interface(o.a), open_interface(o.b)]
    counts = {"forwarded": 0, "lost": 0, "doubled": 0, "reordered": 0}
    queue, number = [], 0
    running = [True]
    signal.signal(signal.SIGTERM, lambda *_: running.clear())
    print(f"impairing {o.a} <-> {o.b}, seed {o.seed}", flush=True)
    while running:
        wait = max(0.0, queue[0][0] - time.monotonic()) if queue else 0.5
        for ready in select.select(ends, [], [], min(wait, 0.5))[0]:
            other = ends[1] if ready is ends[0] else ends[0]
            while True:
                try:
                    data = ready.recv(65535)
                except BlockingIOError:
                    break
                is_udp = (data[12:14] == b"\x08\x00" and data[23:24] == b"\x11") or \
                    (data[12:14] == b"\x86\xdd" and data[20:21] == b"\x11")
                now, copies = time.monotonic(), 1
                due = now
                if is_udp or not o.udp_only:
                    if chance.random() * 100 < o.loss:
                        counts["lost"] += 1
                        continue
                    if chance.random() * 100 < o.duplicate:
                        counts["doubled"] += 1
                        copies = 2
                    due += (o.delay_ms + chance.uniform(-o.jitter_ms, o.jitter_ms)) / 1000
                    if chance.random() * 100 < o.reorder:
                        counts["reordered"] += 1
                        due += o.reorder_ms / 1000
                for _ in range(copies):
                    heapq.heappush(queue, (due, number, other, data))
                    number += 1
        now = time.monotonic()
        while queue and queue[0][0] <= now:
            _, _, other, data = heapq.heappop(queue)
            try:
                other.send(data)
                counts["forwarded"] += 1
            except OSError:
                counts["lost"] += 1
    print(json.dumps(counts), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
