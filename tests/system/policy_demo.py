#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 200
"""RIM-16, RIM-19, RIM-21, RIM-23, RIM-26: tools/demo --scenario policy in namespaces of its own: passes, and its JSON says of each of the
five calls what is said here."""
import json
import os
import subprocess
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import check, equal, main
from programs import ROOT, build_dir

EXPECTED = [("standard", "default", "AES_CM_128_HMAC_SHA1_80", 16), ("elevated", "security database: callee", "AEAD_AES_128_GCM", 32),
            ("high", "caller's wish", "AEAD_AES_256_GCM", 48), ("elevated", "contacts of alice", "AEAD_AES_128_GCM", 32),
            ("high", "call profile: duration", "AEAD_AES_256_GCM", 48)]


def test(t):
    out = t.dir / "result.json"
    done = subprocess.run(["/usr/bin/python3", ROOT / "tools/dev/demo", "--scenario", "policy", "--seconds", "10", "--json", out, "--prefix",
                           t.prefix], env={**os.environ, "TANDEM_BUILD": str(build_dir())}, capture_output=True, text=True, timeout=180,
                          check=False)
    check(out.exists(), f"the demo writes its JSON; it said: {done.stdout[-600:]} {done.stderr[-1200:]}")
    r = json.loads(out.read_text())
    equal((done.returncode, r["scenario"], r["passed"]), (0, "policy", True), f"verdict (failures: {r.get('failures')})")
    equal([(c["level"], c["decided_by"], c["suite"], c["seed_bytes"]) for c in r["calls"]], EXPECTED, "the five calls")
    for c in r["calls"]:
        check(c["rekeys"] >= c["rekeys_needed"] >= 1, f"re-keys on the wire: {c['rekeys']}")
        check(all(d["received"] > 400 for d in c["directions"].values()) and len(c["directions"]) == 2, f"media both ways: {c['directions']}")
        equal(sum(step["decided"] for step in c["why"]), 1, "rules that decided")
    equal((r["access_link"]["plaintext_rtp"], r["access_link"]["plaintext_sip"]), (0, 0), "plaintext on the access link")
    equal([n for n in netns.namespaces() if n.startswith(t.prefix + "-")], [], "namespaces left behind")


main(test, "demo --scenario policy: five calls under five rules")
