#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Behind tools/test: builds, then runs unit tests (sanitized; some plain; those of threads under TSan), lint, fuzz targets for a short
while and the system tests. System tests mostly wait: they run side by side while the rest is compiled and computed. The closing line
stands alone: N passed, N failed, N skipped."""

import argparse
import difflib
import signal
import sys
import threading

from parts import fuzz, lint, system, unit
from parts.common import end_all, results, say, times

PARTS = {"plain": "unit tests that mean something of the programs as they run, not sanitized", "sanitize": "all unit tests with ASan and UBSan",
         "threads": "the workers with ThreadSanitizer", "lint": "tools/lint", "fuzz": "fuzz targets, for some seconds each",
         "system": "the real programs in network namespaces"}
GROUPS = {"all": list(PARTS), "unit": ["plain", "sanitize"]}


def names(part):
    """Of every test of the part; None where they are not known before it is configured."""
    if part in ("plain", "sanitize"):
        found = unit.names(part)
        return found if found is None else sorted(found)
    return {"lint": lint.names, "fuzz": fuzz.names, "system": system.names, "threads": lambda: ["threads"]}[part]()


def show(parts, pattern):
    for part in parts:
        print(f"{part}: {PARTS[part]}")
        found = names(part)
        if found is None and unit.configure(part):
            found = names(part)
        for name in found or []:
            if pattern in name:
                print(f"  {name}")


def unknown(parts, pattern):
    """A sentence where no test of these parts has such a name."""
    known = [names(part) for part in parts]
    if not pattern or any(n is None for n in known):
        return ""
    every = sorted({n for some in known for n in some})
    if any(pattern in n for n in every):
        return ""
    near = difflib.get_close_matches(pattern, every, 5, 0.5)
    return (f"tools/test: no test of {', '.join(parts)} has '{pattern}' in its name" +
            (f"; near it: {', '.join(near)}" if near else "") + "; tools/test --list names them all")


def compute(parts, pattern, give_way=None):
    """What needs the processor, one after the other; it gives way where system tests run beside it."""
    if "lint" in parts:
        lint.lint(pattern, give_way)
    for part in ("sanitize", "plain"):
        if part in parts:
            unit.unit(part, pattern, give_way)
    if "fuzz" in parts:
        fuzz.fuzz(pattern, give_way)
    if "threads" in parts and pattern in "threads":
        unit.threads(give_way)


def everything(parts, pattern):
    waits = "system" in parts and system.allowed() and system.prepare(pattern)
    lane = threading.Thread(target=system.beside, args=(pattern,)) if waits else None
    if lane:
        lane.start()
    try:
        compute(parts, pattern, "test" if lane else None)
    finally:
        if lane:
            lane.join()
    if waits:
        system.alone(pattern)


def close():
    times.show()
    for title, rows in (("skipped", results.skipped), ("failed", results.failed)):
        for name, reason in rows:
            print(f"  {title}: {name}" + (f": {reason}" if reason else ""))
    if results.empty():
        results.add("selection", "failed", "no test was run")
    print(f"{results.passed} passed, {len(results.failed)} failed, {len(results.skipped)} skipped", flush=True)
    return 1 if results.failed else 0


def main():
    words = "; ".join(f"{k} ({v})" for k, v in PARTS.items())
    p = argparse.ArgumentParser(prog="tools/test", description="Builds and tests Tandem.",
                                epilog=f"Parts: {words}; unit is plain and sanitize. The count of what takes long is tools/soak's.")
    p.add_argument("part", nargs="?", default="all", help=f"one of {', '.join([*GROUPS, *PARTS])}")
    p.add_argument("pattern", nargs="?", default="", help="only tests whose name contains it; only what they need is built")
    p.add_argument("--list", action="store_true", help="the names of all tests, or of the part's")
    p.add_argument("--check", action="store_true", help=argparse.SUPPRESS)  # is there such a test? Asked before anything is installed
    o = p.parse_args()
    if o.part not in GROUPS and o.part not in PARTS:
        p.error(f"there is no part '{o.part}'; there are {', '.join([*GROUPS, *PARTS])}")
    parts = GROUPS.get(o.part, [o.part])
    if o.list:
        try:
            show(parts, o.pattern)
        except BrokenPipeError:
            sys.stderr.close()  # its reader has seen enough
        return 0
    wrong = unknown(parts, o.pattern)
    if wrong or o.check:
        print(wrong, end="\n" if wrong else "", file=sys.stderr)
        return 2 if wrong else 0

    def stop(*_):
        end_all()
        results.add("the run", "failed", "interrupted")

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    everything(parts, o.pattern)
    return close()


if __name__ == "__main__":
    sys.exit(main())
