#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Behind tools/test: builds, then runs unit tests (plain, sanitized, and those of threads under TSan), lint, fuzz targets for a short while and the system
tests, some side by side. The closing line stands alone: N passed, N failed, N skipped."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as xml
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/lib"))
PARTS = ["unit", "sanitize", "threads", "lint", "fuzz", "system"]
FUZZ_SECONDS = int(os.environ.get("TANDEM_FUZZ_SECONDS", "10"))
SIDE_BY_SIDE = int(os.environ.get("TANDEM_JOBS", "2"))
running, stopping = set(), threading.Event()  # system tests, for whoever ends the run


class Results:
    """Counts; says failures and skips as they come."""

    def __init__(self):
        self.passed, self.failed, self.skipped = 0, [], []
        self._lock = threading.Lock()

    def add(self, name, result, reason=""):
        with self._lock:
            if result == "passed":
                self.passed += 1
            elif result == "skipped":
                self.skipped.append((name, reason))
                print(f"SKIP {name}: {reason or 'no reason given'}", flush=True)
            else:
                self.failed.append((name, reason))
                print(f"FAIL {name}" + (f": {reason}" if reason else ""), flush=True)


def say(text):
    print(f"== {text}", flush=True)


def build(*options):
    return subprocess.run([str(ROOT / "tools/build"), *options], check=False).returncode == 0


def in_dir(directory):
    return {**os.environ, "TANDEM_BUILD": str(directory)}


# -- unit tests by meson ---------------------------------------------------------

def unit(results, pattern, directory="build"):
    """meson runs them; its JUnit file names the cases of each gtest program."""
    begin = time.monotonic()
    log = ROOT / directory / "meson-logs/testlog.junit.xml"
    log.unlink(missing_ok=True)
    command = ["meson", "test", "-C", directory, "--no-rebuild", "--num-processes", str(os.cpu_count()), "--print-errorlogs", "--quiet",
               # A limit finds what hangs; a slow machine is no failure.
               "--timeout-multiplier", "3" if directory == "build" else "6"]
    if pattern:
        listed = subprocess.run(["meson", "test", "-C", directory, "--list", "--no-rebuild"], cwd=ROOT, capture_output=True, text=True,
                                check=False).stdout
        names = [n.rpartition("/")[2].strip() for n in listed.splitlines() if pattern in n]
        if not names:
            return
        command += names
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    kind = "sanitized " if directory != "build" else ""
    before = len(results.failed)
    cases = _junit(results, log, kind) if log.exists() else 0
    if done.returncode != 0 and len(results.failed) == before:
        results.add(f"{kind}unit tests", "failed", f"meson test ended with {done.returncode}")
    say(f"{kind}unit tests: {cases} cases in {time.monotonic() - begin:.0f} s")


def _junit(results, log, kind):
    cases = 0
    for suite in xml.parse(log).getroot().iter("testsuite"):
        room = suite.get("name", "?")
        for case in suite.iter("testcase"):
            cases += 1
            name = f"{kind}{room}.{case.get('name')}"
            skipped = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                results.add(name, "failed")
            elif skipped is not None or case.get("status") == "notrun" or case.get("result") == "skipped":
                reason = "" if skipped is None else (skipped.get("message") or skipped.text or "")
                results.add(name, "skipped", " ".join(reason.split())[:200] or "the test says so in its log")
            else:
                results.add(name, "passed")
    return cases


# -- several threads under ThreadSanitizer -----------------------------------------

