#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""RIM-27: the gateway and the device each keep the history of a pair; with one wiped the other still drives the choice. The device's
history outlives its agent, and a call of two media counts once."""
import json
import subprocess
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from harness import check, equal, main, wait_until
from media import Call
from programs import program

SUITE = "AEAD_AES_128_GCM"
LEVELS = {"standard": {"suite": SUITE, "seed_bytes": 16, "rekey_s": 60}, "elevated": {"suite": SUITE, "seed_bytes": 32, "rekey_s": 30}}
RULES = {"of": "median", "least_calls": 2, "age_days": 1}


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False, levels=LEVELS,
                   tables=[("[profiles]", RULES), ("[[profiles.duration]]", {"at_least_s": 1, "level": "elevated"})])
    alice = t.agent(net.ue, gw, "alice", more={"state_dir": t.dir / "alice-state"}, start=False)
    with open(alice.config, "a") as config:
        config.write("[profiles]\nleast_calls = 2\nage_days = 1\nduration = [{at_least_s = 1, level = \"elevated\"}]\n")
    alice.start()
    alice.up()
    calls = iter(range(1000))

    def profiles(*arguments):
        done = subprocess.run([program("tandem-agent"), "profiles", *arguments, "--config", alice.config], capture_output=True, text=True,
                              timeout=20, check=True)
        return done.stdout

    def on_device():
        return {p["peer"]: p for p in json.loads(profiles("list", "--json"))["profiles"]}

    def at_gateway():
        try:
            return gw.ctl.ops("policy profile", a="alice", b="bob")["calls"]
        except Exception:  # a pair without history
            return 0

    def call(level, seconds=1.3):
        """A call of so many seconds; the rules that were asked, by name, with their levels."""
        device, gateway = on_device().get("bob", {}).get("calls", 0), at_gateway()
        c = Call(gw, net.ue, alice.inner(), net.core, net.bob_address, call_id=f"c{next(calls)}", start=False)
        wait_until(lambda: c.media() and c.media()["active"], "media of the call")
        shown = gw.ctl.ops("media show", id=c.media()["id"])
        time.sleep(seconds)
        c.hang_up()
        c.close()
        equal(shown["level"], level, f"level ({shown['why']})")
        wait_until(lambda: on_device()["bob"]["calls"] == device + 1 and at_gateway() == gateway + 1, "the call in both histories")
        return {step["rule"]: step["level"] for step in shown["why"] if step["level"]}

    call("standard")
    call("standard")
    known = on_device()["bob"]
    check(1000 <= known["median_ms"] <= 3000, f"median of calls of 1.3 s on the device: {known}")
    both = call("elevated")
    check("profile of alice" in both and "call profile: duration" in both, f"both histories were asked: {both}")

    # The gateway's store wiped: the device's drives.
    gw.ctl.ops("policy forget", all=True)
    wait_until(lambda: at_gateway() == 0, "no history at the gateway")
    rules = call("elevated")
    check("profile of alice" in rules and "call profile: duration" not in rules, f"only the device's history: {rules}")
    alice.stop()  # RIM-27: and it outlives the agent
    alice.start()
    alice.up()
    rules = call("elevated")
    check("profile of alice" in rules, f"the device's history after a restart: {rules}")

    # The device's wiped (while the agent runs): the gateway's drives.
    check("1 peers forgotten" in profiles("forget", "--all"), "words of forget")
    equal(on_device(), {}, "history on the device")
    wait_until(lambda: alice.status()["advice"]["profiles"]["peers"] == 0, "the running agent sees it")
    rules = call("elevated")
    check("call profile: duration" in rules and "profile of alice" not in rules, f"only the gateway's history: {rules}")

    # Both wiped: nothing is known.
    profiles("forget", "bob")
    gw.ctl.ops("policy forget", all=True)
    wait_until(lambda: at_gateway() == 0 and not on_device(), "no history anywhere")
    call("standard", seconds=0.1)


main(test, "rim27_stores")
