#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 150
"""kill -9 of the data plane during a call, the control plane alive: the holder starts it again with its flows, the control plane
takes them over and goes on re-keying; and a data plane that comes back with nothing gets the call's flows and keys anew."""
import os
import signal
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
    wait_until(lambda: call.media()["rekeys"] >= 1, "a re-key", 10)

    for n in (1, 2, 3):
        before, was = call.leg()["epoch"], gw.dataplane_pid()
        killed = time.monotonic()
        os.kill(was, signal.SIGKILL)
        wait_until(lambda: gw.dataplane_pid() not in (was, gw.dataplane.pid), "the holder starts it again", 10)
        wait_until(lambda: gw.ctl.ops("status")["dataplane"]["connected"], "the control plane is connected again", 10)
        wait_until(lambda: call.leg()["epoch"] >= before + 2, "re-keying goes on", 15, 0.2)
        for name, phone in (("core", call.core), ("unit", call.unit)):
            gap = phone.longest_gap(killed - 0.5, time.monotonic())
            t.say(f"kill {n}: longest silence at the {name} phone {gap * 1000:.0f} ms")
            check(gap < 3, f"media to the {name} go on: {gap:.3f} s")
        equal(call.leg()["received"]["auth_failures"], 0, "authentication failures")

    # The holder too: all flows are lost, their keys with them. The control plane has the call put in again.
    before = call.leg()["epoch"]
    lost = time.monotonic()
    worker = gw.dataplane_pid()
    gw.dataplane.kill()
    try:
        os.kill(worker, signal.SIGKILL)
    except ProcessLookupError:
        pass # it ends with its holder
    time.sleep(1)
    gw.start_dataplane()
    wait_until(lambda: gw.ctl.ops("status")["dataplane"]["connected"], "the control plane is connected again", 15)
    wait_until(lambda: call.leg() is not None and call.leg()["epoch"] > before + 1, "a new secondary, re-keyed", 20, 0.2)
    heard = len(call.core.received)
    wait_until(lambda: len(call.core.received) > heard + 50, "media reach the core again", 5)
    t.say(f"everything lost: longest silence {call.core.longest_gap(lost - 0.5, time.monotonic()):.1f} s, epoch {before} -> {call.leg()['epoch']}")
    call.hang_up()
    wait_until(lambda: call.media() is None, "the call ends in order", 5)


main(test, "dataplane_kill_call: a call outlives its data plane")
