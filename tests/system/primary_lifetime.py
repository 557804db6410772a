#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""RIM-03: the primary's lifetime is negotiated (gateway 150 s, the unit wishes less: the wish; more: the gateway's); it is renewed
in time with the session, its addresses and a running call unhurt."""
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from harness import check, equal, main, wait_until
from media import Call


def session(gw, unit):
    return next((s for s in gw.ctl.sessions() if s["unit"] == unit), None)


def test(t):
    net = t.network()
    gw = t.gateway(net, kamailio=False, tunnel={"lifetime_s": 150}, level={"rekey_s": 2, "overlap_s": 1})
    carol = t.agent(net.ue2, gw, "carol", more={"lifetime_s": 3600})
    equal((session(gw, "carol")["lifetime_s"], carol.status()["primary"]["lifetime_s"]), (150, 150), "lifetime where the unit wishes more")

    alice = t.agent(net.ue, gw, "alice", more={"lifetime_s": 10})
    before = session(gw, "alice")
    equal((before["lifetime_s"], alice.status()["primary"]["lifetime_s"]), (10, 10), "lifetime where the unit wishes less")
    call = Call(gw, net.ue, alice.inner(), net.core, net.bob_address)
    t.defer(call.close)
    time.sleep(1)
    begin = time.monotonic()
    wait_until(lambda: alice.status()["primary"]["renewals"] >= 2, "two renewals", 25, 0.2)
    took = time.monotonic() - begin
    t.say(f"two renewals within {took:.1f} s of a lifetime of 10 s")
    check(took > 10, f"a renewal is due near the lifetime's end, not before: {took:.1f} s")
    after = session(gw, "alice")
    equal((after["tsid"], after["inner"], after["up"]), (before["tsid"], before["inner"], True), "session after the renewals")
    check(after["outer_port"] != before["outer_port"], "the connection is another one: new keys")
    rekeys = call.media()["rekeys"]
    wait_until(lambda: call.media()["rekeys"] >= rekeys + 2, "re-keying goes on over the new connection", 10, 0.2)
    end = time.monotonic()
    for name, phone in (("core", call.core), ("unit", call.unit)):
        gap = phone.longest_gap(begin, end)
        t.say(f"{name} phone: longest silence {gap * 1000:.0f} ms")
        check(gap < 0.3, f"media to the {name} survive the renewals: {gap:.3f} s")
    equal(alice.status()["media"]["open"][0]["auth_failures"], 0, "authentication failures")
    equal(session(gw, "carol")["reconnects"], 0, "reconnects of the other unit, whose lifetime is not over")


main(test, "RIM-03 the primary's lifetime is negotiated, and renewed without harm to calls")
