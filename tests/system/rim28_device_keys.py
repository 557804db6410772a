#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""RIM-28, RIM-29: alice's agent has three calls at once, re-keyed every second: one whose seeds she makes, one whose seeds both make
(XOR), one whose seeds the gateway makes. Ten epochs and more each: no packet fails its authentication on either side, none is
lost beyond a handful; for her own call the gateway's generator was called not once. Then the generator's count stands still while
only her own call is left."""
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from harness import check, equal, main, wait_until
from media import Call

LEVEL = {"suite": "AEAD_AES_128_GCM", "seed_bytes": 32, "rekey_s": 1, "overlap_s": 0.4}
SOURCES = ("gateway", "both", "device")
EPOCHS = 11


def counters(gw):
    return {c["name"]: c["total"] for c in gw.ctl.ops("counters")["control"]}


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False, levels={f"by-{s}": {**LEVEL, "keygen": s} for s in SOURCES})
    alice = t.agent(net.ue, gw, "alice")
    calls = {s: Call(gw, net.ue, alice.inner(), net.core, net.bob_address, call_id=s, metadata=f"level=by-{s}") for s in SOURCES}
    for call in calls.values():
        t.defer(call.close)
    wait_until(lambda: all(c.media()["rekeys"] >= EPOCHS for c in calls.values()), f"{EPOCHS} re-keys of each call", 40)
    for source, call in calls.items():
        media, leg = call.media(), call.leg()
        made, taken = media["seeds_made"], media["seeds_from_units"]
        t.say(f"{source}: {media['rekeys']} re-keys, {made} seeds by the gateway, {taken} by the unit, {leg['received']['packets']} packets")
        equal(media["level"], f"by-{source}", "level of the call")
        equal(media["key_source"], source, "key source of the call")
        equal(leg["key_source"], source, "who made the epoch in force")
        equal(media["rekey_failures"], 0, f"failed re-keys of {source}")
        equal(leg["received"]["auth_failures"], 0, f"packets of {source} that the gateway could not authenticate")
        check((made > 0) == (source != "device"), f"the generator is called for gateway and both, never for device: {made}")
        check((taken > 0) == (source != "gateway"), f"units make seeds for device and both, not for gateway: {taken}")
    mine = {m["level"]: m for m in alice.status()["media"]["open"]}
    for source in SOURCES:
        seen = mine[f"by-{source}"]
        equal([seen["auth_failures"], seen["unknown_epoch"], seen["malformed"]], [0, 0, 0],
              f"packets of {source} that the agent could not decipher")
        check(seen["received"] > 40 * EPOCHS, f"the agent deciphers {source}'s media: {seen['received']}")
    for source, call in calls.items():  # what was said is what was heard, epoch after epoch
        lost = [len(a.sent) - len(b.received) for a, b in ((call.unit, call.core), (call.core, call.unit))]
        check(max(lost) < 25, f"{source}: packets not heard, each way: {lost}")

    for source in ("gateway", "both"):
        calls[source].hang_up()
    before, epoch = counters(gw)["seeds_made"], calls["device"].leg()["epoch"]
    wait_until(lambda: calls["device"].leg()["epoch"] >= epoch + 3, "three more epochs by the device", 10)
    after = counters(gw)
    equal(after["seeds_made"], before, "seeds that the gateway's generator made meanwhile")
    equal([after["unit_seeds_refused"], after["unit_seeds_missing"]], [0, 0], "seeds that the gateway had to make for the unit")
    begin = time.monotonic()
    time.sleep(0.5)
    check(calls["device"].core.heard_since(begin) and calls["device"].unit.heard_since(begin), "both phones still hear each other")
    calls["device"].hang_up()


main(test, "RIM-28, RIM-29 the device makes the seeds")
