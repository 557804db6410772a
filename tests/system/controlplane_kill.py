#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 150
"""kill -9 of the control plane during a call: media does not pause, re-keying resumes after its return, and the call ends in order."""
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from harness import check, equal, main, wait_until
from media import Call


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False, level={"rekey_s": 2, "overlap_s": 1})
    alice = t.agent(net.ue, gw, "alice")
    call = Call(gw, net.ue, alice.inner(), net.core, net.bob_address)
    t.defer(call.close)
    wait_until(lambda: call.media()["rekeys"] >= 2, "two re-keys", 10)
    time.sleep(1)
    before = call.leg()["epoch"]
    killed = time.monotonic()
    gw.controlplane.kill()
    time.sleep(8)
    without = time.monotonic()
    for name, phone in (("core", call.core), ("unit", call.unit)):
        gap = phone.longest_gap(killed - 0.5, without)
        t.say(f"{name} phone: longest silence {gap * 1000:.0f} ms while the control plane was dead")
        check(gap < 0.25, f"media to the {name} does not pause without a control plane: {gap:.3f} s")
    gw.start_controlplane()
    back = time.monotonic()
    m = wait_until(call.media, "the call is known again", 15)
    equal(m["caller"], "alice", "caller after the return")
    wait_until(lambda: call.leg()["epoch"] >= before + 2, "re-keying goes on", 40, 0.5)
    t.say(f"epoch {before} before, {call.leg()['epoch']} now, {time.monotonic() - back:.1f} s after the return")
    end = time.monotonic()
    for name, phone in (("core", call.core), ("unit", call.unit)):
        gap = phone.longest_gap(killed - 0.5, end)
        check(gap < 0.25, f"media to the {name} does not pause over the return: {gap:.3f} s")
    lost = {s for when, s in call.unit.sent if when < end - 0.5} - {s for _, s in call.core.received}
    t.say(f"packets lost from unit to core over everything: {len(lost)}")
    check(len(lost) <= 2, f"at most the first packets of the call are lost: {sorted(lost)[:10]}")
    equal(call.leg()["received"]["auth_failures"], 0, "authentication failures")
    call.hang_up()
    wait_until(lambda: call.media() is None, "the call ends in order", 5)


main(test, "controlplane_kill: media go on, re-keying resumes")
