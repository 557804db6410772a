# SPDX-License-Identifier: Apache-2.0
"""What happens to a gateway's processes while calls run: kill -9 of each, restarts; at random, from a seed. Each fault is noted with its
begin and end where the calls see it (World.faults)."""

import os
import random
import signal
import subprocess
import time

import netns
from harness import wait_until
from programs import program


class Faults:
    """faults.run(until) in the main thread: a child's life is bound to the thread that started it."""

    def __init__(self, world, weights, pause=(0.3, 2.5)):
        self.w, self.gw, self.pause = world, world.gw, pause
        self.chance = random.Random(f"{world.seed}/faults")
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.done, self.now = {}, ""

    def run(self, until):
        while not until():
            time.sleep(self.chance.uniform(*self.pause))
            if not self.weights:
                continue
            name = self.chance.choices(list(self.weights), list(self.weights.values()))[0]
            if not until():
                self.one(name)

    def one(self, name):
        what, act = getattr(self, name.replace(" ", "_"))()
        self.now, begin = what, time.monotonic()
        self.w.faults.append((begin, None, what))
        act()
        self.w.faults[-1] = (begin, time.monotonic(), what)
        self.done[name] = self.done.get(name, 0) + 1

    def kill_dataplane(self):
        def act():
            was = self.gw.dataplane_pid()
            self.kill(was)
            wait_until(lambda: self.gw.dataplane_pid() not in (was, 0) and netns.alive(self.gw.dataplane_pid()), "another data plane in force", 15, 0.01)
        return "kill dataplane", act

    def kill_standby(self):
        def act():
            for pid in self.standbys():
                self.kill(pid)
        return "kill standby", act

    def standbys(self):
        """Data planes of this gateway that do not forward: whoever is their parent now."""
        out = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    words = f.read().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"tandem-dataplane") and str(self.gw.dataplane_config).encode() in words:
                out.append(int(pid))
        return [pid for pid in out if pid != self.gw.dataplane_pid()]

    def settled(self, after):
        """The holder that was started after a moment serves: one forwards, and one is ready behind it at least."""
        wait_until(lambda: any(e["at"] > after and "forwards" in e.get("status", "") for e in self.w.holder.events("told")), "a data plane forwards", 20, 0.02)

    def kill_holder(self):
        def act():
            at = time.monotonic()
            self.kill(self.w.holder.pid())
            self.settled(at)
        return "kill holder", act

    def kill_both(self):
        def act():
            at = time.monotonic()
            self.kill(self.w.holder.pid())
            self.kill(self.gw.dataplane_pid())
            self.settled(at)
        return "kill holder and dataplane", act

    def upgrade(self):
        """The holder and its data plane become what is installed now."""
        def act():
            subprocess.run([program("tandem-holder"), "--take-over", str(self.w.holder.pid())], capture_output=True, timeout=60, check=False)
        return "upgrade", act

    def kill_controlplane(self):
        def act():
            self.gw.controlplane.kill()
            time.sleep(self.chance.choice([0, 0, 0.3]))
            self.gw.start_controlplane()
        return "kill controlplane", act

    def restart_controlplane(self):
        def act():
            self.gw.controlplane.stop()
            self.gw.start_controlplane()
        return "restart controlplane", act

    def kill_unit(self):
        name = self.chance.choice(sorted(self.w.units))
        def act():
            self.w.oracle("unit_kill", id=name)
            wait_until(lambda: self.w.oracle("unit_state", id=name)["up"], f"{name} is up again", 10, 0.05)
        return f"kill {name}", act

    def kill_agent(self):
        name = self.chance.choice(sorted(self.w.agents))
        agent = self.w.programs[name]
        def act():
            agent.process.kill()
            agent.start()
            agent.up()
        return f"kill {name}", act

    @staticmethod
    def kill(pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has just ended
