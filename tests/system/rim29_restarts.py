#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 150
"""RIM-29, RIM-15: the device makes the seeds, and goes on to make them when it is asked by hand, when the control plane is killed, and
when the data plane with all its keys is gone and the call is put in again. The operator meanwhile changes the level: the running call
keeps seed length, interval and key source. Neither of the control plane's lives calls its generator for the call."""
import re
import sys
import time
from pathlib import Path

sys.path.insert(0, sys.path[0] + "/../lib")
from harness import check, equal, main, wait_until
from media import Call


def counters(gw):
    return {c["name"]: c["total"] for c in gw.ctl.ops("counters")["control"]}


def heard(call):
    """Both phones hear each other now."""
    begin = time.monotonic()
    wait_until(lambda: call.core.heard_since(begin) and call.unit.heard_since(begin), "both phones hear each other", 10)


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False, level={"rekey_s": 2, "overlap_s": 1, "seed_bytes": 48, "keygen": "device"})
    alice = t.agent(net.ue, gw, "alice")
    call = Call(gw, net.ue, alice.inner(), net.core, net.bob_address)
    t.defer(call.close)
    wait_until(lambda: call.media()["rekeys"] >= 1, "a re-key", 10)
    media = call.media()
    status, out, err = gw.ctl.raw("media", "rekey", media["id"])
    check(status == 0 and out.startswith(f"media {media['id']} re-keyed, epochs "), f"re-keyed by hand: {out}{err}")
    t.say(out.strip())
    equal(counters(gw)["seeds_made"], 0, "seeds by the gateway's generator in its first life")

    # Reloaded values are for new calls; the control plane's next life finds the running one's own.
    config = Path(gw.controlplane_config)
    config.write_text(re.sub(r'keygen = "device"', 'keygen = "gateway"', re.sub(r"seed_bytes = 48", "seed_bytes = 16", config.read_text())))
    before = call.leg()["epoch"]
    gw.controlplane.kill()
    gw.start_controlplane()
    wait_until(call.media, "the call is known again", 15)
    wait_until(lambda: call.leg()["epoch"] >= before + 2, "re-keying goes on", 30, 0.3)
    media = call.media()
    equal([media["seed_bytes"], media["interval_s"], media["key_source"]], [48, 2, "device"], "seed length, interval, key source of the call")
    equal(media["rekey_failures"], 0, "failed re-keys")
    heard(call)

    before = call.leg()["epoch"]
    gw.dataplane.stop(10)
    gw.start_dataplane()
    wait_until(lambda: gw.ctl.ops("status")["dataplane"]["connected"], "the data plane's return", 20)
    wait_until(lambda: call.leg()["epoch"] >= before + 2, "new epochs after the return", 30, 0.3)
    heard(call)
    media, leg = call.media(), call.leg()
    equal(leg["key_source"], "device", "who made the epoch in force")
    equal(media["seeds_made"], 0, "seeds that the gateway made for the call")
    equal(leg["received"]["auth_failures"], 0, "authentication failures since")
    check(media["seeds_from_units"] >= leg["epoch"], f"one seed each epoch by the unit, counted over the restart: {media['seeds_from_units']}")
    after = counters(gw)
    equal([after["seeds_made"], after["unit_seeds_refused"], after["unit_seeds_missing"]], [0, 0, 0], "the gateway's generator in its second life")
    fresh = Call(gw, net.ue, alice.inner(), net.core, net.bob_address, call_id="c2")
    t.defer(fresh.close)
    equal([fresh.media()["seed_bytes"], fresh.media()["key_source"]], [16, "gateway"], "a new call takes the new values")
    fresh.hang_up()
    call.hang_up()


main(test, "RIM-29 the device goes on making seeds over restarts")
