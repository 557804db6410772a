#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# alone
"""Calls while their gateway's programs go and come, as a service (tests/lib/service_manager.py in systemd's place): the holder is killed
(no packet is lost: the data plane goes on), the data plane behind the new holder is killed, both are killed at once, and the data plane
hands over to another one (at most 3 packets a call are lost, or twice what a kill cost on this machine, where that is more). The flow
state is the same throughout: every packet authenticates, no index is sent twice, the units' indices go on."""
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from flows import Dataplane
from harness import check, equal, main, wait_until
from load import CORE_PORT, FIRST_PORT, UNIT_PORT, Load, Pinned, key_lines
from programs import program
from service_manager import Service

CALLS, RATE, SUITE, SECONDS, PATIENCE = 40, 50, "AEAD_AES_128_GCM", 24, 20
MOST_LOST = 3


class Served(Pinned):
    """A data plane whose holder is the main process of a service."""

    def start(self, timeout=30):
        self.service = Service(self.t, self.name, self.command(), self.net.gw)
        self.process = self.service.process
        self.process.wait_for_path(self.run_dir / "dataplane.sock", timeout)
        return self

    def settled(self, after):
        """Waits until one forwards and two are ready behind it, told after a moment."""
        wait_until(lambda: any("2 ready" in e.get("status", "") and "forwards" in e["status"] for e in self.service.events("told") if e["at"] > after),
                   "a data plane in force, two behind it", PATIENCE)


class Streams:
    """Calls of which one way has media: unit to core, or core to unit."""

    def __init__(self, dp, net, up):
        first, core_port, unit_port = FIRST_PORT + (0 if up else 1000), CORE_PORT + up, UNIT_PORT + up
        dp.add_streams(SUITE, CALLS, net.bob_address, net.ue_address, first, core_port, unit_port).close()
        core, unit = (net.core.name, f"{net.bob_address}:{core_port}"), (net.ue.name, f"{net.ue_address}:{unit_port}")
        self.sends, self.hears = (unit, core) if up else (core, unit)
        self.suites = (SUITE, "clear") if up else ("clear", SUITE)
        self.to = f"{net.access if up else net.core_address}:{first}-{first + 2 * CALLS - 1}/2"
        self.keys = key_lines(SUITE, CALLS, "send" if up else "receive", "up" if up else "down")

    def start(self):
        self.load = Load("--from-netns", self.sends[0], "--from", self.sends[1], "--receive-netns", self.hears[0], "--receive", self.hears[1],
                         "--to", self.to, "--suite", self.suites[0], "--receive-suite", self.suites[1], "--streams", CALLS, "--first-sequence", 65000,
                         "--seconds", SECONDS, "--gaps-ms", 35, "--linger", 1, keys=self.keys)


def most_missing(results, begin, end):
    """Of one stream in one silence that began or ended in between: packets and ms."""
    met = [g for r in results for g in r["gaps"] if g["since_s"] < end and g["since_s"] + g["ms"] / 1000 > begin]
    return max((g["missing"] for g in met), default=0), max((g["ms"] for g in met), default=0.0)


def sockets(pid):
    names = (os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd") if os.path.islink(f"/proc/{pid}/fd/{fd}"))
    return {name for name in names if name.startswith("socket:")}


def holds_xdp_sockets(dp):
    """Whether the holder has copies of the AF_XDP sockets in force, one a port and one on lo: the kernel releases none when a data plane dies."""
    return len(sockets(dp.service.pid()) & sockets(dp.pid())) == len(dp.net.ports) + 1


def test(t):
    net = t.network(ue2=False)
    dp = Served(t, net).start()
    streams = [Streams(dp, net, up) for up in (True, False)]
    generation = dp.contract()("hello")["generation"]
    dp.settled(0)
    for one in streams:
        one.start()
    time.sleep(1.5)
    steps = []
    check(holds_xdp_sockets(dp), "the holder has copies of the AF_XDP sockets")

    def step(name, act):
        began = time.monotonic()
        act()
        dp.settled(began)
        wait_until(lambda: holds_xdp_sockets(dp), f"copies of the sockets, {name}", 5)
        time.sleep(0.3)
        steps.append((name, began, time.monotonic() - 0.1))

    def kill_both():
        os.kill(dp.service.pid(), signal.SIGKILL)
        os.kill(dp.pid(), signal.SIGKILL)

    def hand_over():
        done = subprocess.run([program("tandem-holder"), "--take-over", str(dp.service.pid())], capture_output=True, text=True, timeout=60, check=False)
        equal(done.returncode, 0, f"--take-over: {done.stderr}")

    first = dp.pid()
    step("holder killed", lambda: os.kill(dp.service.pid(), signal.SIGKILL))
    equal(dp.pid(), first, "the data plane in force")
    step("data plane killed", lambda: os.kill(first, signal.SIGKILL))
    step("both killed", kill_both)
    was = dp.pid()
    step("hand-over", hand_over)
    check(dp.pid() != was, "another data plane forwards")
    wait_until(lambda: not netns.alive(was), "the one of before has ended", 5)
    hello = dp.contract()("hello")
    equal((hello["generation"], hello["flows"]), (generation, 4 * CALLS), "generation of the flow state, flows in it")
    check(time.monotonic() < steps[0][1] + SECONDS - 2, "the calls went on behind all steps")

    results = [s.load.result(60) for s in streams]
    lost = {}
    for name, begin, end in steps:
        lost[name], silent = most_missing(results, begin, end)
        t.say(f"{name}: at most {lost[name]} packets of a call lost, {silent:.0f} ms of silence")
    for way, r in zip(("unit to core", "core to unit"), results):
        for what in ("bad_tags", "bad_content", "duplicates", "foreign"):
            equal(r[what], 0, f"{what}, {way}")
        check(r["received"] > r["sent"] * 0.6, f"calls go on, {way}: {r['received']} of {r['sent']} packets")
    equal(sum(dp.drops().get(x, 0) for x in ("srtp_auth", "srtp_replay")), 0, "packets refused by tag or as replays")
    equal(lost["holder killed"], 0, "packets of a call lost when the holder was killed")
    check(lost["hand-over"] <= max(MOST_LOST, 2 * lost["data plane killed"]), f"packets of a call lost in the hand-over: {lost}")


main(test, "holder: killed and handed over under calls")
