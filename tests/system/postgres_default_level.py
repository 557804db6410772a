#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""RIM-21: a gateway that starts while the shared store is down gives the default level, raises an alarm and loses no call; when the
store comes, the listed level counts for the next call, and the record of the first one goes there."""
import subprocess
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from core_calls import alarms
from harness import check, equal, main, wait_until
from media import Call
from postgres_calls import gateway_with, start_server
from programs import program, write_toml


def refused(t):
    """A password in conninfo is refused before anything starts, and is not repeated."""
    config = write_toml(t.dir / "bad.toml", {},
                        [("[tunnel]", {"listen": ["192.0.2.1:4433"], "inner4": "10.64.0.0/16"}),
                         ("[store]", {"kind": "postgresql", "conninfo": "host=db password=sesame"})])
    done = subprocess.run([program("tandem-controlplane"), "--config", config, "--check"], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    check(done.returncode == 1 and "bad.toml:9" in said and "passfile" in said, f"a password in conninfo is refused with line and remedy: {said}")
    check("sesame" not in said, "the password is not repeated")


def test(t):
    server = start_server(t)
    refused(t)
    net = t.network(ue2=False)
    gw = gateway_with(t, net, server)
    gw.ctl.ops("policy set", address="bob", level="high")
    gw.stop()
    server.stop()

    gw.start()
    begin = time.monotonic()
    said = wait_until(lambda: alarms(gw).get("store"), "an alarm says that the store is away", 10)
    t.say(f"alarm {time.monotonic() - begin:.1f} s after the start: {said}")
    alice = t.agent(net.ue, gw, "alice")
    call = Call(gw, net.ue, alice.inner(), net.core, net.bob_address, call_id="during")
    t.defer(call.close)
    wait_until(lambda: call.core.received and call.unit.received, "media flow both ways while the store is down", 5)
    media = call.media()
    equal((media["level"], media["decided_by"]), ("standard", "default"), "the level of an unlisted call")
    explained = gw.ctl.ops("policy explain", caller="alice", callee="bob")
    equal(explained["level"], "standard", "policy explain while nothing is known")

    server.start()
    begin = time.monotonic()
    wait_until(lambda: not alarms(gw), "the alarm is cleared", 15)
    t.say(f"alarm cleared {time.monotonic() - begin:.1f} s after the server's return")
    equal(call.media()["level"], "standard", "a running call keeps its level")
    call.hang_up()
    other = Call(gw, net.ue, alice.inner(), net.core, net.bob_address, call_id="after")
    t.defer(other.close)
    wait_until(lambda: other.core.received and other.unit.received, "media of the next call", 5)
    equal(other.media()["level"], "high", "the level of the next call to a listed number")
    other.hang_up()
    wait_until(lambda: server.psql("SELECT string_agg(call_id, ',' ORDER BY call_id) FROM tandem.call_record") == "after,during",
               "both records are in the shared store", 10)
    check(not alarms(gw), f"no alarm stands at the end: {alarms(gw)}")


main(test, "RIM-21 the store is down at the start: default level, alarm, no lost call")
