# SPDX-License-Identifier: Apache-2.0
"""Fuzz targets for a short while: TANDEM_FUZZ_SECONDS (96) of processor time in all, shared by the targets."""

import os
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from parts.common import JOBS, ROOT, build, results, run, say, stopping

SECONDS = int(os.environ.get("TANDEM_FUZZ_SECONDS", "96"))


def names():
    return sorted(p.stem for p in (ROOT / "tests/fuzz").glob("*_fuzz.cpp"))


def fuzz(pattern, give_way=None):
    targets = [n for n in names() if pattern in n]
    wanted = [f"tests/fuzz/{t}" for t in targets] if pattern else ["fuzz"]
    if not targets or not build("fuzz build", "--sanitize", *wanted, give_way="compile" if give_way else None):
        return
    each = max(1, SECONDS // len(names()))
    with ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(lambda t: _one(t, each, give_way), targets))
    say(f"fuzz: {len(targets)} targets, {each} s each")


def _one(target, seconds, give_way):
    """New inputs go to a scratch corpus: a test changes no file of the checkout."""
    if stopping.is_set():
        return
    seeds = ROOT / "tests/fuzz/corpus" / target.removesuffix("_fuzz")
    with tempfile.TemporaryDirectory(prefix="tandem-fuzz-") as scratch:
        done = run("fuzz", [ROOT / "build-asan/tests/fuzz" / target, f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048",
                            f"-artifact_prefix={scratch}/", "-print_final_stats=1", "-seed=1", scratch, *([seeds] if seeds.is_dir() else [])],
                   limit=seconds + 120, grace=1, give_way=give_way)
        runs = re.search(r"number_of_executed_units: (\d+)", done.out)
        if done.status == 0 and not done.late and runs and int(runs[1]) > 0:
            print(f"ok   fuzz {target}: {runs[1]} runs", flush=True)
            results.add(f"fuzz {target}", "passed")
            return
        _keep(target, Path(scratch))
        print("\n".join(done.out.splitlines()[-40:]))
        results.add(f"fuzz {target}", "failed", "does not end" if done.late else f"ended with {done.status}")


def _keep(target, scratch):
    for p in scratch.iterdir():
        if p.name.startswith(("crash-", "oom-", "timeout-", "leak-")):
            kept = Path(tempfile.gettempdir()) / f"tandem-{target}-{p.name}"
            kept.write_bytes(p.read_bytes())
            print(f"  input kept in {kept}")
            return
