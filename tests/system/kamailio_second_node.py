#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""Two media nodes behind the real Kamailio: this gateway and rtpengine. While our data plane is stopped, or has no room, new calls
go to the other node at once; running calls keep theirs (re-INVITE, BYE), also while Kamailio has taken the node out; afterwards new
calls come here again."""
import os
import shutil
import signal
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
import ng
import sip
from harness import check, equal, main, skip, wait_until
from sip_gateway import SipGateway

CORE, MEDIA, OTHER = "198.51.100.1", "198.51.100.2", "198.51.100.3"
OURS, THEIRS = "udp:127.0.0.1:2223", "udp:127.0.0.1:2222"


def call_id(word):
    """One that Kamailio gives to the first node of two: the sum of its characters is even."""
    return word if sum(word.encode()) % 2 == 0 else word + "1"


class Stand:
    def __init__(self, t):
        self.t, self.net = t, t.network(ue2=False)
        self.net.gw.address("core0", f"{OTHER}/24")
        # Room for three calls: 4 flows each, a quarter of the table is kept for calls that run.
        self.gw = t.gateway(self.net, start=False, kamailio=False, dataplane={"max_flows": 16})
        self.gw.start_dataplane(holder=False)  # which would put another in a stopped one's place
        self.gw.start_controlplane()
        t.start("rtpengine", ["rtpengine", "--table=-1", f"--interface={OTHER}", "--listen-ng=127.0.0.1:2222", "--foreground",
                              "--log-stderr", "--log-level=4", f"--pidfile={t.dir}/rtpengine.pid", "--port-min=30000", "--port-max=31000"], self.net.gw)
        self.ng = netns.inside(self.net.gw.name, lambda: ng.Client(timeout=2))
        other = netns.inside(self.net.gw.name, lambda: ng.Client(port=2222))
        check(other.await_pong() and self.ng.await_pong(), "both nodes answer")
        self.control = t.dir / "kamailio.ctl"
        self.sip = SipGateway(self.net.gw, t.dir, self.net.access, CORE, ng=f"{OURS} {THEIRS}",
                              more=["--loadmodule=ctl.so", f"--modparam=ctl:binrpc:s:unix:{self.control}"])
        t.defer(self.sip.stop)
        self.kamailio = self.sip.start(t.log_dir)
        self.alice, self.bob = (sip.Agent(user, self.net.core, self.net.bob_address, port, CORE, port + 1000)
                                for user, port in (("alice", 5070), ("bob", 5080)))
        for agent in (self.alice, self.bob):
            t.defer(agent.close)
        self.bob.register()

    def pong(self):
        return self.ng.command("ping").get("result") == "pong"

    def call(self, word, node):
        """A call that must go by the node with this address; returns it and how long its set-up took."""
        begin = time.monotonic()
        call = self.alice.invite("bob", call_id(word))
        took = time.monotonic() - begin
        equal(sip.media_of(self.bob.asked("INVITE", call.call_id)[-1])[0], node, f"{word}: media node towards bob")
        equal(call.media[0], node, f"{word}: media node towards alice")
        return call, took

    def calls(self):
        return {c["call_id"] for c in self.gw.ctl("call", "list")["calls"]}

    def kamcmd(self, *words):
        return self.net.gw.run("kamcmd", "-s", f"unix:{self.control}", *words)

    def end(self, call, what):
        check(" 200 " in call.bye(), f"{what}: BYE is answered")
        wait_until(lambda: call.call_id not in self.calls(), f"{what}: its delete reached this gateway", 5)


def stopped(stand):
    first, _ = stand.call("first", MEDIA)
    second, _ = stand.call("second", MEDIA)
    check(stand.calls() == {first.call_id, second.call_id}, "two calls here")
    os.kill(stand.gw.dataplane.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: not stand.pong(), "no pong", 5)
        other, took = stand.call("third", OTHER)
        stand.t.say(f"data plane stopped: the other node has the new call after {took * 1000:.0f} ms")
        check(took < 1, f"without a time-out: {took:.2f} s")
        check(" 200 " in other.bye(), "its BYE is answered")
        stand.end(first, "running call, data plane stopped")
        # A proxy that pings takes the node out; its running calls still belong to it.
        check("fail" in stand.kamcmd("rtpengine.ping", OURS), "Kamailio's ping fails")
        check(disabled(stand), "Kamailio has taken this node out")
        other, _ = stand.call("fourth", OTHER)
        check(" 200 " in other.bye(), "its BYE is answered")
        stand.end(second, "running call, node taken out")
    finally:
        os.kill(stand.gw.dataplane.pid, signal.SIGCONT)
    wait_until(stand.pong, "pong again", 5)
    check("success" in stand.kamcmd("rtpengine.ping", OURS), "Kamailio's ping")
    stand.kamcmd("rtpengine.enable", OURS, "1")
    check(not disabled(stand), "Kamailio has the node again")


def disabled(stand):
    return "disabled: 1" in stand.kamcmd("rtpengine.show", OURS)


def full(stand):
    here = [stand.call(f"full-{n}", MEDIA)[0] for n in range(3)]
    other, took = stand.call("full-more", OTHER)
    stand.t.say(f"flow table full: the other node has the new call after {took * 1000:.0f} ms")
    check(stand.pong() and not disabled(stand), "a gateway without room is well, and Kamailio keeps it")
    stand.kamcmd("rtpengine.enable", THEIRS, "0")
    try:
        stand.alice.invite("bob", call_id("no-room-at-all"))
        check(False, "a call without room")
    except sip.SipError as refused:
        check("503" in str(refused), f"where no node has room: {refused}")
    stand.kamcmd("rtpengine.enable", THEIRS, "1")
    check(" 200 " in here[0].again(), "a running call's re-INVITE")
    equal(here[0].media[0], MEDIA, "it stays here")
    for call in here:
        stand.end(call, "full")
    check(" 200 " in other.bye(), "its BYE is answered")
    again, _ = stand.call("room-again", MEDIA)
    stand.end(again, "room again")


def test(t):
    for program, package in (("kamailio", "kamailio"), ("rtpengine", "rtpengine-daemon")):
        if not shutil.which(program):
            skip(f"{program} is not installed (package {package})")
    stand = Stand(t)
    stopped(stand)
    full(stand)
    log = stand.kamailio.log()
    check("has reached its load limit (" in log, "Kamailio was told why")


main(test, "Kamailio: the second node takes new calls, running ones stay")
