#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
"""poll, interrupt and adaptive: media arrives after silence and at 50 packets/s in each; asleep, a worker uses far less CPU time than
one that polls; the command line wins over the configuration, and another word is refused."""
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, sys.path[0] + "/../lib")
from flows import Dataplane, Peer
from harness import check, equal, main, wait_until

TICK = os.sysconf("SC_CLK_TCK")
IDLE_S = 2


class WithMode(Dataplane):
    """idle = "poll" in the file, --idle=MODE on the command line: the latter counts."""

    mode = None

    def command(self):
        return [*super().command(), *([f"--idle={self.mode}"] if self.mode else [])]


def worker_time(pid):
    """CPU seconds of the process's busiest thread that is not the control thread: the worker."""
    used = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        if int(task.name) != pid:
            used.append(int(float((task / "schedstat").read_text().split()[0])) / 1e9)
    return max(used)


def media(t, net, dp, seconds):
    """50 packets/s both ways; returns (sent, received at the phone, received at the unit)."""
    c = dp.contract()
    c("hello")
    phone = f"{net.bob_address}:6000"
    keys = c.add_call(phone)
    check(dp.process.alive(), "the data plane runs")
    time.sleep(IDLE_S)  # silence first
    before = worker_time(dp.pid())
    time.sleep(IDLE_S)
    idle = worker_time(dp.pid()) - before
    count = 50 * seconds
    common = ["--rate", 50, "--count", count, "--linger", 1]
    far = Peer(t, net.core, f"phone-{dp.name}", "--bind", phone, "--to", f"{net.core_address}:5000", "--ssrc", 5,
               *common)
    wait_until(lambda: ":6000 " in net.core.run("ss", "-Hlnu"), "the phone's socket")
    unit = Peer(t, net.ue, f"unit-{dp.name}", "--bind", "192.0.2.10:7000", "--to", f"{net.access}:4000", *keys, *common)
    return idle, count, far.result(), unit.result()


def test(t):
    net = t.network(ue2=False)
    idle = {}
    for mode in ("poll", "interrupt", "adaptive"):
        dp = WithMode(t, net, name=f"dp-{mode}", instance=f"{net.gw.name}-{mode}", idle="poll")
        dp.mode = mode
        dp.start()
        idle[mode], count, at_phone, at_unit = media(t, net, dp, 4)
        drops = dp.drops()
        equal(set(drops) - {"no_remote"}, set(), f"{mode}: drops {drops}")  # the phone spoke before the unit
        equal(at_phone["received"], count, f"{mode}: packets that the phone heard, from the first one after the silence on ({at_phone})")
        equal(at_phone["lost"] + at_unit["lost"] + at_unit["auth_failed"], 0, f"{mode}: lost or spoilt")
        check(at_unit["received"] > 0, f"{mode}: the unit hears the phone")
        equal(at_unit["received"] + drops.get("no_remote", 0), count, f"{mode}: account of what the phone sent")
        status = dp.process.stop(20)
        equal(status, 0, f"{mode}: exit status")
    t.say("CPU time of an idle worker in %d s: " % IDLE_S + ", ".join(f"{m} {s * 1000:.1f} ms" for m, s in idle.items()))
    check(idle["poll"] > 0.1, f"a polling worker uses its core: {idle}")
    for mode in ("interrupt", "adaptive"):
        check(idle[mode] < idle["poll"] / 5, f"an idle worker sleeps in {mode} mode: {idle}")
    refused = WithMode(t, net, name="dp-wrong", holder=False)
    refused.mode = "lazy"
    status, words = refused.fails()
    equal(status, 2, f"exit status of a wrong mode, which said: {words}")
    check("idle must be one of: adaptive, poll, interrupt" in words, f"the refusal says what there is: {words}")


main(test, "idle modes: poll, interrupt, adaptive")
