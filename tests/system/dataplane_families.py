#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""IPv6 on the access side, IPv4 in the core, on AF_XDP: media both ways, nothing lost; the core phone's MAC address changes in
between and the way follows; keys rotate meanwhile."""
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from flows import Dataplane, Peer, key_of
from harness import equal, check, main


def test(t):
    net = t.network(ue2=False, ipv6=True)
    dp = Dataplane(t, net, addresses={"access": "2001:db8:1::1", "core": net.core_address}).start()
    c = dp.contract()
    c("hello")
    suite, phone = "AES_CM_128_HMAC_SHA1_80", f"{net.bob_address}:6000"
    keys = c.add_call(phone, suite=suite)
    epochs = range(1, 6)
    up = [k for e in epochs for k in ("--send-key", f"{e}:" + "".join(key_of(suite, 50 + e)))]
    down = [k for e in epochs for k in ("--receive-key", f"{e}:" + "".join(key_of(suite, 80 + e)))]
    switch = [w for e in epochs for w in ("--switch", f"{200 * e}:{e}")]
    common = ["--rate", 100, "--count", 1200, "--linger", 1, "--rtcp-every", 50]
    unit = Peer(t, net.ue, "unit", "--bind", "[2001:db8:1::10]:7000", "--to", "[2001:db8:1::1]:4000", *keys, *up, *down, *switch, *common)
    far = Peer(t, net.core, "phone", "--bind", phone, "--to", f"{net.core_address}:5000", "--ssrc", 5, *common)
    begin = time.monotonic()
    for e in epochs:
        time.sleep(max(0, begin + 2 * e - 1 - time.monotonic()))
        k, d = key_of(suite, 50 + e), key_of(suite, 80 + e)
        c.all_ok("install", keys=[{"id": "access:4000", "side": "in", "epoch": e, "key": k[0], "salt": k[1]},
                                  {"id": "core:5000", "side": "out", "epoch": e, "key": d[0], "salt": d[1]}])
        c.all_ok("switch", refs=[{"id": "core:5000", "side": "out", "epoch": e}])
        if e > 1:
            c.all_ok("retire", refs=[{"id": "access:4000", "side": "in", "epoch": e - 2}, {"id": "core:5000", "side": "out", "epoch": e - 2}])
        if e == 3:  # the phone gets another network card
            net.core.ip("link", "set", "core0", "address", "02:00:00:00:00:77")
            net.gw.ip("neigh", "replace", net.bob_address, "lladdr", "02:00:00:00:00:77", "dev", "core0", "nud", "reachable")
    heard_by_unit, heard_by_phone = unit.result(), far.result()
    for end, name in ((heard_by_unit, "unit"), (heard_by_phone, "phone")):
        for what in ("auth_failed", "replayed", "doubled", "wrong_content", "malformed", "send_errors"):
            equal(end[what], 0, f"{what} at the {name}")
    t.say(f"lost: phone {heard_by_phone['lost']}, unit {heard_by_unit['lost']}")
    equal(heard_by_unit["lost"], 0, "packets that the unit lost after its first one")
    check(heard_by_phone["lost"] <= 10, f"what the change of MAC costs is a few packets: {heard_by_phone['lost']}")
    for end in (heard_by_unit, heard_by_phone):
        check(end["received"] >= 1100, f"both hear the other from the beginning: {end}")
    equal(set(dp.drops()) - {"no_remote", "no_next_hop"}, set(), f"drops: {dp.drops()}")


main(test, "data plane: IPv6 to IPv4 on AF_XDP, keys and neighbour change")
