#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Behind tools/soak: system tests that have a count (`# count: 10000 sequences` in the script's head), run with the whole of it."""

import argparse
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/lib"))
from scale import heads  # noqa: E402


def soaks():
    """Name -> head of every script that has a count."""
    return {head.name: head for head in heads(ROOT / "tests/system") if head.count}


def show(known):
    width = max(map(len, known))
    for name, head in sorted(known.items()):
        print(f"{name:{width}}  {head.count:>9,} {head.of:12} {head.title}")


def run(head, seed, count):
    print(f"soak {head.name}: {count:,} {head.of}, seed {seed}", flush=True)
    begin = time.monotonic()
    environment = {"TANDEM_BUILD": str(ROOT / "build"), **os.environ, "TANDEM_COUNT": str(count), "TANDEM_SEED": str(seed)}
    status = subprocess.run([sys.executable, str(head.path)], cwd=ROOT, env=environment, check=False).returncode
    result = {0: "passed", 77: "skipped"}.get(status, "failed")
    print(f"soak {head.name}: {result} after {(time.monotonic() - begin) / 60:.1f} minutes; again: tools/soak {head.name} "
          f"--seed {seed} --count {count}", flush=True)
    return 0 if status in (0, 77) else 1


def main():
    p = argparse.ArgumentParser(prog="tools/soak", description="A system test with its whole count; tools/test runs a twentieth.")
    p.add_argument("name", nargs="?", help="which; --list names them")
    p.add_argument("--list", action="store_true", help="names, counts, what each shows")
    p.add_argument("--seed", type=int, help="default: a new one, printed")
    p.add_argument("--count", type=int, help="default: the script's own")
    p.add_argument("--check", action="store_true", help=argparse.SUPPRESS)  # is there such a test? Asked before anything is installed
    o = p.parse_args()
    known = soaks()
    if o.list or not o.name:
        show(known)
        return 0 if o.list else 2
    if o.name not in known:
        print(f"soak: there is no {o.name}; there are {', '.join(sorted(known))}", file=sys.stderr)
        return 2
    if o.check:
        return 0
    if o.count is not None and o.count < 1:
        p.error("--count is 1 or more")
    return run(known[o.name], secrets.randbelow(1 << 31) if o.seed is None else o.seed, o.count or known[o.name].count)


if __name__ == "__main__":
    sys.exit(main())
