#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A row of the security database that says deny (RIM-19: live): the offer is refused in words by ng, with a unit or without, nothing of it
is left but its record, and it is counted; a call that runs goes on, its re-offer is refused; taken away, calls are as before."""
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
from core_calls import Caller
from harness import check, equal, main, wait_until
from media import Call
from peer import sdp

WHY = "left the company; ask 4711"
TOLD = f"Denied by policy: {WHY}"


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False)
    alice = t.agent(net.ue, gw, "alice").inner()
    calls = Caller(gw, net.bob_address)
    t.defer(calls.close)
    running = Call(gw, net.ue, alice, net.core, net.bob_address, call_id="running", callee="+46701234567")
    t.defer(running.close)

    def state():
        status = gw.ctl.ops("status")
        media = [(m["call_id"], m["level"], [(leg["local_rtp"], leg["suite"]) for leg in m["legs"]]) for m in gw.ctl.media()]
        return media, status["ports"], status["dataplane"]["flows"]

    before = state()
    gw.ctl("policy", "set", "+4670", "deny", "--comment", WHY)
    for caller, offer in (("dave", lambda: calls.offer("c1", callee="+46709")), ("+46709", lambda: calls.offer("c2", caller="+46709"))):
        reply = offer()
        equal((reply["result"], reply["error-reason"]), ("error", TOLD), f"offer of {caller}")
    reply = calls.ask("offer", call_id="c3", from_tag="a", sdp=sdp(alice, 6000), metadata="caller=alice;callee=+46701")
    equal((reply["result"], reply["error-reason"]), ("error", TOLD), "offer of a unit")
    equal(state(), before, "ports, flows, media after refused offers")
    equal(calls.known(), {"running"}, "calls")

    again = running.ng.command("offer", call_id="running", from_tag="a", to_tag="b", sdp=sdp(alice, running.unit.port))
    equal((again["result"], again["error-reason"]), ("error", TOLD), "a re-offer of a call that runs")
    equal(state(), before, "the call that runs")
    heard = len(running.core.received)
    wait_until(lambda: len(running.core.received) > heard + 25, "its speech goes on", 5)

    counters = {c["name"]: c["total"] for c in gw.ctl.ops("counters")["control"]}
    equal(counters["policy_denied"], 4, "counter of what was denied")
    explained = gw.ctl("policy", "explain", "alice", "+46701")
    equal((explained["level"], explained["decided_by"], explained["denied"]), ("deny", "security database: callee", WHY), "explained")
    status, out, err = gw.ctl.raw("policy", "explain", "alice", "+46701")
    check(status == 0 and WHY in out, f"explained for people: {out}{err}")
    log = gw.ctl("policy", "log")["changes"][-1]
    equal((log["address"], log["level"], log["comment"]), ("+4670", "deny", WHY), "the audit")
    records = {r["call_id"]: r for r in gw.ctl("record", "list")["records"]}
    equal({i: (r["level"], r["cause"]) for i, r in records.items()}, {i: ("deny", TOLD) for i in ("c1", "c2", "c3")}, "records")
    shown = gw.ctl("record", "show", records["c3"]["id"])
    equal((shown["caller"], shown["callee"], shown["decided_by"]), ("alice", "+46701", "security database: callee"), "a record: asked, decided")
    check(any(step["decided"] and WHY in step["text"] for step in shown["why"]), f"a record's steps: {shown['why']}")
    equal(gw.controlplane.log().count(TOLD), 4, "in the log, once an offer")

    gw.ctl("policy", "unset", "+4670")
    calls.whole("c1")
    again = running.ng.command("offer", call_id="running", from_tag="a", to_tag="b", sdp=sdp(alice, running.unit.port))
    equal(again["result"], "ok", "a re-offer once nobody denies it")


main(test, "policy denies: an offer is refused in words, and only its record is left")
