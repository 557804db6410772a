#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
"""`ping` is true: with one worker stopped, with the control thread stopped, with the whole data plane stopped, with a port's XDP
program detached, with its socket's place in the map gone, with its interface removed: each time no pong within 5 s, an alarm within
10 s that names it; pong again within 5 s after, the alarm over. What tells this, a packet of the data plane's own, is in no list and
no counter. A ping costs the data plane nothing."""
import json
import os
import signal
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
import ng
from harness import check, equal, main, wait_until
from stopper import Stopped, thread_named, threads

LIMIT = 5.0


class Stand:
    def __init__(self, t):
        self.t, self.net = t, t.network(ue2=False)
        self.gw = t.gateway(self.net, start=False, kamailio=False)
        self.gw.start_dataplane(holder=False)  # which would put another in its place
        self.gw.start_controlplane()
        self.ng = netns.inside(self.net.gw.name, lambda: ng.Client(timeout=2))
        wait_until(self.pong, "pong after the start", 10)

    def pong(self):
        return self.ng.command("ping").get("result") == "pong"

    def alarm(self):
        return {a["name"]: a["text"] for a in self.gw.ctl("alarm", "list")["alarms"]}.get("dataplane")

    def pid(self):
        return self.gw.dataplane.pid

    def ill(self, what, words):
        """From here on: no pong within LIMIT, and words in the ping's error and the alarm."""
        begin = time.monotonic()
        wait_until(lambda: not self.pong(), f"{what}: no pong", LIMIT, 0.02)
        silent = time.monotonic() - begin
        said = self.ng.command("ping")
        equal(said.get("result"), "error", f"{what}: a ping's result")
        text = wait_until(self.alarm, f"{what}: an alarm", 10 - silent)
        check(words in said["error-reason"] and words in text, f"{what}: \"{words}\" in {said['error-reason']!r} and {text!r}")
        return silent

    def well(self, what):
        begin = time.monotonic()
        wait_until(self.pong, f"{what} is over: pong", LIMIT, 0.02)
        again = time.monotonic() - begin
        wait_until(lambda: self.alarm() is None, f"{what}: the alarm is over", 10)
        return again

    def restart(self):
        """The data plane anew, as an operator does it."""
        self.gw.dataplane.kill()
        self.gw.start_dataplane(holder=False)
        wait_until(lambda: self.gw.ctl("status")["dataplane"]["connected"], "the next data plane", 10)


def stopped_threads(stand):
    pid = stand.pid()
    worker = thread_named(pid, "worker")
    for what, tid, words in (("worker stopped", worker, "worker 0 of the data plane does not come round"),
                             ("control thread stopped", pid, "data plane does not answer")):
        with Stopped(tid):
            silent = stand.ill(what, words)
        yield what, silent, stand.well(what)
    os.kill(pid, signal.SIGSTOP)
    try:
        silent = stand.ill("data plane stopped", "data plane does not answer")
    finally:
        os.kill(pid, signal.SIGCONT)
    yield "data plane stopped", silent, stand.well("data plane stopped")


def xdp_maps(stand, interface):
    """{name: id} of the maps of the program on the interface."""
    bpf = lambda *words: json.loads(stand.net.gw.run("bpftool", "-j", *words))
    link = json.loads(stand.net.gw.run("ip", "-j", "link", "show", "dev", interface))[0]
    return {m["name"]: m["id"] for m in (bpf("map", "show", "id", n) for n in bpf("prog", "show", "id", link["xdp"]["prog"]["id"])["map_ids"])}


def lost_ports(stand):
    gw = stand.net.gw
    faults = [("program detached", "port acc0 has lost its XDP program", lambda: gw.ip("link", "set", "dev", "acc0", "xdp", "off")),
              ("socket gone", "port acc0 has lost an AF_XDP socket",
               lambda: gw.run("bpftool", "map", "delete", "id", xdp_maps(stand, "acc0")["xsks_map"], "key", "hex", 0, 0, 0, 0))]
    for what, words, act in faults:
        act()
        silent = stand.ill(what, words)
        stand.restart()
        yield what, silent, stand.well(what)
    gw.ip("link", "set", "acc0", "down")
    silent = stand.ill("interface down", "port acc0 is down")
    gw.ip("link", "set", "acc0", "up")
    yield "interface down", silent, stand.well("interface down")
    gw.ip("link", "del", "acc0")
    yield "interface removed", stand.ill("interface removed", "port acc0 is gone"), 0.0


def no_trace(stand):
    """Ten probes long: nothing that counts packets or flows moves, nothing is listed; pings ask nothing of the data plane."""
    ctl = stand.gw.ctl
    seen = lambda: (ctl.totals()["rx_packets"], ctl.totals()["tx_packets"], ctl.totals()["srtp_protected"], ctl.drops(),
                    ctl("status")["dataplane"]["flows"], ctl.media(), [p["name"] for p in ctl.ops("port")["ports"]])
    before = seen()
    time.sleep(1.2)
    parts = ctl("status")["dataplane"]["health"]
    check(parts["well"] and all(p["state"] == "ok" and p["age_ms"] < 2000 for p in parts["parts"]), f"every part is well: {parts}")
    equal([p["name"] for p in parts["parts"]], ["worker 0", "acc0", "core0", "lo"], "parts")
    equal(seen(), before, "counters, drops, flows, media and ports beside the probes")
    begin = time.monotonic()
    for _ in range(2000):
        assert stand.pong()
    each = (time.monotonic() - begin) / 2000
    stand.t.say(f"a ping takes {each * 1e6:.0f} us; threads of the data plane: {sorted(set(threads(stand.pid()).values()))}")


def test(t):
    stand = Stand(t)
    no_trace(stand)
    for what, silent, again in (*stopped_threads(stand), *lost_ports(stand)):
        t.say(f"{what}: no pong after {silent:.1f} s, pong again after {again:.1f} s")


main(test, "ping is true: a stopped or lost part of the data plane shows within 5 s")
