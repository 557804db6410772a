#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 60
"""RIM-15: levels.toml is edited and reloaded: the next call has 5 s and 32 bytes, the running one keeps its values. A broken file is
refused whole with line and column, by `level reload`, by SIGHUP and by `level check`; what was in force stays and an alarm stands."""
import signal
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from harness import check, equal, main, wait_until
from media import Call
from programs import ROOT

SLOW = {"test": {"suite": "AEAD_AES_128_GCM", "seed_bytes": 16, "rekey_s": 30, "overlap_s": 1}}
FAST = {"test": {"suite": "AEAD_AES_128_GCM", "seed_bytes": 32, "rekey_s": 5, "overlap_s": 1}}


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False, levels=SLOW, levels_file=True)
    alice = t.agent(net.ue, gw, "alice").inner()

    def call(call_id):
        made = Call(gw, net.ue, alice, net.core, net.bob_address, call_id=call_id, start=False)
        t.defer(made.close)
        return made

    def values(of):
        m = of.media()
        return m["interval_s"], m["seed_bytes"]

    def alarms():
        return [a["name"] for a in gw.ctl("alarm", "list")["alarms"]]

    equal(len(gw.ctl("level", "check", ROOT / "packaging/deb/examples/levels.toml")["levels"]), 4, "levels of the packaged example")
    first = call("first")
    equal(values(first), (30, 16), "interval and seed before")
    gw.write_levels(FAST)
    gw.ctl("level", "reload")
    second = call("second")
    equal(values(second), (5, 32), "the next call's interval and seed")
    begin = time.monotonic()

    broken = gw.levels_file.read_text() + "seed_bites = 64\n"
    line = len(broken.splitlines())
    gw.levels_file.write_text(broken)
    for argv in (["level", "reload"], ["level", "check", gw.levels_file]):
        status, out, err = gw.ctl.raw(*argv)
        equal((status, out), (1, ""), f"tandemctl {argv[1]} of a broken file")
        check(f"{gw.levels_file}:{line}:1:" in err and "seed_bites" in err, f"line and column are said: {err}")
    equal(alarms(), ["levels"], "alarms after a refused reload")
    check("levels" in gw.ctl.raw("status")[1], "status shows the alarm")
    gw.controlplane.signal(signal.SIGHUP)
    gw.controlplane.wait_for_text(r"levels are not reloaded: .*seed_bites")
    third = call("third")
    equal(values(third), (5, 32), "what was in force stays")
    # Weaker than the level before it, slower than the primary: all checks hold at a reload.
    for table in ({**FAST, "more": {**FAST["test"], "seed_bytes": 16}}, {"test": {**FAST["test"], "rekey_s": 100_000}},
                  {"test": {**FAST["test"], "suite": "NULL"}}):
        gw.write_levels(table)
        equal(gw.ctl.raw("level", "reload")[0], 1, f"reload of {table}")

    gw.write_levels(FAST)
    gw.controlplane.signal(signal.SIGHUP)
    wait_until(lambda: not alarms(), "a good file ends the alarm", 5)
    got = gw.ctl("level", "set", "test", "rekey_s=6", "seed_bytes=48")
    equal([(row["rekey_s"], row["seed_bytes"]) for row in got["levels"]], [(6, 48)], "after `level set`")
    check("rekey_s = 6" in gw.levels_file.read_text(), "`level set` writes the file")
    equal(values(call("fourth")), (6, 48), "the call after `level set`")
    equal((values(first), values(second)), ((30, 16), (5, 32)), "running calls keep their values")
    wait_until(lambda: second.media()["rekeys"] >= 1, "the second call changes its keys in its own interval", 12)
    check(time.monotonic() - begin > 4, "not before its interval")
    equal(first.media()["rekeys"], 0, "re-keys of the first, at 30 s")


main(test, "RIM-15 levels are reloaded: new calls take them, running ones keep theirs")
