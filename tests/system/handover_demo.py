#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 150
"""tools/demo --scenario handover in namespaces of its own: passes, and its JSON says what kind each switch was, its media gap and its stall."""
import json
import os
import subprocess
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import check, equal, main
from programs import ROOT, build_dir


def test(t):
    out = t.dir / "result.json"
    done = subprocess.run(["/usr/bin/python3", ROOT / "tools/dev/demo", "--scenario", "handover", "--seconds", "24", "--json", out, "--prefix",
                           t.prefix], env={**os.environ, "TANDEM_BUILD": str(build_dir())}, capture_output=True, text=True, timeout=140,
                          check=False)
    check(out.exists(), f"the demo writes its JSON; it said: {done.stdout[-600:]} {done.stderr[-1200:]}")
    r = json.loads(out.read_text())
    equal((done.returncode, r["scenario"], r["passed"], r["sha256_equal"]), (0, "handover", True, True), f"verdict (failures: {r.get('failures')})")
    kinds = {h["what"]: h["kind"] for h in r["handovers"]}
    equal({what: kinds.get(what) for what in ("lost", "back", "nothing")}, {"lost": "hard", "back": "soft", "nothing": "hard"}, "kinds")
    for h in r["handovers"]:
        equal(sorted(h), ["kind", "media_gap_ms", "reason", "resent_bytes", "stall_ms", "to", "what"], "what is said of a switch")
        check(h["kind"] != "soft" or h["resent_bytes"] == 0, f"nothing is sent again after a soft one: {h}")
    equal([n for n in netns.namespaces() if n.startswith(t.prefix + "-")], [], "namespaces left behind")


main(test, "demo --scenario handover: a device whose networks come and go")