def threads(results, pattern):
    """The data plane's workers and control thread on ring ports: any report of TSan fails. TSan wants addresses that are not random."""
    if pattern and pattern not in "threads":
        return
    if not build("--threads"):
        results.add("TSan build", "failed")
        return
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        fixed = ["setarch", "--addr-no-randomize"]
        if subprocess.run([*fixed, "true"], capture_output=True, check=False).returncode != 0:
            fixed = []  # not permitted here; with few random bits TSan starts all the same
        command = [*fixed, str(ROOT / "build-tsan/dataplane/pipeline/threads_test"), f"--gtest_output=json:{out.name}"]
        options = f"exitcode=66 suppressions={ROOT / 'tools/dev/tsan.suppressions'}"
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=600, check=False,
                                  env={**os.environ, "TSAN_OPTIONS": options})
        except subprocess.TimeoutExpired:
            results.add("TSan threads", "failed", "does not end")
            return
        try:
            suites = json.loads(Path(out.name).read_text())["testsuites"]
        except ValueError:
            suites = []
    cases = [(f"TSan {s['name']}.{c['name']}", c) for s in suites for c in s["testsuite"]]
    for name, case in cases:
        results.add(name, "failed" if case.get("failures") else "passed")
    reports = done.stderr.count("WARNING: ThreadSanitizer") + done.stdout.count("WARNING: ThreadSanitizer")
    if reports or done.returncode != 0 or not cases:
        print("\n".join((done.stdout + done.stderr).splitlines()[-80:]))
        results.add("TSan threads", "failed", f"{reports} reports, ended with {done.returncode}")
    say(f"threads: {len(cases)} cases, {reports} reports of TSan")


# -- lint ------------------------------------------------------------------------

def lint(results, pattern):
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        names = [n for n in ("layers", "licences", "paths", "headers", "format", "spelling", "sizes", "scripts") if not pattern or pattern in n]
        if not names:
            return
        subprocess.run([sys.executable, str(ROOT / "tools/lint"), *names, "--json", out.name], cwd=ROOT, check=False)
        try:
            rows = json.loads(Path(out.name).read_text())
        except ValueError:
            rows = [{"name": "lint", "result": "failed", "reason": "tools/lint crashed"}]
    for row in rows:
        results.add(row["name"], row["result"], row["reason"])


# -- fuzz targets ----------------------------------------------------------------

def fuzz(results, pattern):
    targets = sorted(p.stem for p in (ROOT / "tests/fuzz").glob("*_fuzz.cpp") if pattern in p.stem)
    if not targets:
        return
    if not build("--fuzz"):
        results.add("fuzz targets build", "failed")
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda t: _fuzz_one(results, t), targets))
    say(f"fuzz: {len(targets)} targets, {FUZZ_SECONDS} s each")


def _fuzz_one(results, target):
    """New inputs go to a scratch corpus: a test changes no file of the checkout."""
    seeds = ROOT / "tests/fuzz/corpus" / target.removesuffix("_fuzz")
    with tempfile.TemporaryDirectory(prefix="tandem-fuzz-") as scratch:
        command = [str(ROOT / "build-fuzz/tests/fuzz" / target), f"-max_total_time={FUZZ_SECONDS}", "-timeout=10", "-rss_limit_mb=2048",
                   f"-artifact_prefix={scratch}/", "-print_final_stats=1", "-seed=1", scratch, *([str(seeds)] if seeds.is_dir() else [])]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=FUZZ_SECONDS + 120, check=False)
        except subprocess.TimeoutExpired:
            results.add(f"fuzz {target}", "failed", "does not end")
            return
        runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        if done.returncode == 0 and runs and int(runs[1]) > 0:
            print(f"ok   fuzz {target}: {runs[1]} runs", flush=True)
            results.add(f"fuzz {target}", "passed")
            return
        crash = next((p for p in Path(scratch).iterdir() if p.name.startswith(("crash-", "oom-", "timeout-", "leak-"))), None)
        if crash:
            kept = Path(tempfile.gettempdir()) / f"tandem-{target}-{crash.name}"
            kept.write_bytes(crash.read_bytes())
            print(f"  input kept in {kept}")
        print("\n".join(done.stderr.splitlines()[-40:]))
        results.add(f"fuzz {target}", "failed", f"ended with {done.returncode}")


# -- system tests ----------------------------------------------------------------

