#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 150
"""The control plane in a control group with a limit of memory: calls are taken until it is nearly used up, then refused in the words at
which a proxy goes elsewhere, and the kernel kills nobody. Three starts under the same limit (kill -9) keep all calls; when some have
ended, as many new ones are taken. [ng] max_calls likewise."""
import os
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
from core_calls import Caller, alarms
from harness import check, equal, main, skip, wait_until
from memory_group import MemoryGroup, NoGroup

MIB = int(os.environ.get("TANDEM_MEMORY_MIB", "40"))


def test(t):
    try:
        group = MemoryGroup(MIB)
    except NoGroup as e:
        skip(str(e))
    t.defer(group.remove)
    net = t.network(ue2=False)
    gw = t.gateway(net, start=False, kamailio=False, media={"ports": [1024, 65535]}, dataplane={"max_flows": 16384},
                   tables=[("[store]", {"log_mib": 4})])
    gw.start_dataplane()
    gw.controlplane_prefix = group.prefix()
    gw.start_controlplane()
    before = gw.ctl.ops("status")
    equal(before["memory"]["limit"], MIB << 20, "the limit that it knows")
    calls = Caller(gw, net.bob_address)
    up = until_refused(calls, "c")
    t.say(f"{len(up)} calls in {MIB} MiB, {group.most_mib():.1f} at most; {before['max_calls']} were foretold")
    check(before["max_calls"] <= len(up) < before["max_calls"] * 4, "status foretells no more than there is room for, and not much less")
    wait_until(lambda: "memory" in alarms(gw), "the alarm stands", 5)
    equal(calls.ask("ping")["result"], "pong", "ping")
    for n in range(3):
        gw.controlplane.kill()
        gw.start_controlplane()
        wait_until(lambda: gw.ctl.ops("status")["media"]["active"] == len(up), f"all calls after start {n + 1}", 30)
        equal(calls.known(), set(up), "the calls that it knows")
        t.say(f"start {n + 1}: {gw.ctl.ops('status')['memory']['used'] >> 20} MiB, {group.most_mib():.1f} at most")
    equal(group.kills(), 0, "processes that the kernel killed")
    half = len(up) // 2
    for name in up[:half]:
        calls.end(name)
    more = until_refused(calls, "d", most=half)
    check(len(more) > half * 3 // 4, f"{len(more)} calls are taken where {half} have ended")
    equal(group.kills(), 0, "processes that the kernel killed")
    fixed(gw, calls)


def until_refused(calls, prefix, most=20_000):
    """Answered calls, until one more is refused in the right words."""
    names = []
    while len(names) < most:
        name = f"{prefix}{len(names)}"
        reply = calls.offer(name)
        if reply["result"] != "ok":
            equal(reply, {"result": "error", "error-reason": "Parallel session limit reached"}, "the refusal")
            break
        calls.answer(name)
        names.append(name)
    return names


def fixed(gw, calls):
    """[ng] max_calls: those that are up stay, and no further one is taken."""
    gw.controlplane.stop()
    text = open(gw.controlplane_config).read().replace("[ng]", "[ng]\nmax_calls = 1")
    open(gw.controlplane_config, "w").write(text)
    gw.start_controlplane()
    check(len(calls.known()) > 1, "the calls are kept")
    equal(calls.offer("more")["error-reason"], "Parallel session limit reached", "the refusal")
    equal(gw.ctl.ops("status")["max_calls"], 1, "status says the limit")


main(test, "at its limit of memory new calls are refused, running ones stay")
