# SPDX-License-Identifier: Apache-2.0
"""System tests: tests/system/*.py, long ones first, several at once, each in namespaces of its own. What their heads say (timeout,
alone, count) is read by tests/lib/scale.py."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

from parts import needs
from parts.common import ROOT, build, results, run, say, stopping

sys.path.insert(0, str(ROOT / "tests/lib"))
from scale import heads  # noqa: E402

SIDE_BY_SIDE = int(os.environ.get("TANDEM_JOBS", "4"))


def names():
    return [h.name for h in _all()]


def _all():
    return heads(ROOT / "tests/system")


def allowed():
    if os.geteuid() == 0:
        return True
    results.add("system tests", "skipped", "need root for network namespaces; run tools/test as root")
    return False


def prepare(pattern):
    """Builds what the chosen scripts use; False where it cannot be built."""
    if os.environ.get("TANDEM_BUILD"):
        return True
    return build("system build", "--unity", *(_targets(pattern) if pattern else ["tools"]))


def _targets(pattern):
    wanted = set()
    for head in _all():
        if pattern in head.name:
            wanted |= needs.targets(head.path)
    return sorted(wanted)


def beside(pattern):
    """Those that bear others beside them."""
    chosen = sorted((h for h in _all() if pattern in h.name and not h.alone), key=lambda h: -h.timeout)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        list(pool.map(lambda h: _one("system", h), chosen))
    say(f"system tests: {len(chosen)} side by side, {SIDE_BY_SIDE} at once")


def alone(pattern):
    for head in _all():
        if pattern in head.name and head.alone:
            _one("system, each alone", head)


def _one(part, head):
    if stopping.is_set():
        return
    done = run(part, [sys.executable, head.path], limit=head.timeout, env={"TANDEM_BUILD": os.environ.get("TANDEM_BUILD", str(ROOT / "build")),
                                                                           "TANDEM_NEEDS": " ".join(needs.targets(head.path))})
    lines = [x for x in done.out.splitlines() if x.strip()]
    if done.status == 0 and not done.late:
        print("\n".join(lines), flush=True)
        results.add(head.name, "passed")
    elif done.status == 77:
        reason = next((x.partition(": ")[2] for x in lines if x.startswith("SKIP")), lines[-1] if lines else "")
        results.add(f"system {head.name}", "skipped", reason)
    else:
        print("\n".join(lines[-60:]), flush=True)
        logs = next((x.split()[-1] for x in reversed(lines) if "logs and captures:" in x), "")
        why = f"no end within {head.timeout} s" if done.late else f"exit status {done.status}"
        why = next((x.removeprefix("FAIL ") for x in lines if x.startswith("FAIL ")), why)
        results.add(f"system {head.name}", "failed", why + (f"; its logs and captures: {logs}" if logs else ""))
