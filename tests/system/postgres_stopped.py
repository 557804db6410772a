#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
"""PostgreSQL is frozen, then killed, then gone for a while during 200 calls; the control plane is killed -9 while records wait. No call
is lost, no record is lost or doubled, the profile learns of each call once; the alarm stands while the store is away, and no longer."""
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from core_calls import Caller, alarms
from harness import check, equal, main, wait_until
from media import Call
from postgres_calls import gateway_with, start_server

CALLS, AWAY = 200, 60.0  # the server is away for so many seconds


def test(t):
    server = start_server(t)
    net = t.network(ue2=False)
    gw = gateway_with(t, net, server)
    gw.ctl.ops("policy set", address="bob", level="high")
    alice = t.agent(net.ue, gw, "alice")
    talk = Call(gw, net.ue, alice.inner(), net.core, net.bob_address, call_id="talk")  # one with media, over everything
    t.defer(talk.close)
    caller = Caller(gw, net.bob_address)
    t.defer(caller.close)

    open_calls, slowest = [], 0.0
    begin = None
    for number in range(CALLS):
        call_id = f"call-{number}"
        if number == 20:
            begin = time.monotonic()
            server.freeze()
            t.say("the server is frozen")
        if number == 40:
            said = wait_until(lambda: alarms(gw).get("store"), "an alarm says that the store is away", 10)
            t.say(f"alarm: {said}")
            equal(gw.ctl.ops("policy explain", caller="alice", callee="bob")["level"], "high", "the rules that were loaded stay in force")
        if number == 60:
            server.kill()
            t.say("the server is killed")
        if number == 120:
            waiting = gw.ctl.ops("record list")["waiting"]
            check(waiting > 50, f"records wait here: {waiting}")
            gw.controlplane.kill()
            t.say(f"the control plane is killed while {waiting} records wait and {len(open_calls)} calls stand")
            gw.start_controlplane()
            check(gw.ctl.ops("record list")["waiting"] >= waiting, "they wait still")
        sent = time.monotonic()
        caller.begin(call_id)
        slowest = max(slowest, time.monotonic() - sent)
        open_calls.append(call_id)
        if len(open_calls) > 5:
            caller.end(open_calls.pop(0))
        if begin:
            time.sleep(max(0.0, begin + AWAY * (number - 19) / (CALLS - 20) - time.monotonic()))
    for call_id in open_calls:
        caller.end(call_id)
    wait_until(lambda: "records-waiting" in alarms(gw), "an alarm says that records wait", 5)
    shown = gw.ctl.ops("record list", limit=1000)
    check(len(shown["records"]) > 100 and "away" in shown.get("note", ""), f"what is here can be read meanwhile: {len(shown['records'])} records")
    t.say(f"all {CALLS} calls were set up and ended; the slowest set-up took {1000 * slowest:.0f} ms, {caller.retries} requests were sent again")
    check(talk.media() and talk.media()["level"] == "high", "the call with media goes on")
    equal(talk.leg()["received"]["auth_failures"], 0, "its authentication failures")

    server.start()
    back = time.monotonic()
    wait_until(lambda: not alarms(gw), "the alarms are cleared", 20)
    talk.hang_up()
    wait_until(lambda: server.number("SELECT count(*) FROM tandem.call_record") >= CALLS + 1, "all records arrive", 20)
    t.say(f"all records are in the shared store {time.monotonic() - back:.1f} s after its return")
    time.sleep(1)
    equal(server.psql("SELECT count(*), count(DISTINCT call_id) FROM tandem.call_record"), f"{CALLS + 1}|{CALLS + 1}", "records, different calls")
    equal(server.psql("SELECT body->>'total' FROM tandem.profile WHERE a = 'dave' AND b = 'erin'"), str(CALLS), "calls that the profile knows")
    equal(gw.ctl.ops("record list")["waiting"], 0, "records that wait")
    shown = gw.ctl.ops("record list", limit=1000)
    equal((len(shown["records"]), shown.get("note")), (CALLS + 1, None), "records as the gateway shows them, and nothing to remark")


main(test, "PostgreSQL away during 200 calls: no call lost, no record lost or doubled")
