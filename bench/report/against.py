# SPDX-License-Identifier: Apache-2.0
"""bench/run --against BUILD_DIR: this checkout's programs beside those of another build directory, in turns in one run: ratios with their
spread. A packet's way in instructions (callgrind counts them, the same on a busy machine) with cycles beside, calls a second through ng."""

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "ng"), str(HERE.parent.parent / "tests/lib")]

from process import ProcessError  # noqa: E402
from programs import NotBuilt  # noqa: E402

PATH_BENCH = "bench/path/path_bench"
SHAPES = (("AEAD_AES_128_GCM", "srtp-rtp"), ("AEAD_AES_128_GCM", "rtp-srtp"), ("AES_CM_128_HMAC_SHA1_80", "srtp-rtp"), ("AES_CM_128_HMAC_SHA1_80", "rtp-srtp"))
PAYLOAD, FLOWS, BATCH = 160, 1000, 4032
FEW, MANY = 4, 12  # batches: what both runs do once (start, keys, warming up) goes out of the difference


class Failed(Exception):
    pass


def path_run(build, shape, batches, json_to=None, under=()):
    suite, direction = shape
    command = [*under, str(build / PATH_BENCH), "--engine", "tandem", "--suite", suite, "--direction", direction, "--payload", str(PAYLOAD), "--flows",
               str(FLOWS), "--batches", str(batches), *(["--json", str(json_to)] if json_to else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done


def instructions(build, shape):
    """A packet's, by callgrind. Valgrind's processor has no AVX-512: the engine takes its AVX2 ways, in both builds."""
    counted = []
    for batches in (FEW, MANY):
        said = path_run(build, shape, batches, under=("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")).stderr
        found = re.search(r"Collected : (\d+)", said)
        if not found:
            raise Failed(f"callgrind counted nothing: {said.strip()[-300:]}")
        counted.append(int(found[1]))
    return (counted[1] - counted[0]) / (BATCH * (MANY - FEW))


def cycles(build, shape, batches):
    with tempfile.TemporaryDirectory(prefix="tandem-against-") as scratch:
        out = Path(scratch) / "rows.json"
        path_run(build, shape, batches, out)
        rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    return next(r["value"] for r in rows if r["engine"] == "tandem" and r["unit"] == "tsc")


def say(name, unit, other, own, spread_of_pairs=True):
    """Medians, and the ratio own / other: of the pairs of turns its median and its extremes."""
    ratios = [b / a for a, b in zip(other, own)]
    ratio, low, high = statistics.median(ratios), min(ratios), max(ratios)
    spread = f"{low:.3f} to {high:.3f}" if spread_of_pairs else "-"
    print(f"{name:48} {statistics.median(other):>12,.1f} {statistics.median(own):>12,.1f} {unit:13} {ratio:>7.3f}  {spread}", flush=True)
    return {"name": name, "unit": unit, "other": other, "own": own, "ratio": ratio, "lowest": low, "highest": high}


def paths(builds, args):
    found = []
    for shape in SHAPES[:2] if args.quick else SHAPES:
        counted, timed = ([], []), ([], [])
        for turn in range(args.rounds):
            for which, build in in_turn(builds, turn):
                timed[which].append(cycles(build, shape, 20))
        for turn in range(min(args.rounds, 2)):  # whether they count the same twice
            for which, build in in_turn(builds, turn):
                counted[which].append(instructions(build, shape))
        name = f"path {shape[0]} {shape[1]}"
        found.append(say(name, "instructions", *counted))
        found.append(say(name, "cycles", *timed))
    return found


def in_turn(builds, turn):
    """Who goes first changes: whatever the first one of a pair leaves behind (caches, frequency) meets both."""
    return list(enumerate(builds))[:: 1 if turn % 2 == 0 else -1]


def one_trial(ng_run, bench, build, own):
    """The relay of that build under this one's load."""
    relay = ng_run.Tandem(bench)
    os.environ["TANDEM_BUILD"] = str(build)
    try:
        relay.start()
        os.environ["TANDEM_BUILD"] = str(own)
        return ng_run.one_trial(bench, relay, ["--metadata"])
    finally:
        os.environ["TANDEM_BUILD"] = str(own)
        relay.stop()


def calls(builds, args):
    import run as ng_run  # bench/ng  # noqa: PLC0415  wants root and namespaces
    from harness import Test  # noqa: PLC0415
    ng = ng_run.arguments(["--seconds", "2" if args.quick else "5", "--only", "plain", "--relays", "tandem"])
    os.environ.pop("TANDEM_INSTALLED", None)
    test, found = Test("against"), []
    try:
        bench = ng_run.Bench(ng, test)
        rates, cost = ([], []), ([], [])
        for turn in range(args.rounds):
            for which, build in in_turn(builds, turn):
                trial = one_trial(ng_run, bench, build, builds[1])
                if trial.failed:
                    raise Failed(f"{build}: {trial.failed} calls failed or were asked twice")
                rates[which].append(trial.rate)
                cost[which].append(trial.cpu_us)
        found = [say("ng calls set up and ended", "calls/s", *rates), say("ng CPU time a call", "us", *cost)]
    finally:
        for error in test.clean():
            print(f"against: at the end: {error}", file=sys.stderr)
    shutil.rmtree(test.dir, ignore_errors=True)
    return found


STARTING = (NotBuilt, ProcessError)  # a build's programs do not start: perhaps they are of two releases, or know another configuration


def compare(args, own):
    other = args.against.resolve()
    builds = (other, own)
    wanted = {"path": [PATH_BENCH], "ng": ["dataplane/app/tandem-dataplane", "controlplane/app/tandem-controlplane"]}
    for build in builds:
        for program in (p for name in args.names for p in wanted[name]):
            if not (build / program).exists():
                raise Failed(f"{build} has no {program}: build it there, and both in the same way (tools/build --bench)")
    if not shutil.which("valgrind"):
        raise Failed("valgrind is not installed (tools/dev/install-deps tests)")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("against: ended by a signal"))
    print(f"{'ratio: this build / ' + str(args.against):48} {'that':>12} {'this':>12} {'':13} {'ratio':>7}  lowest to highest of {args.rounds} pairs")
    chosen = {"path": paths, "ng": calls}
    return [row for name in args.names for row in chosen[name](builds, args)]


__all__ = ["Failed", "STARTING", "compare"]
