# SPDX-License-Identifier: Apache-2.0
"""Frame of a system test: one function that gets a Test, exit status 0 (passed), 1 (failed), 77 (skipped, reason said).

    #!/usr/bin/env python3
    import sys
    sys.path.insert(0, sys.path[0] + "/../lib")
    from harness import check, main, skip

    def test(t):
        net = t.network()                  # namespaces ue, ue2, gw, core (names tt<pid>-...), veths, addresses, routes
        gw = t.gateway(net)                # started: holder, data plane, control plane, Kamailio
        alice = t.agent(net.ue, gw, "alice")
        check(gw.ctl.sessions()[0]["up"], "alice's session is up")

    main(test, "RIM-01 two tunnels over one link")

Whatever was started or made is ended and removed at the end, on failure and on SIGTERM too; on failure the directory with
logs, configurations and captures is kept and named. TANDEM_KEEP=1 keeps it always."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import netns
import scale
from capture import Capture
from process import Process, ProcessError
from programs import Agent, CtlError, Gateway, NotBuilt, ROOT, build_dir


class Failed(Exception):
    pass


class Skipped(Exception):
    pass


def fail(text):
    raise Failed(text)


def skip(reason):
    raise Skipped(reason)


def check(condition, text):
    """The text says what must hold; it is the failure's message."""
    if not condition:
        raise Failed(f"does not hold: {text}")


def equal(value, expected, what):
    if value != expected:
        raise Failed(f"{what} is {value!r}, expected {expected!r}")


def wait_until(condition, what, timeout=10.0, interval=0.1):
    """Calls condition() until it is true; returns its value."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"not within {timeout:g} s: {what}")
        time.sleep(interval)


class Network:
    """ue --(ue0|acc0)-- gw --(core0|core0)-- core, and ue2 --(ue0|acc1)-- gw.

    ue 192.0.2.10, ue2 192.0.2.130; gw 192.0.2.1 (access), 198.51.100.1 (SIP in the core) and 198.51.100.2 (media in the core: the
    edge drops all other UDP to a media address); core 198.51.100.10.
    With impair={...} a bridge in its own namespace "air" stands between ue and gw and loses, doubles, reorders (impair.py)."""

    access, core_address = "192.0.2.1", "198.51.100.1"
    ue_address, ue2_address, bob_address = "192.0.2.10", "192.0.2.130", "198.51.100.10"

    def __init__(self, prefix, ue2=True, impair=None, ipv6=False):
        self.all = []
        self.impairer = None
        self.gw, self.ue, self.core = self._make(f"{prefix}-gw"), self._make(f"{prefix}-ue"), self._make(f"{prefix}-core")
        self.ports = ["acc0", "core0"]
        if impair:
            self.air = self._make(f"{prefix}-air")
            netns.veth(self.ue, "ue0", self.air, "a0")
            netns.veth(self.air, "b0", self.gw, "acc0")
        else:
            netns.veth(self.ue, "ue0", self.gw, "acc0")
        netns.veth(self.core, "core0", self.gw, "core0")
        self.gw.address("acc0", "192.0.2.1/25")
        self.ue.address("ue0", "192.0.2.10/25")
        self.ue.route("default", "via", "192.0.2.1")
        self.gw.address("core0", "198.51.100.1/24", "198.51.100.2/24")
        self.core.address("core0", "198.51.100.10/24")
        self.core.route("default", "via", "198.51.100.1")
        if ue2:
            self.ue2 = self._make(f"{prefix}-ue2")
            netns.veth(self.ue2, "ue0", self.gw, "acc1")
            self.gw.address("acc1", "192.0.2.129/25")
            self.ue2.address("ue0", "192.0.2.130/25")
            self.ue2.route("default", "via", "192.0.2.129")
            self.ports.insert(1, "acc1")
        if ipv6:
            self.gw.address("acc0", "2001:db8:1::1/64")
            self.ue.address("ue0", "2001:db8:1::10/64")
            self.ue.route("default", "via", "2001:db8:1::1")
            self.gw.address("core0", "2001:db8:2::1/64")
            self.core.address("core0", "2001:db8:2::10/64")
            self.core.route("default", "via", "2001:db8:2::1")

    def meet(self, *addresses):
        """The gateway's host knows their neighbours from here on: a burst is over before one is found."""
        for address in addresses or (self.bob_address,):
            self.gw.run("ping", "-c", "1", address)

    def _make(self, name):
        space = netns.Namespace(name)
        self.all.append(space)
        return space

    def delete(self):
        for space in self.all:
            space.delete()


