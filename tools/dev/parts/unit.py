# SPDX-License-Identifier: Apache-2.0
"""Unit tests by meson: sanitized all of them, plain those whose suite says that they mean something of the programs as they run
(counts, memory that is wiped, kills between two instructions of the optimised code)."""

import json
import os
import subprocess
import tempfile
import xml.etree.ElementTree as xml
from pathlib import Path

from parts.common import JOBS, ROOT, build, results, run, say, stopping

DIRECTORY = {"sanitize": "build-asan", "plain": "build"}
OPTIONS = {"sanitize": ["--sanitize"], "plain": []}
# A limit finds what hangs; a slow machine is no failure.
PATIENCE = {"sanitize": "8", "plain": "4"}


def names(part):
    """Name -> ninja targets; None where the directory is not configured yet."""
    directory = ROOT / DIRECTORY[part]
    if not (directory / "build.ninja").exists():
        return None
    out = subprocess.run(["meson", "introspect", "--tests", str(directory)], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    try:
        tests = json.loads(out)
    except ValueError:
        return None
    return {t["name"]: _targets(t, directory) for t in tests if part != "plain" or "tandem:plain" in t["suite"] or "plain" in t["suite"]}


def _targets(test, directory):
    """What meson names by its place in the build directory, relative where it is an argument."""
    inside = [os.path.relpath(word, directory) for word in test["cmd"] if word.startswith(str(directory) + "/")]
    inside += [word for word in test["cmd"] if "/" in word and word[0] not in "-/"]
    return [t for t in inside if not t.startswith("..")]


def configure(part):
    return build(f"{part} configure", *OPTIONS[part], "--unity", "--configure")


def unit(part, pattern, give_way=None):
    chosen = _chosen(part, pattern)
    if not chosen:
        return
    targets = sorted({t for targets in chosen.values() for t in targets})
    if not build(f"{part} build", *OPTIONS[part], "--unity", *targets, give_way="compile" if give_way else None):
        return
    if not stopping.is_set():
        execute(part, sorted(chosen), give_way)


def _chosen(part, pattern):
    if names(part) is None and not configure(part):
        return {}
    return {name: targets for name, targets in (names(part) or {}).items() if pattern in name}


def execute(part, chosen, give_way=None):
    """meson runs them; its JUnit file names the cases of each gtest program."""
    directory = DIRECTORY[part]
    log = ROOT / directory / "meson-logs/testlog.junit.xml"
    log.unlink(missing_ok=True)
    done = run(f"{part} tests", ["meson", "test", "-C", directory, "--no-rebuild", "--num-processes", str(JOBS), "--print-errorlogs", "--quiet",
                                 "--timeout-multiplier", PATIENCE[part], *chosen], capture=False, give_way=give_way,
               env={"ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0", "UBSAN_OPTIONS": "print_stacktrace=1"})
    before = len(results.failed)
    kind = "sanitized " if part == "sanitize" else ""
    cases = _junit(log, kind) if log.exists() else 0
    if done.status != 0 and len(results.failed) == before:
        results.add(f"{kind}unit tests", "failed", f"meson test ended with {done.status}")
    if len(results.failed) > before:
        print(f"     what they said: {ROOT / directory / 'meson-logs/testlog.txt'}", flush=True)
    say(f"{kind}unit tests: {cases} cases")


def _junit(log, kind):
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

def threads(give_way=None):
    """The data plane's workers and control thread on ring ports: any report of TSan fails. TSan wants addresses that are not random."""
    if not build("threads build", "--threads", give_way="compile" if give_way else None):
        return
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        fixed = ["setarch", "--addr-no-randomize"]
        if subprocess.run([*fixed, "true"], capture_output=True, check=False).returncode != 0:
            fixed = []  # not permitted here; with few random bits TSan starts all the same
        done = run("threads tests", [*fixed, ROOT / "build-tsan/dataplane/pipeline/threads_test", f"--gtest_output=json:{out.name}"],
                   limit=600, grace=1, give_way=give_way,
                   env={"TSAN_OPTIONS": f"exitcode=66 suppressions={ROOT / 'tools/dev/tsan.suppressions'}"})
        try:
            suites = json.loads(Path(out.name).read_text())["testsuites"]
        except ValueError:
            suites = []
    cases = [(f"TSan {s['name']}.{c['name']}", c) for s in suites for c in s["testsuite"]]
    for name, case in cases:
        results.add(name, "failed" if case.get("failures") else "passed")
    reports = done.out.count("WARNING: ThreadSanitizer")
    if reports or done.status != 0 or not cases:
        print("\n".join(done.out.splitlines()[-80:]))
        results.add("TSan threads", "failed", "does not end" if done.late else f"{reports} reports, ended with {done.status}")
    say(f"threads: {len(cases)} cases, {reports} reports of TSan")
