#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""RIM-19, RIM-22, RIM-25, RIM-27: two gateways on one PostgreSQL. A rule set at one decides the next call at the other, whoever sets it;
both write records, either shows all; the pair's profile learns of calls through both."""
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from harness import check, equal, main, wait_until
from media import Call
from postgres_calls import LEVELS, shared_store, start_server


def one_call(gw, net, address, call_id, seconds=1.0):
    """A call of the pair alice and bob; its level and who decided it."""
    call = Call(gw, net.ue, address, net.core, net.bob_address, call_id=call_id)
    try:
        time.sleep(seconds)
        media = call.media()
        check(call.core.received and call.unit.received, f"media of {call_id} flow both ways")
        unit = call.leg()
        call.hang_up()
        return media["level"], media["decided_by"], unit["suite"]
    finally:
        call.close()


def rule(gw, address):
    return next((r for r in gw.ctl.ops("policy list")["rules"] if r["address"] == address), None)


def heard(begin, gw, address, level):
    """How long it takes until the gateway has the rule."""
    wait_until(lambda: (rule(gw, address) or {}).get("level") == level, f"rule {address} = {level} is heard", 10, 0.01)
    return time.monotonic() - begin


def total(gw):
    found = gw.ctl.ops("policy profile", a="alice", b="bob")
    return (found or {}).get("total", 0)


def test(t):
    server = start_server(t)
    nets = [t.network(ue2=False), t.network(ue2=False)]
    gws = [t.gateway(net, kamailio=False, levels=LEVELS, tables=shared_store(server), instance=f"{t.prefix}-gw{i + 1}") for i, net in enumerate(nets)]
    phones = [t.agent(net.ue, gw, unit).inner() for net, gw, unit in zip(nets, gws, ("alice", "carol"))]
    one, two = gws
    two.ctl("unit", "name", "add", "carol", "alice")  # the one caller, wherever
    for gw in gws:
        wait_until(lambda g=gw: g.ctl.ops("status")["store"]["connected"], "the shared store is connected", 10)

    equal(one_call(two, nets[1], phones[1], "first"), ("standard", "default", "AEAD_AES_128_GCM"), "a call without a rule, at gateway 2")
    begin = time.monotonic()
    one.ctl.ops("policy set", address="bob", level="high", comment="by gateway 1")
    t.say(f"a rule set at gateway 1 is heard at gateway 2 after {1000 * heard(begin, two, 'bob', 'high'):.0f} ms")
    check(rule(one, "bob"), "who sets a rule has it when told so")
    level, why, suite = one_call(two, nets[1], phones[1], "second")
    equal((level, suite), ("high", "AEAD_AES_256_GCM"), "the next call at gateway 2")
    check("callee" in why, f"the callee's rule decided: {why}")
    equal(one_call(one, nets[0], phones[0], "third", 2.0)[0], "high", "the next call at gateway 1")

    for name, gw in (("1", one), ("2", two)):
        wait_until(lambda g=gw: len(g.ctl.ops("record list")["records"]) == 3, f"gateway {name} shows all three records", 10)
        rows = gw.ctl.ops("record list")["records"]
        equal([r["call_id"] for r in rows], ["third", "second", "first"], f"the records at gateway {name}, newest first")
        equal([r["instance"] for r in rows], [one.instance, two.instance, two.instance], "the gateways that carried them")
        wait_until(lambda g=gw: total(g) == 3, f"gateway {name} knows three calls of the pair", 10)
    equal(server.psql("SELECT a, b, body->>'total' FROM tandem.profile"), "alice|bob|3", "the profile in the shared store")
    wait_until(lambda: one.ctl.ops("record list")["waiting"] == 0, "nothing waits", 5)

    begin = time.monotonic()
    server.psql("INSERT INTO tandem.rule(address, level) VALUES ('+4670', 'high')")
    t.say(f"a rule set by psql is heard at both after {1000 * max(heard(begin, gw, '+4670', 'high') for gw in gws):.0f} ms")
    two.ctl.ops("policy unset", address="bob")
    wait_until(lambda: rule(one, "bob") is None, "a rule removed at gateway 2 is gone at gateway 1", 5)
    equal(one_call(one, nets[0], phones[0], "fourth")[:2], ("standard", "default"), "the call after that")
    log = one.ctl.ops("policy log")["changes"]
    equal([(c["address"], c["removed"]) for c in log], [("bob", False), ("+4670", False), ("bob", True)], "the audit, the same at both")
    equal(log, two.ctl.ops("policy log")["changes"], "the audit at gateway 2")
    check(log[1]["who"].startswith("directly") and log[0]["who"] != log[1]["who"], f"who did it is told: {[c['who'] for c in log]}")


main(test, "two gateways on one PostgreSQL: rules, records and profiles are shared (RIM-19, RIM-22, RIM-25, RIM-27)")
