#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench/wire/run.py [--quick] [--json FILE] [--only wire,flood,overload] [--nice N] [--streams N] [--payload B]: Tandem and rtpengine
on the wire (veth between network namespaces, AF_XDP), with the same streams, load and machine, one after the other in one run.
tandem-load is on CPU 0, the relay on CPU 1. Needs root; leaves nothing behind. bench/wire/README.md says what each row means."""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "tests/lib")]
import floods  # noqa: E402
import netns  # noqa: E402
import overload  # noqa: E402
import wire  # noqa: E402
from harness import Network, Test  # noqa: E402
from process import ProcessError  # noqa: E402
from programs import NotBuilt, program  # noqa: E402

PARTS = {"wire": wire.measure, "overload": overload.measure, "flood": floods.measure}


class Bench:
    """One network, rows as they come, and what was asked for."""

    def __init__(self, args, test):
        self.quick, self.streams, self.payload, self.nice = args.quick, args.streams, args.payload, args.nice
        self.test, self.rows, self._number = test, [], 0
        self.dataplane = {"idle": args.idle}
        self.net = Network(test.prefix, ue2=False)
        test.defer(self.net.delete)

    def number(self):
        self._number += 1
        return self._number

    def row(self, bench, engine, suite, direction, value, unit, **more):
        row = {"bench": bench, "engine": engine, "suite": suite, "direction": direction, "payload": self.payload, "flows": self.streams,
               "value": value, "unit": unit, **{k: v for k, v in more.items() if v is not None}}
        self.rows.append(row)
        words = " ".join(str(x) for x in (bench, engine, suite, direction, f"offered {row['offered']:,.0f}" if "offered" in row else "",
                                          f"p{row['percentile']}" if "percentile" in row else "") if x not in ("", "-"))
        print(f"  {words:75} {value:>12,.2f} {unit}  {row.get('note', '')}".rstrip(), flush=True)
        return row


def arguments():
    parser = argparse.ArgumentParser(prog="bench/wire/run.py", description="Tandem and rtpengine on the wire, in one run.")
    parser.add_argument("--quick", action="store_true", help="shorter trials, fewer cases: about a minute and a half")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    parser.add_argument("--only", metavar="NAME[,NAME]", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--streams", type=int, default=100, help="streams at once (default 100)")
    parser.add_argument("--payload", type=int, default=160, help="bytes of RTP payload (default 160)")
    parser.add_argument("--nice", type=int, default=0, help="niceness of relays and load alike, for a machine with other work (default 0)")
    parser.add_argument("--idle", default="adaptive", help="Tandem's idle setting (default adaptive)")
    args = parser.parse_args()
    if unknown := [n for n in args.only.split(",") if n not in PARTS]:
        parser.error(f"nothing is called {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return args


def main():
    args = arguments()
    if os.geteuid() != 0:
        sys.exit("bench/wire: needs root for network namespaces")
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("bench/wire: needs two CPUs, one for the load and one for the relay")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench/wire: ended by a signal"))
    netns.remove_leftovers()
    test = Test("wire")
    status = 0
    bench = None
    try:
        for name in ("tandem-dataplane", "tandem-load", "contract"):
            program(name)
        bench = Bench(args, test)
        for name in args.only.split(","):
            PARTS[name](bench)
    except (NotBuilt, FileNotFoundError, RuntimeError, netns.NetError, ProcessError) as wrong:
        print(f"bench/wire: {wrong}", file=sys.stderr)
        status = 1
    finally:
        for error in test.clean():
            print(f"bench/wire: at the end: {error}", file=sys.stderr)
        if bench and args.json:
            args.json.write_text(json.dumps({"rows": bench.rows}, indent=1) + "\n")
    if status == 0:
        import shutil
        shutil.rmtree(test.dir, ignore_errors=True)
    else:
        print(f"bench/wire: logs are in {test.dir}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
