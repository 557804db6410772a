#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""RIM-10, RIM-02: silence for the configured time ends the secondary by itself; BYE's delete ends it in under a second, later packets
under its keys are dropped and counted; without a primary there is no secondary. Both ends are told on call-ends.sock."""
import json
import socket
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import check, equal, main, wait_until
from media import Call
from ng import Client
from peer import sdp


def flows(gw):
    return gw.ctl.ops("status")["dataplane"]["flows"]


def closed_drops(gw):
    d = gw.ctl.drops()
    return d.get("edge_closed_port", 0) + d.get("no_flow", 0) + d.get("flow_gone", 0)


def listener(t, gw):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    t.defer(s.close)
    s.settimeout(10)
    s.connect(str(gw.run_dir / "call-ends.sock"))
    return s.makefile("r")


def told(ends, call_id, cause):
    said = json.loads(ends.readline())
    equal({k: said[k] for k in ("event", "call_id", "caller", "callee")},
          {"event": "call ended", "call_id": call_id, "caller": "alice", "callee": "bob"}, "what the socket tells")
    check(said["cause"].startswith(cause), f"why: {said['cause']}")
    check(said["from_tag"] and said["to_tag"] and 1 < said["seconds"] < 60, f"tags and duration: {said}")


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False, media={"timeout_s": 5})
    alice = t.agent(net.ue, gw, "alice")
    ends = listener(t, gw)
    deaf = listener(t, gw)  # reads nothing, and holds nobody up

    call = Call(gw, net.ue, alice.inner(), net.core, net.bob_address, call_id="bye")
    time.sleep(1.5)
    check(call.core.received and call.unit.received, "media flow both ways")
    check(flows(gw) > 0, "flows are in the data plane")
    _, words, _ = gw.ctl.raw("status")
    said = {line.split("  ")[0]: line.split()[-1] for line in (l.strip() for l in words.splitlines()) if line}
    equal(int(said["flows"]), flows(gw), "flows as tandemctl status shows them")
    check(int(said["flows, most"]) >= int(said["flows"]) and int(said["keys"]) > 0, f"their most, and keys: {words}")
    check(500 < int(said["bytes a flow"]) < 10_000, f"state memory a flow: {said['bytes a flow']} bytes")
    begin = time.monotonic()
    call.command("delete")
    wait_until(lambda: flows(gw) == 0, "delete takes the flows out", 1.0, 0.02)
    told(ends, "bye", "hung up")
    t.say(f"flows gone {1000 * (time.monotonic() - begin):.0f} ms after delete was sent")
    # The phones do not know yet: what the core still sends meets a closed port.
    before = closed_drops(gw)
    time.sleep(1.5)
    wait_until(lambda: closed_drops(gw) > before, "later packets are dropped and counted", 3)
    call.close()

    call = Call(gw, net.ue, alice.inner(), net.core, net.bob_address, call_id="silent")
    t.defer(call.close)
    time.sleep(1.5)
    call.unit.pause()
    call.core.pause()
    begin = time.monotonic()
    time.sleep(3)
    check(call.media() is not None, "3 s of silence end nothing at a limit of 5 s")
    wait_until(lambda: call.media() is None, "the limit ends it", 15, 0.2)
    took = time.monotonic() - begin
    told(ends, "silent", "media timeout: ")
    t.say(f"ended {took:.1f} s after the last packet, limit 5 s")
    check(took > 4.5, f"not before its time: {took:.1f} s")
    wait_until(lambda: flows(gw) == 0, "its flows are gone", 2)

    deaf.close()

    # RIM-02: the unit's primary is gone, so an offer from it is refused.
    address = alice.inner()
    equal(alice.stop(), 0, "the agent's exit status")
    wait_until(lambda: not any(s["up"] for s in gw.ctl.sessions()), "the session is down", 10)
    ng = netns.inside(net.gw.name, Client)
    offer = ng.command("offer", call_id="none", from_tag="a", sdp=sdp(address, 4000), metadata="caller=alice;callee=bob")
    reply = offer if offer["result"] != "ok" else ng.command("answer", call_id="none", from_tag="a", to_tag="b",
                                                             sdp=sdp(net.bob_address, 5000))
    equal(reply["result"], "error", f"a secondary without a primary (said: {reply.get('error-reason')})")
    check(reply.get("error-reason"), "the refusal has a reason")


main(test, "RIM-10 a secondary ends with its call or with silence; RIM-02 not without a primary")
