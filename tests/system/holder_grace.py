#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""/sys/kernel/rcu_expedited while one data plane follows another (a script as data plane, a file in the switch's place): 1 until the next one
forwards, then 0 again; put back by the next holder where this one was killed in between; left alone where it was set already, where it
cannot be written, and while another holder uses it."""
import os
import signal
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from fake_dataplane import Fake
from harness import check, equal, main, wait_until
from programs import program

SWITCH, PATIENCE = "/sys/kernel/rcu_expedited", 10
# $1 file, $2 bind's options; then the command. In a mount namespace of its own.
ENTER = f'mount --bind "$1" {SWITCH} && mount -o "remount,bind,$2" {SWITCH} && shift 2 && exec "$@"'


class Stand:
    def __init__(self, t, name, mode="works", value="0", options="rw", switch=None, run=None):
        self.t, self.name, self.options, self.starts = t, name, options, 0
        self.fake = Fake(t.dir / name, name, mode)
        self.run = run or t.dir / name / "run"
        self.run.mkdir(exist_ok=True)
        self.switch = switch or t.dir / name / "rcu_expedited"
        if not switch:
            self.switch.write_text(f"{value}\n")
        self.note = self.run / "tandem-holder.rcu_expedited"
        t.defer(self.end_left)

    def start(self):
        self.starts += 1
        self.holder = self.t.start(f"{self.name}{self.starts}", ["env", f"RUNTIME_DIRECTORY={self.run}", "unshare", "--mount", "bash", "-c", ENTER, "enter", self.switch,
                                                                 self.options, program("tandem-holder"), "--spares", "1", "--", self.fake.script])
        return self

    def value(self):
        return self.switch.read_text()[:1]

    def state(self):
        """(value of the switch, is there a note)"""
        return self.value(), self.note.exists()

    def ready(self):
        wait_until(lambda: self.fake.lines("forwards") and len(self.fake.pids("starts")) >= len(self.fake.pids("forwards")) + 1, "one forwards, one is ready", PATIENCE)
        time.sleep(0.5)  # it has said that it waits

    def kill(self):
        """The one in force; waits until the next one is told."""
        told = len(self.fake.lines("told"))
        os.kill(self.fake.pids("forwards")[-1], signal.SIGKILL)
        wait_until(lambda: len(self.fake.lines("told")) > told, "a standby is told", PATIENCE)

    def end_left(self):
        for pid in set(self.fake.pids("starts")):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def test(t):
    usual, hangs = Stand(t, "usual").start(), Stand(t, "hangs", "hangs").start()
    set_before, read_only = Stand(t, "set", value="1").start(), Stand(t, "readonly", options="ro").start()
    for stand in (usual, hangs, set_before, read_only):
        stand.ready()
    equal([s.state() for s in (usual, hangs, read_only)], [("0", False)] * 3, "switch and note while one forwards")

    hangs.kill()
    equal(hangs.state(), ("1", True), "while the next one has not forwarded")
    # Another one meanwhile, of the same switch and the same notes.
    other = Stand(t, "other", switch=hangs.switch, run=hangs.run).start()
    other.ready()
    other.kill()
    wait_until(lambda: len(other.fake.lines("forwards")) == 2, "another holder's data plane is replaced", PATIENCE)
    time.sleep(0.5)
    equal(hangs.state(), ("1", True), "behind another holder's")
    other.holder.kill()
    hangs.holder.kill()
    equal(hangs.state(), ("1", True), "after a kill in between")
    hangs.end_left()
    hangs.fake.mode("works")
    hangs.start()
    wait_until(lambda: len(hangs.fake.lines("forwards")) == 2, "the next holder's data plane forwards", PATIENCE)
    wait_until(lambda: hangs.state() == ("0", False), "the next holder puts it back", PATIENCE)

    for stand, value in ((usual, "0"), (set_before, "1"), (read_only, "0")):
        stand.kill()
        wait_until(lambda: len(stand.fake.lines("forwards")) == 2, "the next one forwards", PATIENCE)
        wait_until(lambda: stand.state() == (value, False), f"{stand.name}: as it was", PATIENCE)
        equal(stand.holder.stop(), 0, f"{stand.name}: exit status")
        equal(stand.state(), (value, False), f"{stand.name}: behind it")


main(test, "holder: the kernel's grace periods, shortened and put back")
