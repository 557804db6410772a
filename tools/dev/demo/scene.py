# SPDX-License-Identifier: Apache-2.0
"""What a demo stands on and does: namespaces, the real programs, phones, captures, a call. Scenario `call` is here; `policy` in
policy.py."""

import json
import os
import tempfile
import time
from pathlib import Path

import report
import speech
from baresip import Baresip
from capture import Capture
from harness import Network
from process import ProcessError
from programs import Agent, Gateway

INTERVAL_S, OVERLAP_S, NEEDED_REKEYS = 5, 1, 5
SHORTEST_S = INTERVAL_S * NEEDED_REKEYS + 2
STATE = Path("/run/tandem-demo.json")
LEVEL = {"suite": "AEAD_AES_128_GCM", "seed_bytes": 16, "rekey_s": INTERVAL_S, "overlap_s": OVERLAP_S}


class DemoError(Exception):
    pass


class Demo:
    """The scenario `call`: one call to the core, one to another unit."""

    scenario = "call"
    seconds, shortest_s = 30, SHORTEST_S  # of each call
    units = (("alice", "ue"), ("carol", "ue2"))
    levels, tables = {"demo": LEVEL}, ()

    def __init__(self, options, view):
        self.options, self.view = options, view
        self.keep, self.prefix = options.keep, options.prefix
        self.dir = Path(tempfile.mkdtemp(prefix=f"{self.prefix}-demo-"))
        os.chmod(self.dir, 0o755)
        self.log_dir = self.dir / "log"
        self.net = self.gateway = None
        self.agents, self.phones, self.captures, self.calls = {}, {}, {}, []
        self.kept = False
        if self.prefix == "tandem":
            STATE.write_text(json.dumps({"pid": os.getpid(), "dir": str(self.dir)}))

    # -- what stands before the calls -------------------------------------------

    def build_up(self):
        say = self.view.step
        spaces = [space for _, space in self.units]
        say("namespaces " + ", ".join(f"{self.prefix}-{n}" for n in [*spaces, "gw", "core"]) + ", joined by veth")
        self.net = Network(self.prefix, ue2="ue2" in spaces)
        length = max(self.options.seconds + 15, 600 if self.keep else 0)
        self.speech = {name: speech.make(self.dir / f"{name}.wav", length, seed)
                       for seed, name in enumerate(("alice", "bob", "carol"), 1)}
        # The access links are captured from the first frame on.
        for space in spaces:
            self._capture(f"access {space}", getattr(self.net, space), "ue0")
        self._capture("core", self.net.core, "core0")
        say("gateway: holder, data plane, control plane, Kamailio")
        self.gateway = Gateway(self.net.gw, self.dir / "gateway", ports=self.net.ports, levels=self.levels, tables=self.tables,
                               instance=f"{self.prefix}-gw", survive=self.keep)
        self.gateway.start()
        say("agents: " + "; ".join(f"{unit} in {space}" for unit, space in self.units) + "; each makes its primary tunnel")
        for unit, name in self.units:
            space = getattr(self.net, name)
            agent = Agent(space, self.dir / "units", unit, self.gateway.server, self.gateway.unit_add(unit),
                          survive=self.keep, more=self.agent_more(unit)).start()
            self.agents[unit] = agent
            agent.address = agent.up()
            self._capture(f"inner {unit}", space, agent.tun)
        say("phones (baresip): " + ", ".join(unit for unit, _ in self.units) + " behind their agents, bob in the core")
        for unit, name in self.units:
            self._phone(unit, getattr(self.net, name), self.agents[unit].address, self.gateway.inner, "tandem0")
        self._phone("bob", self.net.core, self.net.bob_address, self.gateway.core, "core0")
        for phone in self.phones.values():
            phone.wait_registered(15)

    def agent_more(self, unit):
        """More keys for the agent's configuration."""
        return None

    def play(self):
        self.call("alice", "bob")
        self.call("alice", "carol")

    def facts(self, record):
        """What the result says of a call beside what was measured."""
        return {"rekeys_needed": NEEDED_REKEYS}

    def failures(self, result):
        """Why the result does not pass, beside what holds for every scenario."""
        return ()

    def judge(self, frames):
        return report.judge(self, frames)

    def show(self, result):
        self.view.table(result)

    def _capture(self, name, space, interface):
        self.captures[name] = Capture(space, interface, self.dir / (name.replace(" ", "-") + ".pcap"))

    def _phone(self, user, space, address, registrar, interface):
        self.phones[user] = Baresip(user, self.dir / "phones" / user, space, address=address, registrar=registrar,
                                    interface=interface, play=self.speech[user], survive=self.keep, log_dir=self.log_dir)
        self.phones[user].start()

    # -- a call -----------------------------------------------------------------

    def call(self, caller, callee, dial=None, say=None):
        record = {"caller": caller, "callee": callee, "begin": time.time_ns(), "media": {}}
        self.calls.append(record)
        self.view.step(say or f"{caller} calls {callee}, {self.options.seconds} s")
        a, b = self.phones[caller], self.phones[callee]
        for phone in (a, b):
            phone.clear_events()
        a.dial(dial or callee)
        a.wait_established(20)
        until = time.monotonic() + self.options.seconds
        while time.monotonic() < until:
            time.sleep(min(1.0, max(0.0, until - time.monotonic())))
            self._look(record)
            self.view.live(record, until - time.monotonic())
            for phone in (a, b):
                if phone.seen("CALL_CLOSED"):
                    raise DemoError(f"the call of {caller} to {callee} ended early: {phone.events[-3:]}")
        self._look(record)
        a.hang_up()
        b.wait_closed(10)
        time.sleep(1.0)
        record["end"] = time.time_ns()
        record["heard"] = {caller: a.heard, callee: b.heard}
        self.view.call_done(record)
        return record

    def _look(self, record):
        """Control plane's view of the call's media; the last look before the end is kept."""
        for m in self.gateway.ctl.media():
            record["media"][m["id"]] = m

    # -- the end ------------------------------------------------------------------

    def stop_captures(self):
        return {name: c.stop() for name, c in self.captures.items()}

    def keep_running(self):
        """A call stays up for whoever looks around."""
        self.phones["alice"].clear_events()
        self.phones["alice"].dial("bob")
        self.phones["alice"].wait_established(20)
        STATE.write_text(json.dumps({"pid": None, "dir": str(self.dir)}))
        self.kept = True

    def end(self):
        if self.kept:
            return
        for capture in self.captures.values():
            capture.stop()
        for phone in self.phones.values():
            try:
                phone.stop()
            except ProcessError:
                pass
        for agent in self.agents.values():
            agent.stop()
        problem = None
        if self.gateway:
            try:
                self.gateway.stop()
            except ProcessError as e:
                problem = e
        if self.net:
            self.net.delete()
        Path(f"/dev/shm/tandem-{self.prefix}-gw.stats").unlink(missing_ok=True)
        if self.prefix == "tandem":
            STATE.unlink(missing_ok=True)
        if problem:
            raise problem
