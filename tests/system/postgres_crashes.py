#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
"""kill -9 of the control plane at random moments while calls end and their records go to PostgreSQL, and of PostgreSQL in every third
round: each call has one record there, and its pair's profile learnt of it once."""
import random
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from core_calls import Caller
from harness import equal, main, wait_until
from ng import encode
from postgres_calls import gateway_with, start_server

ROUNDS, CALLS = 24, 12


def test(t):
    server = start_server(t)
    net = t.network(ue2=False)
    gw = gateway_with(t, net, server)
    caller = Caller(gw, net.bob_address)
    t.defer(caller.close)
    chance = random.Random(t.seed)
    in_flight = 0
    for turn in range(ROUNDS):
        ids = [f"call-{turn}-{n}" for n in range(CALLS)]
        for call_id in ids:
            caller.begin(call_id)
        for call_id in ids:  # not waited for
            caller.ng.socket.send(caller.ng.cookie().encode() + b" " + encode({"command": "delete", "call-id": call_id, "from-tag": "a"}))
        # Records are taken every 200 ms: some rounds end before, some in it, some after.
        time.sleep(chance.random() * 0.4)
        if turn % 3 == 2:
            server.kill()
        in_flight += gw.ctl.ops("record list", limit=1)["waiting"] > 0
        gw.controlplane.kill()
        if turn % 3 == 2:
            server.start()
        gw.start_controlplane()
        for call_id in ids:  # those that it had not ended; the others it does not know any more
            try:
                caller.end(call_id)
            except RuntimeError:
                pass
    total = ROUNDS * CALLS
    wait_until(lambda: server.number("SELECT count(*) FROM tandem.call_record") >= total, "all records arrive", 20)
    wait_until(lambda: gw.ctl.ops("record list")["waiting"] == 0, "nothing waits", 10)
    t.say(f"{ROUNDS} kills, {in_flight} of them while records waited; {total} calls")
    equal(server.psql("SELECT count(*), count(DISTINCT call_id) FROM tandem.call_record"), f"{total}|{total}", "records, different calls")
    equal(server.psql("SELECT body->>'total' FROM tandem.profile WHERE a = 'dave' AND b = 'erin'"), str(total), "calls that the profile knows")


main(test, "kill -9 of the control plane and of PostgreSQL while records go there: each once")
