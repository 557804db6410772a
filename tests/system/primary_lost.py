#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 150
"""RIM-02, ORA-36: while the primary is cut no secondary can be made, and a running one goes on; when the link returns the session is
resumed and calls are accepted again. The unit's outer address changes in mid-call: the secondary moves by latching, the primary
resumes. kill -9 of the agent: its call ends within the media time-out, and a new agent gets a new session."""
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import check, equal, main, wait_until
from media import Call
from ng import Client
from peer import sdp


def session(gw):
    return next((s for s in gw.ctl.sessions() if s["unit"] == "alice"), None)


def offer(net, address, call_id):
    """ng offer and answer as a proxy sends them for a call from the unit: (result, reason)."""
    ng = netns.inside(net.gw.name, Client)
    reply = ng.command("offer", call_id=call_id, from_tag="a", sdp=sdp(address, 4000), metadata="caller=alice;callee=bob")
    if reply["result"] == "ok":
        reply = ng.command("answer", call_id=call_id, from_tag="a", to_tag="b", sdp=sdp(net.bob_address, 5000))
    ng.command("delete", call_id=call_id, from_tag="a")
    return reply["result"], reply.get("error-reason", "")


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False, media={"timeout_s": 6}, tunnel={"keepalive_ms": 500}, level={"rekey_s": 2, "overlap_s": 1})
    alice = t.agent(net.ue, gw, "alice")
    before, address = session(gw), alice.inner()
    call = Call(gw, net.ue, address, net.core, net.bob_address)
    t.defer(call.close)
    wait_until(lambda: call.core.received and call.unit.received, "media both ways", 5)

    # RIM-02: the primary alone is cut (TCP), the media's UDP still passes.
    rule = ["ipproto", "tcp", "sport", "4433", "blackhole"]  # what the gateway answers on the primary goes nowhere
    net.gw.ip("rule", "add", *rule)
    cut = time.monotonic()
    wait_until(lambda: not alice.status()["primary"]["up"], "the agent sees that its primary is gone", 10)
    wait_until(lambda: not (session(gw) or {}).get("up"), "so does the gateway", 10)
    result, reason = offer(net, address, "while-down")
    t.say(f"offer while the primary is down: {result}: {reason}")
    equal(result, "error", "a secondary without a primary")
    check(reason, "the refusal has a reason")
    now = time.monotonic()
    gap, pause = call.core.longest_gap(cut, now), call.unit.longest_pause(cut, now)
    check(gap - pause < 0.28, f"the call that ran goes on: {gap:.3f} s of silence, the phone itself paused for {pause:.3f} s")
    net.gw.ip("rule", "del", *rule)
    back = time.monotonic()
    wait_until(lambda: (session(gw) or {}).get("up") and alice.status()["primary"]["up"], "the primary returns", 15)
    t.say(f"primary up {time.monotonic() - back:.1f} s after the link's return")
    after = session(gw)
    equal((after["tsid"], alice.inner()), (before["tsid"], address), "TSID and inner address")
    equal(offer(net, address, "after")[0], "ok", "a secondary with the primary up again")
    rekeys = call.media()["rekeys"]
    wait_until(lambda: call.media()["rekeys"] >= rekeys + 2, "re-keying goes on", 15, 0.2)

    # Another outer address, without a word: the next packet that authenticates moves the leg.
    net.ue.ip("address", "del", "192.0.2.10/25", "dev", "ue0")
    net.ue.address("ue0", "192.0.2.20/25")
    net.ue.ip("route", "replace", "default", "via", "192.0.2.1")
    moved = time.monotonic()
    wait_until(lambda: call.leg()["remote"].startswith("192.0.2.20:"), "the leg latches to the new address", 5, 0.05)
    t.say(f"leg moved {1000 * (time.monotonic() - moved):.0f} ms after the address")
    wait_until(lambda: call.unit.heard_since(moved + 0.2) and call.core.heard_since(moved + 0.2), "media both ways from there", 5)
    wait_until(lambda: (session(gw) or {}).get("outer") == "192.0.2.20" and session(gw)["up"], "the primary is resumed from there", 20)
    equal((session(gw)["tsid"], call.media() is not None), (before["tsid"], True), "session and call after the move")
    rekeys = call.media()["rekeys"]
    wait_until(lambda: call.media()["rekeys"] >= rekeys + 2, "re-keying goes on from there", 15, 0.2)
    media = alice.status()["media"]["open"][0]
    equal((media["auth_failures"], media["unknown_epoch"]), (0, 0), "authentication failures and unknown epochs at the agent")

    # kill -9
    alice.process.kill()
    killed = time.monotonic()
    wait_until(lambda: call.media() is None, "the call ends within its time-out", 12, 0.1)
    t.say(f"call ended {time.monotonic() - killed:.1f} s after kill -9 of the agent, media time-out 6 s")
    wait_until(lambda: gw.ctl.ops("status")["dataplane"]["flows"] == 0, "its flows are gone", 3)
    again = t.agent(net.ue, gw, "alice", alice_key(gw))
    check(again.status()["primary"]["up"] and session(gw)["up"], "a new agent is served at once")
    equal(offer(net, again.inner(), "new")[0], "ok", "a call with the new agent")


def alice_key(gw):
    return gw.dir / "alice.psk"


main(test, "RIM-02 no secondary without a primary; ORA-36 a primary that returns")
