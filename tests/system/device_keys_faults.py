#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""RIM-28, bad input: the level asks the unit for its seeds, and the unit answers with one of the wrong length, the same again, none,
or does not know how. No call is lost: the gateway makes the seed, counts it, warns, tells the unit, and epochs go on; every packet
authenticates. A unit that does not know CONTACT costs no call either."""
import json
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import check, equal, main, wait_until
from ng import Client
from peer import CorePeer, sdp
from programs import program

# unit: (--seed-make, --contact, counter that grows)
FAULTS = {"long": ("long", "ok", "unit_seeds_refused"), "again": ("repeat", "ok", "unit_seeds_refused"),
          "old": ("refuse", "refuse", "unit_seeds_missing"), "mute": ("silent", "silent", "unit_seeds_missing")}


def counters(gw):
    return {c["name"]: c["total"] for c in gw.ctl.ops("counters")["control"]}


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False, level={"rekey_s": 1, "overlap_s": 0.4, "keygen": "device"})
    peer = CorePeer(net.core)
    t.defer(peer.close)
    ng = netns.inside(net.gw.name, lambda: Client(timeout=10))  # the mute unit is waited for twice
    for unit, (fault, contact, counter) in FAULTS.items():
        gw.unit_add(unit)
        probe = t.start(f"probe-{unit}", [program("probe_unit"), "--gateway", gw.server, "--keys", gw.dir, "--units", unit, "--seed-make", fault,
                                 "--contact", contact], net.ue)
        inner = probe.wait_for_text(r'"configured".*"inner":"([0-9.]+):')[1]
        before = counters(gw)
        offer = ng.command("offer", call_id=unit, from_tag="a", sdp=sdp(inner, 4000), metadata=f"caller={unit};callee=bob")
        equal(offer["result"], "ok", f"offer of {unit}")
        answer = ng.command("answer", call_id=unit, from_tag="a", to_tag="b", sdp=sdp(net.bob_address, peer.port))
        equal(answer["result"], "ok", f"answer to {unit}: no call is lost")
        wait_until(lambda: gw.ctl.media()[0]["rekeys"] >= 2, f"epochs go on for {unit}", 20)
        time.sleep(0.3)
        media, after = gw.ctl.media()[0], counters(gw)
        leg = next(x for x in media["legs"] if x["kind"] == "unit")
        t.say(f"{unit}: {counter} {before[counter]} -> {after[counter]}, seeds made {after['seeds_made'] - before['seeds_made']}, "
              f"{leg['received']['packets']} packets")
        check(after[counter] > before[counter], f"{counter} counts what {unit} does")
        check(after["seeds_made"] > before["seeds_made"], f"the gateway makes seeds for {unit}")
        equal(leg["received"]["auth_failures"], 0, f"packets of {unit} that do not authenticate")
        check(leg["received"]["packets"] > 50, f"media of {unit} run: {leg['received']}")
        rows = [json.loads(x) for x in probe.log().splitlines() if x.startswith("{")]
        epochs = [x for x in rows if x["event"] in ("media_open", "seed")]
        check(all(x["fits"] for x in epochs), f"every seed fits: {epochs}")
        check(any(x["source"] == 0 for x in epochs), "the unit is told that the gateway made the seed")
        check(f"unit {unit} should make" in gw.controlplane.log(), "an alarm line is in the log")
        ng.command("delete", call_id=unit, from_tag="a")
        wait_until(lambda: not gw.ctl.media(), "the call is over", 5)
        probe.stop()


main(test, "faulty makers of seeds cost no call")
