#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""No room shows at the offer only: ports, flow table, number of calls. A proxy that knows load limits is told why, another one hears
rtpengine's exact words; pings, re-offers, answers and deletes go on; alarms are raised before it comes to that, and are over after."""
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
import ng
from harness import check, equal, main, wait_until

ALICE, BOB = "198.51.100.10", "198.51.100.20"


def sdp(address, port, more=""):
    return (f"v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\nm=audio {port} RTP/AVP 8\r\n"
            f"a=rtpmap:8 PCMA/8000\r\n{more}")


class Stand:
    def __init__(self, t, net, **options):
        self.t, self.net = t, net
        self.gw = t.gateway(net, kamailio=False, **options)
        self.ng = netns.inside(net.gw.name, lambda: ng.Client(timeout=5))
        check(self.ng.await_pong(), "pong")

    def offer(self, call, knows=True, more="", **keys):
        return self.ng.command("offer", call_id=call, from_tag="a", sdp=sdp(ALICE, 4000, more), **({"supports": ["load limit"]} if knows else {}), **keys)

    def answer(self, call, more=""):
        return self.ng.command("answer", call_id=call, from_tag="a", to_tag="b", sdp=sdp(BOB, 5000, more))

    def set_up(self, call):
        for reply in (self.offer(call), self.answer(call)):
            equal(reply.get("result"), "ok", f"{call}: {reply}")

    def delete(self, call):
        equal(self.ng.command("delete", call_id=call, from_tag="a").get("result"), "ok", f"delete of {call}")

    def fill(self):
        """Calls until there is no room; their names."""
        calls = []
        while len(calls) < 64:
            if self.offer(f"c{len(calls)}").get("result") != "ok":
                return calls
            equal(self.answer(f"c{len(calls)}").get("result"), "ok", f"answer of c{len(calls)}: room was promised at its offer")
            calls.append(f"c{len(calls)}")
        return calls

    def alarm(self, name):
        return {a["name"]: a["text"] for a in self.gw.ctl("alarm", "list")["alarms"]}.get(name)

    def pong(self):
        return self.ng.command("ping").get("result") == "pong"


def full(stand, words, exact, alarm):
    calls = stand.fill()
    check(len(calls) >= 2, f"some calls had room: {calls}")
    refused = stand.offer("late")
    equal((refused.get("result"), "error-reason" in refused), ("load limit", False), f"a proxy that knows load limits: {refused}")
    check(words in refused["message"], f"\"{words}\" in {refused['message']!r}")
    equal(stand.offer("late", knows=False), {"result": "error", "error-reason": exact}, "another proxy")
    check(stand.pong(), "ping")
    if alarm:
        text = wait_until(lambda: stand.alarm(alarm), f"alarm {alarm}", 10)
        stand.t.say(f"{len(calls)} calls, then \"{refused['message']}\"; alarm: {text}")
    # Running calls: hold, another way of RTCP, a media more.
    equal(stand.offer(calls[0], more="a=sendonly\r\n", to_tag="b").get("result"), "ok", "re-offer: hold")
    equal(stand.answer(calls[0], "a=recvonly\r\n").get("result"), "ok", "its answer")
    equal(stand.offer(calls[1], more="a=rtcp-mux\r\n", to_tag="b").get("result"), "ok", "re-offer: mux")
    equal(stand.answer(calls[1], "a=rtcp-mux\r\n").get("result"), "ok", "its answer")
    for call in calls:
        stand.delete(call)
    if alarm:
        wait_until(lambda: stand.alarm(alarm) is None, f"alarm {alarm} is over", 15)
    wait_until(lambda: stand.offer("again").get("result") == "ok", "room again", 10)
    stand.delete("again")


def test(t):
    net = t.network(ue2=False)
    flows = Stand(t, net, dataplane={"max_flows": 32})
    full(flows, "flow table", "Parallel session limit reached", "flow-table")
    flows.gw.stop()
    ports = Stand(t, net, media={"ports": [20000, 20015], "quarantine_ms": 500})
    full(ports, "all media ports of \"core\" (20000-20015) are in use", "Ran out of ports", "ports")
    ports.gw.stop()


main(test, "no room is found at the offer; ping, re-offers and deletes go on")