class Test:
    def __init__(self, name):
        self.name = name
        self.prefix = f"tt{os.getpid()}"
        base = os.environ.get("TANDEM_TEST_DIR")
        self.dir = Path(tempfile.mkdtemp(prefix=f"tandem-{Path(sys.argv[0]).stem}-", dir=base))
        os.chmod(self.dir, 0o755)  # agents drop to nobody and write below
        self.log_dir = self.dir / "log"
        self._cleanup, self._networks, self._gateways = [], 0, 0
        self.seed = int(os.environ.get("TANDEM_SEED", "1"))

    def say(self, text):
        print(f"  {text}", flush=True)

    @property
    def count(self):
        """How many to do (`# count: N things` in the head is what tools/soak does; tools/test a twentieth of it)."""
        return scale.count(sys.argv[0])

    def defer(self, function):
        """function() is called at the end, last deferred first."""
        self._cleanup.append(function)

    def network(self, **options):
        self._networks += 1
        net = Network(self.prefix + ("" if self._networks == 1 else f"-{self._networks}"), **options)
        self.defer(net.delete)
        if options.get("impair"):
            words = [w for k, v in options["impair"].items() for w in ([f"--{k.replace('_', '-')}"] + ([] if v is True else [str(v)]))]
            net.impairer = self.start("impair", [sys.executable, ROOT / "tests/lib/impair.py", "a0", "b0", *words], net.air)
            net.impairer.wait_for_text("impairing")
        return net

    def start(self, name, argv, netns=None, **options):
        process = Process(name, argv, self.log_dir, netns, **options)
        self.defer(lambda: process.stop(5))
        return process

    def gateway(self, net, start=True, directory=None, **options):
        self._gateways += 1
        options.setdefault("ports", net.ports)
        gw = Gateway(net.gw, directory or self.dir / ("gw" if self._gateways == 1 else f"gw{self._gateways}"), **options)
        self.defer(lambda: Path(f"/dev/shm/tandem-{gw.instance}.stats").unlink(missing_ok=True))
        self.defer(gw.stop)
        if start:
            gw.start()
        return gw

    def agent(self, space, gw, unit, psk_file=None, start=True, **options):
        """Enrols the unit, starts its agent, waits for the session. psk_file given: not enrolled here."""
        if psk_file is None:
            psk_file = gw.unit_add(unit)
        agent = Agent(space, self.dir / "units", unit, gw.server, psk_file, **options)
        self.defer(agent.stop)
        if start:
            agent.start()
            agent.up()
        return agent

    def capture(self, space, interface, name=None):
        capture = Capture(space, interface, self.dir / f"{name or interface}.pcap")
        self.defer(capture.stop)
        return capture

    def clean(self):
        errors = []
        while self._cleanup:
            function = self._cleanup.pop()
            try:
                function()
            except Exception as e:  # one failing clean-up must not keep the others from running
                errors.append(str(e))
        return errors


def main(test, name):
    """Runs test(Test) and exits."""
    if os.geteuid() != 0:
        print(f"SKIP {name}: needs root for network namespaces")
        sys.exit(77)
    netns.remove_leftovers()
    t = Test(name)

    def ended(number, _):
        raise Failed(f"ended by signal {number} (time limit?)")

    signal.signal(signal.SIGTERM, ended)
    status, words = 0, f"ok   {name}"
    begin = time.monotonic()
    try:
        test(t)
    except Skipped as e:
        status, words = 77, f"SKIP {name}: {e}"
    except KeyboardInterrupt:
        status, words = 130, f"FAIL {name}: interrupted"
    except (Failed, ProcessError, netns.NetError, NotBuilt, CtlError) as e:
        where = traceback.extract_tb(e.__traceback__)
        line = next((f.lineno for f in where if f.filename == os.path.abspath(sys.argv[0])), 0)
        status, words = 1, f"FAIL {name} (line {line}): {e}"
    except BaseException as e:
        status, words = 1, f"FAIL {name}: {e!r}\n{traceback.format_exc()}"
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for error in t.clean():
        if status == 0:
            status, words = 1, f"FAIL {name}: at the end: {error}"
    kept = status not in (0, 77) or os.environ.get("TANDEM_KEEP")
    if kept:
        words += f"\n     logs and captures: {t.dir}"
    else:
        shutil.rmtree(t.dir, ignore_errors=True)
    print(f"{words}" + (f" ({time.monotonic() - begin:.1f} s)" if status == 0 else ""), flush=True)
    sys.exit(status)
