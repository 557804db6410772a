#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
"""kill -9 of the data plane during a call with all programs: the holder starts it again, the call goes on with the same flows,
the control plane finds its way back and goes on re-keying, nothing fails to authenticate, and the call ends in order."""
import os
import random
import signal
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from harness import check, equal, main, wait_until
from media import Call

KILLS = 5


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False, level={"rekey_s": 2, "overlap_s": 1})
    alice = t.agent(net.ue, gw, "alice")
    call = Call(gw, net.ue, alice.inner(), net.core, net.bob_address)
    t.defer(call.close)
    wait_until(lambda: call.media()["rekeys"] >= 2, "two re-keys", 10)
    random.seed(t.seed)
    gaps = []
    for n in range(KILLS):
        time.sleep(1.5 + random.random() * 2)  # at any point of a re-key too
        epoch = call.leg()["epoch"]
        old = gw.dataplane_pid()
        killed = time.monotonic()
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: gw.dataplane_pid() not in (old, gw.dataplane.pid), "the data plane is started again", 10, 0.01)
        for phone in (call.core, call.unit):
            wait_until(lambda: phone.received and phone.received[-1][0] > killed + 0.05, f"media after kill {n + 1}", 15, 0.01)
        gaps.append(max(phone.longest_gap(killed - 0.2, time.monotonic()) for phone in (call.core, call.unit)))
        wait_until(lambda: call.media() and call.leg()["epoch"] >= epoch + 2, f"re-keying after kill {n + 1}", 30, 0.2)
    t.say(f"{KILLS} kills (seed {t.seed}); silence, ms: {[round(g * 1000) for g in gaps]}")
    equal(gw.dataplane.log().count("go on, gap"), KILLS, "restarts that the data plane reported")
    check("flows are lost" not in gw.dataplane.log(), "no flow was lost")
    equal(call.leg()["received"]["auth_failures"], 0, "authentication failures at the gateway")
    equal(call.leg()["received"]["replays"], 0, "replays")
    call.hang_up()
    wait_until(lambda: call.media() is None, "the call ends in order", 5)


main(test, "dataplane_kill_call: a call outlives its data plane")
