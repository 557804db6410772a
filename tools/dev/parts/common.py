# SPDX-License-Identifier: Apache-2.0
"""What the parts of tools/test share: results, commands whose time is kept, tools/build."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent.parent
JOBS = os.cpu_count() or 1
# What computes gives way to the system tests beside it, whose packets and timers wait for nobody.
GIVE_WAY = {"compile": ["chrt", "--idle", "0"], "test": ["nice", "-n", "10"]}
stopping = threading.Event()


def say(text):
    print(f"== {text}", flush=True)


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

    def empty(self):
        return self.passed + len(self.failed) + len(self.skipped) == 0


class Times:
    """Of each part: from when to when, and the processor's seconds of what it started."""

    def __init__(self):
        self._rows, self._lock, self.begin = {}, threading.Lock(), time.monotonic()

    def add(self, part, begin, end, cpu):
        with self._lock:
            row = self._rows.setdefault(part, [begin, end, 0.0])
            row[0], row[1], row[2] = min(row[0], begin), max(row[1], end), row[2] + cpu

    def show(self):
        say("time by part (parts run beside each other); from, to, processor time, in minutes")
        for part, (begin, end, cpu) in sorted(self._rows.items(), key=lambda r: r[1][0]):
            print(f"   {part:<22} {(begin - self.begin) / 60:5.1f} {(end - self.begin) / 60:5.1f} {cpu / 60:6.1f}")
        say(f"all in {(time.monotonic() - self.begin) / 60:.1f} minutes, {sum(r[2] for r in self._rows.values()) / 60:.1f} of processor time "
            f"on {JOBS} processors")


times, results = Times(), Results()
_running, _lock = set(), threading.Lock()


class Done:
    def __init__(self, status, out, late):
        self.status, self.out, self.late = status, out, late


def run(part, argv, limit=None, grace=40, env=None, capture=True, give_way=None):
    """Runs it to its end, keeps its time under `part`. After `limit` seconds it is asked to end, after `grace` more it is killed."""
    begin = time.monotonic()
    argv = [*GIVE_WAY.get(give_way, []), *argv]
    process = subprocess.Popen([str(a) for a in argv], cwd=ROOT, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, text=True,
                               errors="replace", **(dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT) if capture else {}))
    with _lock:
        _running.add(process)
    late = threading.Event()

    def too_late():
        late.set()
        _end(process, signal.SIGTERM)  # it cleans up
        timer = threading.Timer(grace, _end, (process, signal.SIGKILL))
        timer.daemon = True
        timer.start()

    watch = threading.Timer(limit, too_late) if limit else None
    if watch:
        watch.daemon = True
        watch.start()
    out = process.stdout.read() if capture else ""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if watch:
        watch.cancel()
    with _lock:
        _running.discard(process)
    times.add(part, begin, time.monotonic(), usage.ru_utime + usage.ru_stime)
    return Done(process.returncode, out, late.is_set())


def _end(process, number):
    if process.returncode is None:
        process.send_signal(number)


def end_all():
    stopping.set()
    with _lock:
        for process in _running:
            _end(process, signal.SIGTERM)


def build(part, *options, give_way=None):
    if stopping.is_set():
        return False
    done = run(part, [ROOT / "tools/build", *options], capture=False, give_way=give_way)
    if done.status != 0 and not stopping.is_set():
        results.add(part, "failed", f"tools/build {' '.join(options)} ended with {done.status}")
    return done.status == 0
