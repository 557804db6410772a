# SPDX-License-Identifier: Apache-2.0
"""tools/demo: one protected call to the core and one to another unit, through the real programs in network namespaces,
judged from captures and recordings. See README.md beside this file."""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/lib"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import netns  # noqa: E402
import report  # noqa: E402
import speech  # noqa: E402
from baresip import Baresip, BaresipError  # noqa: E402
from capture import Capture  # noqa: E402
from harness import Network  # noqa: E402
from process import ProcessError  # noqa: E402
from programs import Agent, CtlError, Gateway, NotBuilt  # noqa: E402

INTERVAL_S, OVERLAP_S, NEEDED_REKEYS = 5, 1, 5
SHORTEST_S = INTERVAL_S * NEEDED_REKEYS + 2
STATE = Path("/run/tandem-demo.json")
LEVEL = {"suite": "AEAD_AES_128_GCM", "seed_bytes": 16, "rekey_s": INTERVAL_S, "overlap_s": OVERLAP_S}


class DemoError(Exception):
    pass


def alive(pid):
    try:
        return b"demo" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def end_leftover(prefix, say):
    """Removes what an earlier run left (killed, or --keep). A demo that is running now is left alone."""
    state = json.loads(STATE.read_text()) if STATE.exists() and prefix == "tandem" else {}
    if state.get("pid") and state["pid"] != os.getpid() and alive(state["pid"]):
        raise DemoError(f"another tools/demo is running (pid {state['pid']}); wait for it, or end it with `kill {state['pid']}`")
    ours = [f"{prefix}-{end}" for end in ("ue", "ue2", "gw", "core")]
    left = [n for n in netns.namespaces() if n in ours]
    if left:
        say(f"ending what an earlier demo left: {' '.join(left)}")
    for name in left:
        netns.delete(name)
    if left:
        Path(f"/dev/shm/tandem-{prefix}-gw.stats").unlink(missing_ok=True)
    if state.get("dir") and state["dir"].startswith(tempfile.gettempdir()):
        shutil.rmtree(state["dir"], ignore_errors=True)
    if prefix == "tandem":
        STATE.unlink(missing_ok=True)
    return bool(left)


class Demo:
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
        say("namespaces tandem-ue, tandem-ue2, tandem-gw, tandem-core, joined by veth".replace("tandem-", f"{self.prefix}-"))
        self.net = Network(self.prefix)
        length = max(self.options.seconds + 15, 600 if self.keep else 0)
        self.speech = {name: speech.make(self.dir / f"{name}.wav", length, seed)
                       for seed, name in enumerate(("alice", "bob", "carol"), 1)}
        # The access links are captured from the first frame on.
        for name, space, interface in (("access ue", self.net.ue, "ue0"), ("access ue2", self.net.ue2, "ue0"),
                                       ("core", self.net.core, "core0")):
            self._capture(name, space, interface)
        say("gateway: holder, data plane, control plane, Kamailio")
        self.gateway = Gateway(self.net.gw, self.dir / "gateway", ports=self.net.ports, levels={"demo": LEVEL},
                               instance=f"{self.prefix}-gw", survive=self.keep)
        self.gateway.start()
        say("agents: alice in ue, carol in ue2; each makes its primary tunnel")
        for unit, space in (("alice", self.net.ue), ("carol", self.net.ue2)):
            agent = Agent(space, self.dir / "units", unit, self.gateway.server, self.gateway.unit_add(unit),
                          survive=self.keep).start()
            self.agents[unit] = agent
            agent.address = agent.up()
            self._capture(f"inner {unit}", space, agent.tun)
        say("phones (baresip): alice, carol behind their agents, bob in the core")
        self._phone("alice", self.net.ue, self.agents["alice"].address, self.gateway.inner, "tandem0")
        self._phone("carol", self.net.ue2, self.agents["carol"].address, self.gateway.inner, "tandem0")
        self._phone("bob", self.net.core, self.net.bob_address, self.gateway.core, "core0")
        for phone in self.phones.values():
            phone.wait_registered(15)

    def _capture(self, name, space, interface):
        self.captures[name] = Capture(space, interface, self.dir / (name.replace(" ", "-") + ".pcap"))

    def _phone(self, user, space, address, registrar, interface):
        self.phones[user] = Baresip(user, self.dir / "phones" / user, space, address=address, registrar=registrar,
                                    interface=interface, play=self.speech[user], survive=self.keep, log_dir=self.log_dir)
        self.phones[user].start()

    # -- a call -----------------------------------------------------------------

    def call(self, caller, callee):
        record = {"caller": caller, "callee": callee, "begin": time.time_ns(), "media": {}}
        self.calls.append(record)
        self.view.step(f"{caller} calls {callee}, {self.options.seconds} s")
        a, b = self.phones[caller], self.phones[callee]
        for phone in (a, b):
            phone.clear_events()
        a.dial(callee)
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


def run(options, view):
    end_leftover(options.prefix, view.step)
    demo = Demo(options, view)
    keep_files = True
    try:
        demo.build_up()
        demo.call("alice", "bob")
        demo.call("alice", "carol")
        view.step("judging captures and recordings")
        result = report.judge(demo, demo.stop_captures())
        if options.json:
            Path(options.json).write_text(json.dumps(result, indent=2) + "\n")
        view.table(result)
        keep_files = not result["passed"]
        if options.keep:
            demo.keep_running()
            view.around(demo)
        return 0 if result["passed"] else 1
    finally:
        demo.end()
        if not demo.kept:
            if keep_files:
                view.step(f"logs, configurations, captures and recordings are in {demo.dir}")
            else:
                shutil.rmtree(demo.dir, ignore_errors=True)


def main():
    p = argparse.ArgumentParser(prog="tools/demo", description="A protected call through Tandem, judged from the wire.")
    p.add_argument("--scenario", choices=["call"], default="call")
    p.add_argument("--seconds", type=int, default=30, help=f"of each call, at least {SHORTEST_S} (default 30)")
    p.add_argument("--keep", action="store_true", help="leave everything running, with a call, and say how to look around")
    p.add_argument("--end", action="store_true", help="end what --keep left running")
    p.add_argument("--json", metavar="FILE", help="write the result there")
    p.add_argument("--prefix", default="tandem", help=argparse.SUPPRESS)
    options = p.parse_args()
    if options.seconds < SHORTEST_S:
        p.error(f"--seconds {options.seconds}: a call must last {SHORTEST_S} s or more to be re-keyed {NEEDED_REKEYS} times")
    if os.geteuid() != 0:
        print("demo: needs root for network namespaces and XDP", file=sys.stderr)
        return 1
    view = report.View(sys.stdout.isatty() and os.environ.get("CI") != "true" and os.environ.get("TERM") != "dumb")

    def ended(number, _):
        raise DemoError(f"ended by signal {number}")

    signal.signal(signal.SIGTERM, ended)
    signal.signal(signal.SIGHUP, ended)
    try:
        if options.end:
            print("ended" if end_leftover(options.prefix, view.step) else "nothing is running")
            return 0
        return run(options, view)
    except KeyboardInterrupt:
        print("\ndemo: interrupted; everything was ended", file=sys.stderr)
        return 130
    except (DemoError, BaresipError, ProcessError, NotBuilt, CtlError, netns.NetError, speech.SpeechError, OSError) as e:
        print(f"demo: {e}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
