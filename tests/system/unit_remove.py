#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`tandemctl unit add` makes a key file that an agent can use as it is; `unit remove` ends the unit's session at once and for good;
`session drop` ends a session and its call, and the unit may return."""
import os
import stat
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from harness import check, equal, main, wait_until
from media import Call


def session(gw, unit):
    return next((s for s in gw.ctl.sessions() if s["unit"] == unit and s["up"]), None)


def test(t):
    net = t.network()
    gw = t.gateway(net, kamailio=False)
    key = t.dir / "alice.psk"
    added = gw.ctl("unit", "add", "alice", "--psk-file", key, "--comment", "a test's phone")
    equal((added["id"], added["has_psk"], added["comment"]), ("alice", True, "a test's phone"), "the unit as added")
    equal(stat.S_IMODE(os.stat(key).st_mode), 0o600, "mode of the key's file")
    status, out, err = gw.ctl.raw("unit", "add", "alice", "--psk-file", key)
    equal((status, out), (1, ""), "adding it again fails")
    check(key.exists() and "alice" in err, f"the refusal names it, and the key stays: {err}")
    alice = t.agent(net.ue, gw, "alice", key)
    first = session(gw, "alice")
    call = Call(gw, net.ue, alice.inner(), net.core, net.bob_address)
    t.defer(call.close)
    wait_until(lambda: call.core.received and call.unit.received, "media both ways", 5)

    gw.ctl("session", "drop", "alice", "--reason", "a test")
    wait_until(lambda: call.media() is None, "its call ends with the session", 5)
    wait_until(lambda: session(gw, "alice") and session(gw, "alice")["tsid"] != first["tsid"] or not alice.process.alive(),
               "the unit returns as a new session, or its agent says why not", 20, 0.2)
    t.say(f"after session drop: agent {'runs' if alice.process.alive() else 'ended'}, session {(session(gw, 'alice') or {}).get('tsid')}")

    gw.ctl("unit", "remove", "alice")
    wait_until(lambda: session(gw, "alice") is None, "the session is gone", 5)
    time.sleep(3)
    equal(session(gw, "alice"), None, "the removed unit's session")
    equal(gw.ctl("unit", "list")["units"], [], "units")
    equal(gw.ctl.raw("unit", "show", "alice")[0], 1, "exit status for a unit that is not there")


main(test, "unit add, session drop, unit remove")
