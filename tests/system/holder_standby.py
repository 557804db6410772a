#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tandem-holder with a data plane that misbehaves (a script): a standby that dies at once is not started over and over, one that takes
over but never forwards is killed and replaced, one that is stopped (SIGSTOP), in force or ready, is replaced within 10 s. Never do two
forward. What it does with the real one is in dataplane_kill*.py and holder_traffic.py."""
import os
import signal
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from fake_dataplane import Fake
from harness import check, equal, main, wait_until
from programs import program

HEALED_S = 10


def start(t, mode, *options):
    fake = Fake(t.dir / "fakes", mode, mode)
    return t.start(f"holder-{mode}", [program("tandem-holder"), *options, "--", fake.script]), fake


def forwarding(fake):
    """The one that said last that it forwards."""
    return fake.pids("forwards")[-1]


def test(t):
    begin = time.monotonic()
    dying, of_dying = start(t, "dies")
    hanging, of_hanging = start(t, "hangs")
    stopped, of_stopped = start(t, "works")
    wait_until(lambda: len(of_stopped.pids("starts")) == 3, "one in force and two ready behind it", 10)
    wait_until(lambda: of_hanging.lines("forwards") and len(of_hanging.pids("starts")) == 3, "likewise", 10)

    # One that takes over and never forwards.
    os.kill(forwarding(of_hanging), signal.SIGKILL)
    told = wait_until(lambda: of_hanging.pids("told")[1:], "a standby is told", 5)[0]
    # One in force that is stopped; then one that is ready.
    was = forwarding(of_stopped)
    os.kill(was, signal.SIGSTOP)
    at = time.monotonic()
    wait_until(lambda: forwarding(of_stopped) != was, "a stopped data plane is replaced", HEALED_S)
    t.say(f"in force stopped: replaced after {time.monotonic() - at:.1f} s")
    turn = of_stopped.lines("told")[-1][0]
    wait_until(lambda: of_stopped.lines("starts")[-1][0] > turn, "another one is started", 5)
    check(of_stopped.lines("starts")[-1][0] - turn > 0.2, "not while the next one takes over, which needs the processors")
    check(not os.path.exists(f"/proc/{was}") or "Z" in open(f"/proc/{was}/stat").read(), "and it has been ended before that")
    wait_until(lambda: len(of_stopped.pids("starts")) == 4, "two are ready again", 5)
    spare = of_stopped.pids("starts")[-1]
    wait_until(lambda: spare in of_stopped.pids("waits"), "the newest has said that it waits", 5)
    os.kill(spare, signal.SIGSTOP)
    wait_until(lambda: not os.path.exists(f"/proc/{spare}"), "a stopped standby is ended", HEALED_S)
    equal(len(of_stopped.lines("forwards")), 2, "the data plane in force is left alone")

    wait_until(lambda: not os.path.exists(f"/proc/{told}"), "one that never forwards is ended", 15)
    check("does not forward" in hanging.log(), "the holder says why")
    # Started over and over, it would be hundreds.
    most = 2 + (time.monotonic() - begin) / 4
    check(len(of_dying.pids("starts")) <= most, f"a standby that dies is not started at once again: {len(of_dying.pids('starts'))} times, at most {most:.0f}")
    equal(len(of_dying.lines("forwards")), 1, "the data plane in force is left alone")
    equal(stopped.stop(), 0, "exit status of the holder, told to end")
    equal(len(of_stopped.lines("ends")), len(of_stopped.lines("starts")) - 2, "all that were left have ended in order")
    check(dying.alive(), "the other holder still runs")


main(test, "holder: a data plane or a standby that dies, hangs or is stopped")
