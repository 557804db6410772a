#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
"""RIM-05, RIM-32, RIM-37, ORA-02 (tls): tools/demo itself, in namespaces of its own: passes, its JSON is complete, and what it computed is
computed again here from the parts. After it nothing is left."""
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
    python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
    done = subprocess.run([python, ROOT / "tools/dev/demo", "--seconds", "30", "--json", out, "--prefix", t.prefix],
                          env={**os.environ, "TANDEM_BUILD": str(build_dir())}, capture_output=True, text=True, timeout=220, check=False)
    for line in done.stdout.splitlines():
        t.say(line)
    check(out.exists(), f"the demo writes its JSON; it said: {done.stdout[-600:]} {done.stderr[-1200:]}")
    r = json.loads(out.read_text())
    equal(done.returncode, 0, f"the demo's exit status (failures: {r.get('failures')})")
    equal((r["scenario"], r["passed"]), ("call", True), "scenario and verdict")
    equal([(c["caller"], c["callee"]) for c in r["calls"]], [("alice", "bob"), ("alice", "carol")], "calls")
    for c in r["calls"]:
        check(c["rekeys"] >= 5, f"five re-keys: {c}")
        equal(c["suite"], "AEAD_AES_128_GCM", "suite")
        equal(len(c["directions"]), 2, "directions of a call")
        for way, d in c["directions"].items():
            equal((d["lost"], d["sent"] - d["received"]), (0, 0), f"packets lost {way}")
            check(d["late_sent"] < 15, f"{way}: only the last 200 ms are apart: {d['late_sent']}")
            check(d["sent"] > 1400, f"{way}: 50 packets a second for 30 s: {d['sent']}")
    equal([c["secondaries"] for c in r["calls"]], [1, 2], "secondaries of each call (RIM-32: two keys between two units)")
    equal(r["auth_failures"], 0, "authentication failures")
    link = r["access_link"]
    equal((link["plaintext_rtp"], link["plaintext_sip"]), (0, 0), "plaintext on the access link")
    equal(link["frames"], sum(link[k] for k in ("tls", "srtp", "plaintext_rtp", "plaintext_sip", "other")), "every frame is of one kind")
    check(link["srtp"] > 8000, f"media of both calls crossed the access links as SRTP: {link}")
    check(link["srtp_entropy_bits_per_byte"] > 7.99, f"SRTP payloads look random: {link['srtp_entropy_bits_per_byte']}")
    check(all(s["cipher"] == "TLS_AES_256_GCM_SHA384" for s in r["tunnels"]), f"RIM-05 the primary's cipher: {r['tunnels']}")
    equal(len(r["speech"]), 4, "ears")
    check(all(s["correlation"] >= 0.95 for s in r["speech"]), f"everyone hears the other's speech: {r['speech']}")
    equal([n for n in netns.namespaces() if n.startswith(t.prefix + "-")], [], "namespaces left behind")


main(test, "demo: a protected call to the core and one between two units")
