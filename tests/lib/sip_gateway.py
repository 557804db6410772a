# SPDX-License-Identifier: Apache-2.0
"""Kamailio with the packaged configuration and tables of its own: who may what is written by tandemctl, as an operator would.

    sip = SipGateway(space, directory, inner="10.64.0.1", core="198.51.100.1"); sip.start(log_dir)
    sip.user("bob"); sip.peer("198.51.100.0/24"); sip.own("10.64.0.2", "alice")

Phones of tests/lib (Baresip, sip.Agent) enrol themselves: `enrol` finds the gateway by the registrar's address."""

import os
import shutil
import subprocess
import time

from process import Process

_running = []  # the SIP gateways of this process


def password_of(user):
    return f"pw-{user}"


class SipGateway:
    def __init__(self, netns, directory, inner, core, ng=None, more=(), keeps_names=True):
        """keeps_names: no control plane writes unit_name, so that own() does. more: arguments of Kamailio."""
        import programs  # which starts such a gateway itself
        self._programs = programs
        self.netns, self.inner, self.core, self.keeps_names = netns, inner, core, keeps_names
        self.scratch, self.tables = directory / "kamailio", directory / "sip"
        self.ng, self.more, self.process, self._users, self._own = ng, list(more), None, set(), {}
        self.scratch.mkdir(exist_ok=True)
        self.ctl("prepare")

    def ctl(self, *words, text=None):
        """tandemctl sip ..."""
        done = subprocess.run([self._programs.program("tandemctl"), "sip", *words, "--dir", self.tables], input=text, capture_output=True,
                              text=True, timeout=20, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"tandemctl sip {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def user(self, name, password=None, realm="tandem"):
        if (name, password) not in self._users:
            self._users.add((name, password))
            self.ctl("user", "add", name, "--realm", realm, text=(password or password_of(name)) + "\n")

    def peer(self, prefix):
        self.ctl("peer", "add", prefix)

    def own(self, address, name, unit=None):
        """What the control plane writes of a unit that is up."""
        for row in (f"{address} {name}", name):
            self._own[row.replace(":", "\\:")] = unit or name
        path = self.tables / "unit_name"
        fresh, last = path.with_suffix(".new"), path.stat().st_mtime
        fresh.write_text("own(string) unit(string)\n" + "".join(f"{own}:{unit}\n" for own, unit in self._own.items()))
        later = max(time.time(), int(last) + 1)
        os.utime(fresh, (later, later))
        fresh.rename(path)

    def command(self):
        # -DD: stay in the foreground; -E: log to stderr.
        ng = ["-A", f'NG="{self.ng}"'] if self.ng else []
        return ["kamailio", "-DD", "-E", *self.more, "-f", self._programs.ROOT / "packaging/kamailio/kamailio.cfg", "-Y", self.scratch,
                "-P", self.scratch / "kamailio.pid", "-w", self.scratch, "-A", f"INNER_ADDRESS={self.inner}",
                "-A", f"CORE_ADDRESS={self.core}", "-A", f'TABLES="text://{self.tables}"', *ng]

    def start(self, log_dir, survive=False):
        if not shutil.which("kamailio"):
            raise self._programs.NotBuilt("kamailio is not installed: run tools/dev/install-deps")
        self.process = Process("kamailio", self.command(), log_dir, self.netns, survive=survive)
        self.process.wait_for(lambda: self.netns.run("ss", "-Hlnu", check=False).count(":5060 ") >= 2, "SIP sockets", 30)
        _running.append(self)
        return self.process

    def stop(self):
        if self in _running:
            _running.remove(self)
        return self.process.stop(10) if self.process else None


def enrol(user, registrar, address):
    """The phone's user at the SIP gateway that it registers with, if it is one of this process. Returns the password."""
    for gateway in _running:
        if registrar == gateway.core:
            gateway.user(user)
        elif registrar == gateway.inner and gateway.keeps_names:
            gateway.own(address, user)
    return password_of(user)
