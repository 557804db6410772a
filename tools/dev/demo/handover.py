# SPDX-License-Identifier: Apache-2.0
"""Scenario `handover`: a device with wlan0 and wwan0, whose networks come and go while a call, the download of an unmodified program in a
captured cgroup, one through a forwarded port, and an echo typed like ssh go on. Judged at the ends: what each heard, octet by octet."""

import hashlib
import json
import os
import socket
import tempfile
import time
from pathlib import Path

import captured
import netns
from media import Call
from programs import Agent, Gateway
from radios import OTHER, WLAN, WWAN, Radios
from scene import STATE, DemoError
from services import DOWNLOAD, ECHO, PACE_S, PIECE, Download, Program, Service, Typist, piece, send_back, send_pieces

LEVEL = {"suite": "AEAD_AES_128_GCM", "seed_bytes": 16, "rekey_s": 5, "overlap_s": 1}
SETTLE_S = 1.2  # after each switch, before the next
WORDS = {"lost": "wlan0 loses its carrier", "back": "wlan0 is there again", "moved": "another address on wlan0", "home": "the first address again",
         "nothing": "no network at all for 3 s"}
ROUND = ("lost", "back", "moved", "home", "nothing", "back")


class HandoverDemo:
    scenario = "handover"
    seconds, shortest_s = 60, 20  # of the whole

    def __init__(self, options, view):
        if options.keep:
            raise DemoError("--keep is for the scenarios call and policy")
        self.options, self.view, self.prefix = options, view, options.prefix
        self.dir = Path(tempfile.mkdtemp(prefix=f"{self.prefix}-demo-"))
        os.chmod(self.dir, 0o755)
        self.net = self.gateway = self.agent = self.call = self.group = None
        self.services, self.handovers, self.kept, self.deferred = [], [], False, []
        if self.prefix == "tandem":
            STATE.write_text(json.dumps({"pid": os.getpid(), "dir": str(self.dir)}))

    def defer(self, what):
        self.deferred.append(what)

    # -- what stands ------------------------------------------------------------

    def build_up(self):
        say = self.view.step
        say(f"namespaces {self.prefix}-ue with wlan0 and wwan0, {self.prefix}-gw, {self.prefix}-core, joined by veth")
        self.net = Radios(self.prefix)
        self.pieces = int(self.options.seconds / PACE_S)
        for port, serve in ((DOWNLOAD, lambda c: send_pieces(c, self.pieces)), (ECHO, send_back)):
            self.services.append(Service(self.net, port, serve))
        say("gateway: holder, data plane, control plane")
        beyond = [f"{self.net.bob_address}:{port}" for port in (DOWNLOAD, ECHO)]
        self.gateway = Gateway(self.net.gw, self.dir / "gateway", ports=self.net.ports, levels={"demo": LEVEL}, kamailio=False,
                               tunnel={"keepalive_ms": 1000, "services": beyond}, instance=f"{self.prefix}-gw")
        self.gateway.start()
        say("agent: alice, whose tunnel prefers wlan0; a cgroup whose programs are captured")
        self.group = captured.Group(self)
        if self.prefix == "tandem":
            STATE.write_text(json.dumps({**json.loads(STATE.read_text()), "cgroup": str(self.group.path)}))
        self.agent = Agent(self.net.ue, self.dir / "units", "alice", self.gateway.server, self.gateway.unit_add("alice"), more={
            "path": [{"name": "wifi", "interface": ["wl*"], "hysteresis_s": 1}, {"name": "mobile", "interface": ["ww*"], "hysteresis_s": 1}],
            "forward": [{"listen": f"127.0.0.1:{port}", "to": to} for port, to in zip((DOWNLOAD, ECHO), beyond)],
            "capture": {"cgroup": self.group.name, "rule": [{"to": f"{self.net.bob_address}/32"}]}}).start()
        self.agent.address = self.agent.up()
        self._await(lambda: self.agent.status()["streams"]["session"], "the session of its streams")

    def _await(self, holds, what, most_s=15):
        end = time.monotonic() + most_s
        while not holds():
            if time.monotonic() > end:
                raise DemoError(f"not within {most_s} s: {what}")
            time.sleep(0.01)

    def _dial(self, port):
        return netns.inside(self.net.ue.name, lambda: socket.create_connection(("127.0.0.1", port), 30))

    def _outer(self):
        return [s["outer"] for s in self.gateway.ctl.sessions() if s["up"]]

    def _streams(self):
        return self.gateway.ctl.sessions()[0]["streams"]

    # -- what happens -------------------------------------------------------------

    def play(self):
        self.view.step(f"a call, two downloads and an echo; networks come and go for {self.options.seconds} s")
        self.call = Call(self.gateway, self.net.ue, self.agent.address, self.net.core, self.net.bob_address, callee="+4633")
        self.download, self.typist = Download(self._dial), Typist(self._dial)
        self.program = Program(self.net, self.group, self.options.seconds + 60)
        self._await(lambda: self.download.octets > 0 and self.typist.back > 0 and self.call.core.received, "all of them begin")
        until = time.monotonic() + self.options.seconds - 8
        number = 0
        while time.monotonic() < until:
            self._switch(ROUND[number % len(ROUND)])
            number += 1
        self.view.step("the networks stay; the downloads end")
        self.download.join(self.options.seconds + 60)
        self.typist.stopping = True
        self.typist.join(10)

    def _switch(self, what):
        net, before = self.net, self._streams()
        begin = time.monotonic()
        if what == "lost":
            net.gw.link("acc0", "down")
        elif what == "back":
            net.gw.link("acc0", "up")
        elif what == "moved":
            net.ue.run("ip", "-batch", "-", stdin=f"address add {OTHER}/24 dev wlan0\nroute replace default via 203.0.113.1 dev wlan0 metric 150\n"
                       f"address del {WLAN}/25 dev wlan0\n")
        elif what == "home":
            net.ue.run("ip", "-batch", "-", stdin=f"address add {WLAN}/25 dev wlan0\nroute replace default via 192.0.2.1 dev wlan0 metric 150\n"
                       f"address del {OTHER}/24 dev wlan0\n")
        else:
            for port in ("acc0", "acc1"):
                net.gw.link(port, "down")
            time.sleep(3)
            net.gw.link("acc1", "up")
        there = {"lost": WWAN, "back": WLAN, "moved": OTHER, "home": WLAN, "nothing": WWAN}[what]
        self._await(lambda: self._outer() == [there], f"{WORDS[what]}: the primary on {there}")
        self._await(lambda: self._streams()["handovers"] > before["handovers"], f"{WORDS[what]}: the streams moved")
        back = self.typist.back
        self._await(lambda: self.typist.back > back + 2, f"{WORDS[what]}: the echo goes on")
        time.sleep(SETTLE_S)
        end, after = time.monotonic(), self._streams()
        one = {"what": what, "kind": after["last_handover"].partition(",")[0], "reason": self.agent.status()["paths"]["moves"][-1]["reason"],
               "to": there, "media_gap_ms": round(1000 * max(self.call.core.longest_gap(begin, end), self.call.unit.longest_gap(begin, end))),
               "stall_ms": round(1000 * self.download.stall(begin, end)),
               "resent_bytes": after["sent_again_bytes"] - before["sent_again_bytes"] + self._resent()}
        self.handovers.append(one)
        self.view.step(f"{WORDS[what]:28} {one['kind']:14} to {there:13} media gap {one['media_gap_ms']:5} ms, stall {one['stall_ms']:5} ms, "
                       f"sent again {one['resent_bytes']} B")

    def _resent(self):
        """By the agent, since it was asked last."""
        now = self.agent.status()["streams"]["sent_again_bytes"]
        was, self._again = getattr(self, "_again", 0), now
        return now - was

    # -- the verdict --------------------------------------------------------------

    def stop_captures(self):
        return {}

    def judge(self, _):
        whole = hashlib.sha256()
        for number in range(self.pieces):
            whole.update(piece(number))
        said, state = self.program.end() or {}, self.agent.status()
        self.call.hang_up()
        checks = {
            "sha256 of the forwarded download": self.download.hash.hexdigest() == whole.hexdigest(),
            "sha256 of the captured program's": said.get("sha256") == whole.hexdigest(),
            "its peer from first to last": said.get("peers") == [[self.net.bob_address, DOWNLOAD]],
            "each line of the echo back, in order": self.typist.wrong == "" and self.typist.back == self.typist.typed > 0,
            "one session from first to last": (state["primary"]["sessions"], state["streams"]["sessions"]) == (1, 1),
            "one inner address": self.agent.inner() == self.agent.address,
            "handovers, soft and hard ones": {"soft", "hard"} <= {h["kind"] for h in self.handovers},
        }
        return {"scenario": self.scenario, "seconds": self.options.seconds, "handovers": self.handovers,
                "octets": {"forwarded": self.download.octets, "captured": said.get("octets"), "asked": self.pieces * PIECE},
                "lines": self.typist.back, "sha256_equal": checks["sha256 of the forwarded download"] and checks["sha256 of the captured program's"],
                "checks": checks, "failures": [name for name, held in checks.items() if not held], "passed": all(checks.values()),
                "method": "media gap: longest silence that either end of the call heard from the event until the switch has settled; stall: the same of "
                          "the forwarded download's octets; without any network 3 s of both are the network's"}

    def show(self, result):
        self.view.handovers(result)

    # -- the end ------------------------------------------------------------------

    def end(self):
        for thing in (self.call, *self.services):
            if thing:
                thing.close()
        if self.agent:
            self.agent.stop()
        try:
            if self.gateway:
                self.gateway.stop()
        finally:
            if self.net:
                self.net.delete()
            for what in reversed(self.deferred):
                what()
            Path(f"/dev/shm/tandem-{self.prefix}-gw.stats").unlink(missing_ok=True)
            if self.prefix == "tandem":
                STATE.unlink(missing_ok=True)
