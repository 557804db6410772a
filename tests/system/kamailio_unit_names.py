#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""Names of a unit's own, from tandemctl to Kamailio: a unit that comes up may register its id code at once, a name from when it is
added until it is removed, and no other unit may. Names outlive the control plane and go with the unit."""
import shutil
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
import sip
from harness import check, equal, main, skip, wait_until
from programs import CtlError


def test(t):
    if not shutil.which("kamailio"):
        skip("kamailio is not installed (package kamailio)")
    net = t.network()
    gw = t.gateway(net)
    check(gw.ctl("status")["ports"]["free"] > 0, "before the first call every port is free")
    phones = {}
    for unit, space in (("pbx", net.ue), ("alice", net.ue2)):
        agent = t.agent(space, gw, unit)
        phones[unit] = sip.Agent(unit, space, agent.inner(), 5060, gw.inner)
        t.defer(phones[unit].close)
        equal(phones[unit].try_register(), "SIP/2.0 200 OK", f"{unit} registers as soon as it is up")
    pbx, alice = phones["pbx"], phones["alice"]

    def as_name(phone, name):
        return phone.try_register(name, sender=name).split(" ")[1]

    equal(as_name(pbx, "+46701"), "403", "a name that is nobody's yet")
    for name in ("+46701", "+46702"):
        equal(gw.ctl("unit", "name", "add", "pbx", name), {"id": "pbx", "name": name}, "added")
    equal((as_name(pbx, "+46701"), as_name(pbx, "+46702")), ("200", "200"), "its own names, at the next request")
    equal(as_name(alice, "+46701"), "403", "not another unit's")
    equal(as_name(alice, "pbx"), "403", "nor the id code of another")
    for words in (("add", "alice", "+46701"), ("add", "alice", "pbx"), ("remove", "alice", "+46701"), ("add", "nobody", "x")):
        try:
            gw.ctl("unit", "name", *words)
            check(False, f"unit name {words} is refused")
        except CtlError as refused:
            equal(refused.code, 1, f"unit name {words}: {refused}")
    gw.ctl("unit", "name", "add", "pbx", "+46703")  # which it does not register
    call = alice.invite("+46703", "by-name")
    equal([m.split(" ")[1].split("@")[0] for m in pbx.asked("INVITE", call.call_id)], ["sip:+46703"], "the PBX is called by its name")
    equal([(c["caller"], c["callee"]) for c in gw.ctl("call", "list")["calls"]], [("alice", "+46703")], "the call's parties")
    equal(sorted(leg["unit"] for leg in gw.ctl.media()[0]["legs"]), ["alice", "pbx"], "both legs are units'")
    check(" 200 " in call.bye(), "BYE")
    gw.ctl("policy", "set", "pbx", next(iter(gw.ctl("level", "list")["levels"]))["name"])
    call = pbx.invite("alice", "under-its-name", sender="+46701")
    equal([(c["caller"], c["callee"]) for c in gw.ctl("call", "list")["calls"]], [("+46701", "alice")], "the call's parties")
    rules = {step["rule"]: step["level"] for step in gw.ctl.media()[0]["why"]}
    check(rules.get("security database: caller's unit"), f"the unit is asked beside its name: {rules}")
    check(" 200 " in call.bye(), "BYE")
    gw.controlplane.stop()
    gw.start_controlplane()
    equal(gw.ctl("unit", "name", "list", "pbx"), {"id": "pbx", "names": ["+46701", "+46702", "+46703"]}, "names after a restart")
    wait_until(lambda: all(s["up"] for s in gw.ctl.sessions()) and len(gw.ctl.sessions()) == 2, "both units are back", 20)
    equal((as_name(pbx, "+46702"), as_name(alice, "alice")), ("200", "200"), "after the control plane's restart")
    gw.ctl("unit", "name", "remove", "pbx", "+46702")
    equal((as_name(pbx, "+46702"), as_name(pbx, "+46701")), ("403", "200"), "a name that was removed")
    gw.ctl("unit", "remove", "pbx")
    gw.ctl("unit", "name", "add", "alice", "+46701")
    equal(as_name(alice, "+46701"), "200", "a name that is free again")
    equal(gw.ctl("alarm", "list")["alarms"], [], "alarms")


main(test, "Kamailio: a unit's names, from tandemctl on")
