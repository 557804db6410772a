# SPDX-License-Identifier: Apache-2.0
"""Scenario `policy`: five calls between the same two phones, each under another rule: nothing known, the callee listed in the security
database, the caller's wish (dial prefix), a contact on the device, a history of calls of fifteen minutes."""

import json
import subprocess
import time

from programs import program
from scene import Demo, DemoError

# The built-in names and suites, re-keyed faster, so that a short call shows it.
LEVELS = {
    "standard": {"suite": "AES_CM_128_HMAC_SHA1_80", "seed_bytes": 16, "rekey_s": 6, "overlap_s": 1},
    "elevated": {"suite": "AEAD_AES_128_GCM", "seed_bytes": 32, "rekey_s": 4, "overlap_s": 1},
    "high": {"suite": "AEAD_AES_256_GCM", "seed_bytes": 48, "rekey_s": 3, "overlap_s": 1},
}
HISTORY_S = [900, 880, 960, 905, 890]


class PolicyDemo(Demo):
    scenario = "policy"
    seconds, shortest_s = 12, 10
    units = (("alice", "ue"),)
    levels = LEVELS
    tables = (("[wish.prefixes]", {'"*77"': "high"}),)

    def agent_more(self, unit):
        state = self.dir / f"{unit}-state"
        state.mkdir(exist_ok=True)
        return {"state_dir": state}

    def play(self):
        ctl = self.gateway.ctl
        self._call("standard", "default", "nothing is known of either")
        ctl("policy", "set", "bob", "elevated", "--comment", "listed by the operator")
        self._call("elevated", "security database: callee", "tandemctl policy set bob elevated")
        self._call("high", "caller's wish", "alice dials *77bob", dial="*77bob")
        ctl("policy", "unset", "bob")
        self._contacts("set", "bob", "--level", "elevated")
        self._call("elevated", "contacts of alice", "tandem-agent contacts set bob --level elevated")
        self._contacts("unset", "bob")
        self._seed_history()
        self._call("high", "call profile: duration", "alice and bob have talked for a quarter of an hour each time")

    def _call(self, level, decided_by, rule, dial=None):
        record = self.call("alice", "bob", dial=dial, say=f"alice calls bob, {self.options.seconds} s: {rule}")
        record.update(expected={"level": level, "decided_by": decided_by}, rule=rule)
        media = next(iter(record["media"].values()), {})
        self.view.step(f"level {media.get('level')}, decided by {media.get('decided_by')}")

    def _contacts(self, *words):
        agent = self.agents["alice"]
        done = subprocess.run([program("tandem-agent"), "contacts", *words, "-c", agent.config], capture_output=True, text=True, timeout=20,
                              check=False)
        if done.returncode != 0:
            raise DemoError(f"tandem-agent contacts {' '.join(words)}: {done.stderr or done.stdout}")
        time.sleep(1)  # the agent sees its file change

    def _seed_history(self):
        """Past calls as another program writes them: rows of table `profile` (controlplane/store/README.md)."""
        self.gateway.seed_profile("alice", "bob", HISTORY_S)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            known = self.gateway.ctl("policy", "profile", "alice", "bob")
            if known["median_s"] > 800:
                self.view.step(f"history of alice and bob: {known['calls']} calls, median {known['median_s']:.0f} s")
                return
            time.sleep(0.2)
        raise DemoError(f"the gateway does not see the history that was written: {json.dumps(known)}")

    def facts(self, record):
        media = next(iter(record["media"].values()), {})
        interval = media.get("interval_s") or 0
        # The first re-key comes an interval after the media began; one may lie outside of what was measured.
        needed = max(1, int((self.options.seconds - 1) / interval) - 1) if interval else 1
        return {"rekeys_needed": needed, "rule": record.get("rule"), "expected": record.get("expected"),
                **{key: media.get(key) for key in ("level", "decided_by", "why", "seed_bytes", "interval_s", "key_source", "path")}}

    def failures(self, result):
        for number, c in enumerate(result["calls"], 1):
            want = c["expected"] or {}
            table = LEVELS.get(want.get("level"), {})
            for key, value in {**want, "suite": table.get("suite"), "seed_bytes": table.get("seed_bytes"),
                               "interval_s": table.get("rekey_s")}.items():
                if c[key] != value:
                    yield f"call {number} ({c['rule']}): {key} is {c[key]}, expected {value}"
        if len(result["calls"]) != 5:
            yield f"{len(result['calls'])} calls were made, five are needed"

    def show(self, result):
        self.view.policy_table(result)
