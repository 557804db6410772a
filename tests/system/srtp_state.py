#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
# alone
# count: 10000 sequences
"""SRTP state over everything that may happen to a call: random sequences of offers, re-offers, refused ones, re-keys, source restarts
and replays, many calls at once, while each process of the gateway is killed and started again. An oracle that knows every key (units are
played, SDES is in the SDP) judges each packet: no (key, SSRC, index) twice, no replay accepted, everything authenticates, media flow.

Most streams begin shortly before their sequence wraps, so a change of rtcp-mux, keys, suite or address at ROC > 0 is a usual step here: what
comes after it must authenticate.

A run follows from its seed, printed at the end; `tools/soak srtp_state --seed N` repeats it. To narrow down what was found: TANDEM_ONLY=N
plays that call's sequence alone, TANDEM_STEPS=mux,same those steps only, TANDEM_FAULTS="kill dataplane" those faults only ("" = none)."""
import os
import sys
import threading
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from faults import Faults
from harness import Failed, check, main, wait_until
from oracle import Oracle, space_of
from programs import program
from sequences import Call, World
from service_manager import Service
from steps import STEPS

AT_ONCE = int(os.environ.get("TANDEM_AT_ONCE", "40"))
ONLY = os.environ.get("TANDEM_ONLY")
CORE4, CORE6 = ["198.51.100.10", "198.51.100.11"], ["2001:db8:2::10", "2001:db8:2::11"]
UNITS = 6
FAULTS = {"kill dataplane": 6, "kill standby": 2, "kill holder": 2, "kill both": 1, "upgrade": 1, "kill controlplane": 3, "restart controlplane": 1,
          "kill unit": 1, "kill agent": 1}


def gateway(t, net):
    net.gw.address("core0", "2001:db8:2::2/64")
    net.core.address("core0", f"{CORE4[1]}/24", "198.51.100.66/24", f"{CORE6[1]}/64", "2001:db8:2::66/64")
    net.ue.address("ue0", "192.0.2.66/25")
    gw = t.gateway(net, start=False, kamailio=False, level={"rekey_s": 2, "overlap_s": 1}, access_more=[("core", "2001:db8:2::2")])
    holder = Service(t, "holder", [program("tandem-holder"), "--", program("tandem-dataplane"), "--config", gw.dataplane_config], net.gw)
    holder.process.wait_for_path(gw.run_dir / "dataplane.sock", 30)
    gw.start_controlplane()
    return gw, holder


def world(t, net, gw, holder):
    oracle = Oracle(t, net.ue, t.seed)
    asked = os.environ.get("TANDEM_STEPS", ",".join(STEPS)).split(",")
    w = World(gw, oracle, net.core, (CORE4, CORE6), {name: STEPS[name] for name in asked}, t.seed)
    w.holder = holder
    for space, address, v6 in ((net.core, "198.51.100.66", False), (net.core, "2001:db8:2::66", True), (net.ue, "192.0.2.66", False)):
        w.attackers[space.name, v6] = oracle("attacker", space=space_of(space), address=address)["number"]
    for n in range(UNITS):
        name = f"u{n}"
        oracle("unit", id=name, gateway=gw.server, psk=gw.unit_add(name).read_text().strip())
        inner = wait_until(lambda name=name: oracle("unit_state", id=name)["inner"], f"{name} is up", 10, 0.02)
        w.units[name] = (inner.rpartition(":")[0], net.ue)
    for name in ("alice",):
        agent = t.agent(net.ue, gw, name)
        w.agents[name], w.programs[name] = (agent.inner(), net.ue), agent
    return w


def play(w, numbers):
    """One thread's calls, one after the other."""
    while True:
        with w.lock:
            which = next(numbers, None)
        if which is None or len(w.wrong) > 50:
            return
        try:
            Call(w, which).run()
        except Exception as e:  # of the test itself
            w.wrong.append({"end": 0, "what": f"the test: {e!r}", "detail": "", "count": 1, "call": which, "legs": [], "history": []})


def tell(t, wrong):
    """By kind, the first of each in full."""
    kinds = {}
    for v in wrong:
        kinds.setdefault(v["what"].split(":")[0], []).append(v)
    for kind, list_ in sorted(kinds.items(), key=lambda item: -len(item[1])):
        t.say(f"VIOLATION: {kind}: {len(list_)} ends, calls {sorted({v['call'] for v in list_ if v['call'] is not None})[:12]}")
        for v in list_[:3]:
            t.say(f"  call {v['call']}, end {v['end']}, {v['count']} times: {v['what']} {v['detail']}")
            t.say(f"    {'; '.join(v['legs'])}: {', '.join(v['history'])}")


def test(t):
    net = t.network(ue2=False, ipv6=True)
    gw, holder = gateway(t, net)
    w = world(t, net, gw, holder)
    sequences = 1 if ONLY else t.count
    numbers = iter([int(ONLY)] if ONLY else range(sequences))
    threads = [threading.Thread(target=play, args=(w, numbers), daemon=True) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    asked = os.environ.get("TANDEM_FAULTS")
    faults = Faults(w, {k: n for k, n in FAULTS.items() if asked is None or k in asked.split(",")})
    try:
        faults.run(lambda: not any(thread.is_alive() for thread in threads))
    except Failed as e:  # nothing comes back: what the calls saw says more
        w.wrong.append({"end": 0, "what": f"after {faults.now}: {e}", "detail": "", "count": 1, "call": None, "legs": [], "history": []})
    finally:
        for thread in threads:
            thread.join(60)
    totals = w.oracle("totals")
    w.wrong += [{**v, "call": None, "legs": [], "history": []} for v in totals["violations"]]
    t.say(f"seed {t.seed}: {w.sequences} sequences, {sum(w.steps.values())} offers, {totals['sent']} packets sent, {totals['heard']} heard,"
          f" {totals['opened']} judged, {totals['injected']} replays")
    t.say("faults: " + ", ".join(f"{n} {k}" for k, n in faults.done.items()))
    for why, n in sorted(w.ended.items(), key=lambda item: -item[1]):
        t.say(f"ended early: {n} {why}")
    tell(t, w.wrong)
    check(not w.wrong, f"no violations; {len(w.wrong)} with seed {t.seed}, calls {sorted({v['call'] for v in w.wrong if v['call'] is not None})}")
    check(w.sequences == sequences, f"all sequences are played: {w.sequences}")
    check(ONLY or totals["heard"] > 20 * sequences, f"media flow: {totals['heard']}")


main(test, "SRTP state over re-offers, kills and replays")