def system(results, pattern):
    """tests/system/*.py, long ones first, some at once. `# timeout: N` and `# alone` in a script's first lines are obeyed."""
    if os.geteuid() != 0:
        results.add("system tests", "skipped", "need root for network namespaces; run tools/test as root")
        return
    tests = [t for t in map(_read, sorted((ROOT / "tests/system").glob("*.py"))) if pattern in t["name"]]
    tests.sort(key=lambda t: -t["timeout"])
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        list(pool.map(lambda t: _system_one(results, t), [t for t in tests if not t["alone"]]))
    for t in tests:
        if t["alone"]:
            _system_one(results, t)


def _read(path):
    head = "".join(path.read_text().splitlines(keepends=True)[:12])
    limit = re.search(r"^# timeout: (\d+)", head, re.M)
    return {"name": path.stem, "path": path, "timeout": int(limit[1]) if limit else 120, "alone": bool(re.search(r"^# alone", head, re.M))}


def _system_one(results, test):
    if stopping.is_set():
        return
    process = subprocess.Popen([sys.executable, str(test["path"])], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               errors="replace", env=in_dir(os.environ.get("TANDEM_BUILD", ROOT / "build")), cwd=ROOT)
    running.add(process)
    late = False
    try:
        out, _ = process.communicate(timeout=test["timeout"])
    except subprocess.TimeoutExpired:
        late = True
        process.send_signal(signal.SIGTERM)  # it cleans up
        try:
            out, _ = process.communicate(timeout=40)
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
    running.discard(process)
    lines = [x for x in out.splitlines() if x.strip()]
    if process.returncode == 0 and not late:
        print("\n".join(lines), flush=True)
        results.add(test["name"], "passed")
    elif process.returncode == 77:
        reason = next((x.partition(": ")[2] for x in lines if x.startswith("SKIP")), lines[-1] if lines else "")
        results.add(f"system {test['name']}", "skipped", reason)
    else:
        print("\n".join(lines[-60:]), flush=True)
        results.add(f"system {test['name']}", "failed", f"no end within {test['timeout']} s" if late else f"exit status {process.returncode}")


def main():
    p = argparse.ArgumentParser(prog="tools/test", description="Builds and tests Tandem.")
    p.add_argument("part", nargs="?", default="all", choices=["all", *PARTS])
    p.add_argument("pattern", nargs="?", default="", help="only tests whose name contains it")
    o = p.parse_args()
    parts = PARTS if o.part == "all" else [o.part]
    begin, results = time.monotonic(), Results()

    def stop(number, _):
        stopping.set()
        for process in list(running):  # they clean up
            process.send_signal(signal.SIGTERM)
        raise KeyboardInterrupt(number)

    signal.signal(signal.SIGTERM, stop)
    try:
        if {"unit", "lint", "system"} & set(parts) and not os.environ.get("TANDEM_BUILD") and not build():
            results.add("build", "failed")
            parts = []
        for part in parts:
            say(part)
            if part == "unit":
                unit(results, o.pattern)
            elif part == "sanitize":
                if build("--sanitize"):
                    unit(results, o.pattern, "build-asan")
                else:
                    results.add("sanitized build", "failed")
            elif part == "threads":
                threads(results, o.pattern)
            elif part == "lint":
                lint(results, o.pattern)
            elif part == "fuzz":
                fuzz(results, o.pattern)
            else:
                system(results, o.pattern)
    except KeyboardInterrupt:
        results.add("the run", "failed", "interrupted")
    say(f"all in {(time.monotonic() - begin) / 60:.1f} minutes")
    for title, rows in (("skipped", results.skipped), ("failed", results.failed)):
        for name, reason in rows:
            print(f"  {title}: {name}" + (f": {reason}" if reason else ""))
    if results.passed + len(results.failed) + len(results.skipped) == 0:
        results.add("selection", "failed", "no test has that name")
    print(f"{results.passed} passed, {len(results.failed)} failed, {len(results.skipped)} skipped", flush=True)
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
