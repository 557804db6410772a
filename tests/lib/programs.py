# SPDX-License-Identifier: Apache-2.0
"""The real programs with their files: Gateway (holder, data plane, control plane, Kamailio), Agent, Ctl (tandemctl, ops socket)."""

import contextlib
import json
import os
import secrets
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from netns import run
from process import Process, ProcessError
from sip_gateway import SipGateway

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = {"tandem-dataplane": "dataplane/app", "tandem-holder": "dataplane/app", "tandem-controlplane": "controlplane/app",
          "tandem-agent": "tools/agent", "tandemctl": "tools/tandemctl", "probe_unit": "tests/tools",
          "contract": "tests/tools", "wall_clock.so": "tests/tools", "srtp_peer": "tests/tools", "oracle": "tests/tools", "store_room": "tests/tools",
          "capture_direct": "tests/tools", "ng_fake": "controlplane/callcontrol", "tandem-load": "bench/load", "tandem-ng-load": "bench/ng"}
PROGRAMS = {"tandem-dataplane", "tandem-holder", "tandem-controlplane", "tandem-agent", "tandemctl"}  # ninja's target of the same name


class NotBuilt(Exception):
    pass


def build_dir():
    return Path(os.environ.get("TANDEM_BUILD", ROOT / "build"))


def target(name):
    """ninja's, which builds it."""
    return "programs" if name in PROGRAMS else f"{ROOMS[name]}/{name}"


def program(name):
    """The built program's path; TANDEM_BUILD says in which build directory (default: build/ of the checkout). Where
    TANDEM_INSTALLED names a directory, the programs that are there are taken instead. TANDEM_NEEDS: the targets that were built for this
    test; what they lack is refused even where it lies there from before."""
    needs = os.environ.get("TANDEM_NEEDS", "tools").split()
    if "tools" not in needs and target(name) not in needs:
        raise NotBuilt(f"{name} is not among what tools/dev/parts/needs.py finds that this test runs ({', '.join(needs)}): a checkout where "
                       "nothing was built would lack it")
    installed = Path(os.environ.get("TANDEM_INSTALLED", "/nonexistent")) / name
    if installed.exists():
        return str(installed)
    path = build_dir() / ROOMS[name] / name
    if not path.exists():
        for found in build_dir().rglob(name):
            if found.is_file() and os.access(found, os.X_OK):
                return str(found)
        raise NotBuilt(f"{name} is not built in {build_dir()}: run tools/build")
    return str(path)


def pid_in_force(instance):
    """The pid of the data plane that forwards: its holder keeps a second one ready. From the stats segment."""
    with open(f"/dev/shm/tandem-{instance}.stats", "rb") as segment:
        return int.from_bytes(segment.read(24)[16:24], sys.byteorder)


def toml(value):
    """A TOML value of a Python one (strings, numbers, booleans, lists, dicts as inline tables)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + "}"
    return json.dumps(str(value))


def write_toml(path, plain, tables=(), mode=0o644):
    """plain: {key: value}; tables: [("[media]" or "[[port]]", {key: value})]; None values are left out."""
    lines = ["version = 1"] + [f"{k} = {toml(v)}" for k, v in plain.items() if v is not None]
    for header, body in tables:
        lines += ["", header] + [f"{k} = {toml(v)}" for k, v in body.items() if v is not None]
    Path(path).write_text("\n".join(lines) + "\n")
    os.chmod(path, mode)
    return str(path)


class CtlError(Exception):
    """tandemctl or the ops socket said no; .code is tandemctl's exit status, or "usage"/"failed" of the socket."""

    def __init__(self, text, code):
        super().__init__(text)
        self.code = code


class Ctl:
    """ctl("session", "list") runs `tandemctl --json`; ctl.ops("unit add", id=...) speaks to the ops socket itself."""

    def __init__(self, run_dir, instance):
        self.run_dir, self.instance = str(run_dir), instance

    def raw(self, *arguments, timeout=20, json_output=False):
        """(exit status, stdout, stderr) of tandemctl as a person calls it."""
        argv = [program("tandemctl"), "--run-dir", self.run_dir, *(["--json"] if json_output else []), *map(str, arguments)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)
        return done.returncode, done.stdout, done.stderr

    def __call__(self, *arguments, timeout=20):
        status, out, err = self.raw(*arguments, timeout=timeout, json_output=True)
        if status != 0:
            raise CtlError(f"tandemctl {' '.join(map(str, arguments))}: {err.strip() or out.strip()}", status)
        return json.loads(out) if out.strip() else None

    def ops(self, verb, **arguments):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(20)
            s.connect(os.path.join(self.run_dir, "controlplane.sock"))
            s.sendall(json.dumps({"version": 1, "verb": verb, "args": arguments}).encode() + b"\n")
            data = b""
            while not data.endswith(b"\n"):
                part = s.recv(65536)
                if not part:
                    raise CtlError(f"the ops socket closed without an answer to '{verb}'", "failed")
                data += part
        answer = json.loads(data)
        if not answer.get("ok"):
            raise CtlError(answer.get("error", "no reason given"), answer.get("code"))
        return answer.get("result")

    def media(self):
        return self.ops("media list")["media"]

    def sessions(self):
        return self.ops("session list")["sessions"]

    def drops(self):
        """{reason: packets}, those that are not 0."""
        return {d["reason"]: d["packets"] for d in self.ops("drops")["drops"] if d["packets"]}

    def totals(self):
        """{counter: total}"""
        return {c["name"]: c["total"] for c in self.ops("counters")["counters"]}

    def control_totals(self):
        """Likewise of the control plane's own."""
        return {c["name"]: c["total"] for c in self.ops("counters")["control"]}


LEVEL_TEST = {"suite": "AEAD_AES_128_GCM", "seed_bytes": 16, "rekey_s": 5, "overlap_s": 1}


class Gateway:
    """The gateway's programs in one namespace. Files are in `directory`; logs in directory/log.

    access, core (SIP), core_media: addresses; ports: interfaces; level: the default level's table (rekey_s, overlap_s, suite, seed_bytes);
    media, tunnel, dataplane, controlplane: more keys for those tables; tables: more of them for the control plane's configuration.
    levels: {name: table}, weakest first, the first is the default; levels_file=True puts them into levels.toml (see write_levels).
    start() starts everything in order."""

    def __init__(self, netns, directory, access="192.0.2.1", core="198.51.100.1", core_media="198.51.100.2", ports=("acc0", "core0"), level=None,
                 instance=None, tunnel_port=4433, inner4="10.64.0.0/16", inner6=None, tun="tandem0", media=None,
                 tunnel=None, dataplane=None, controlplane=None, levels=None, survive=False, kamailio=True, access_more=(), tables=(),
                 levels_file=False):
        self.netns, self.dir, self.survive = netns, Path(directory), survive
        self.access, self.core, self.tunnel_port, self.with_kamailio = access, core, tunnel_port, kamailio
        self.instance = instance or getattr(netns, "name", "main")
        self.dir.mkdir(parents=True, exist_ok=True)
        self.run_dir, self.log_dir = self.dir / "run", self.dir / "log"
        self.run_dir.mkdir(exist_ok=True)
        self.ctl = Ctl(self.run_dir, self.instance)
        self.inner = inner4.rsplit(".", 1)[0] + ".1"
        host = f"[{access}]" if ":" in access else access
        self.server = f"{host}:{tunnel_port}"
        self.dataplane_config = write_toml(self.dir / "dataplane.toml", {
            "instance": self.instance, "run_dir": self.run_dir, "hugepages": "never", **(dataplane or {})},
            [("[[address]]", {"name": "access", "ip": access}), ("[[address]]", {"name": "core", "ip": core_media}),
             *[("[[address]]", {"name": n, "ip": a}) for n, a in access_more],
             *[("[[port]]", {"interface": p}) for p in ports],
             ("[edge]", {"tunnel_tcp": [tunnel_port]})])
        table = levels or {"test": {**LEVEL_TEST, **(level or {})}}
        self.levels_file = self.dir / "levels.toml"
        if levels_file:
            self.write_levels(table)
        self.controlplane_config = write_toml(self.dir / "controlplane.toml", {
            "instance": self.instance, "run_dir": self.run_dir, "dataplane": self.run_dir / "dataplane.sock",
            "database": self.dir / "tandem.db", "master_key_file": self.dir / "master.key",
            **({"levels": self.levels_file} if levels_file else {"default_level": next(iter(table))}), **(controlplane or {})},
            [("[tunnel]", {"listen": [self.server], "tun": tun, "inner4": inner4, "inner6": inner6, **(tunnel or {})}),
             # Kamailio says where a message came from; a test's own ng client does where that matters.
             ("[ng]", {"listen": ["127.0.0.1:2223"], "received_from": "required" if kamailio else "optional"}),
             *([("[sip]", {"directory": self.dir / "sip"})] if kamailio else []),
             ("[media]", {"ports": [20000, 40000], "access": "access", "core": "core", **(media or {})}),
             *([] if levels_file else [(f"[levels.{name}]", body) for name, body in table.items()]), *tables])
        self.dataplane = self.controlplane = self.kamailio = None
        self.sip = SipGateway(netns, self.dir, self.inner, core, keeps_names=False) if kamailio else None
        self.controlplane_prefix, self.controlplane_env = [], None  # what starts it, and its environment

    def write_levels(self, table, tables=(), **keys):
        """levels.toml as an operator writes it; `level reload` or SIGHUP takes it."""
        write_toml(self.levels_file, {"default": next(iter(table)), **keys},
                   [*[(f"[levels.{name}]", body) for name, body in table.items()], *tables])

    def seed_profile(self, a, b, seconds, ended=None):
        """The pair has talked this long, newest last: rows of table `profile` (controlplane/store/README.md), by another program."""
        a, b = sorted((a, b))
        now = int((ended or time.time()) * 1000)
        calls = [[now - 60_000 * (len(seconds) - i), int(s * 1000), 0] for i, s in enumerate(seconds)]
        with contextlib.closing(sqlite3.connect(self.dir / "tandem.db", timeout=10)) as db, db:
            db.execute("INSERT INTO profile(a, b, body) VALUES (?, ?, ?) ON CONFLICT(a, b) DO UPDATE SET body = excluded.body",
                       (a, b, json.dumps({"total": len(calls), "calls": calls}, separators=(",", ":"))))

    def start(self):
        self.start_dataplane()
        self.start_controlplane()
        if self.with_kamailio:
            self.start_kamailio()
        return self

    def start_dataplane(self, holder=True):
        path = self.run_dir / "dataplane.sock"
        path.unlink(missing_ok=True)
        command = [program("tandem-dataplane"), "--config", self.dataplane_config]
        if holder:
            command = [program("tandem-holder"), "--", *command]
        self.dataplane = Process("dataplane", command, self.log_dir, self.netns, survive=self.survive)
        self.dataplane.wait_for_path(path, 60)
        return self.dataplane

    def start_controlplane(self):
        path = self.run_dir / "controlplane.sock"
        path.unlink(missing_ok=True)
        self.controlplane = Process("controlplane", [*self.controlplane_prefix, program("tandem-controlplane"), "--config",
                                                     self.controlplane_config],
                                    self.log_dir, self.netns, survive=self.survive, env=self.controlplane_env)
        self.controlplane.wait_for_path(path, 30)
        self.controlplane.wait_for(self._connected, "connection to the data plane", 20)
        return self.controlplane

    def _connected(self):
        try:
            return self.ctl.ops("status")["dataplane"]["connected"]
        except (OSError, CtlError):
            return False

    def start_kamailio(self):
        """Kamailio with the packaged configuration: SIP on the core address and on the gateway's inner address."""
        self.kamailio = self.sip.start(self.log_dir, self.survive)
        return self.kamailio

    def dataplane_pid(self):
        """The pid of the data plane in force."""
        return pid_in_force(self.instance)

    def unit_add(self, unit, psk=None):
        """Enrols a unit with a new key; returns the key's file, for the agent."""
        psk = psk or secrets.token_hex(32)
        path = self.dir / f"{unit}.psk"
        path.touch(mode=0o600)
        path.write_text(psk + "\n")
        self.ctl.ops("unit add", id=unit, psk=psk)
        return path

    def stop(self):
        """Ends all, last started first; the control plane's and the data plane's exit status must be 0."""
        bad = []
        if self.sip:
            self.sip.stop()
        for process in (self.kamailio, self.controlplane, self.dataplane):
            if process is None or not process.alive():
                continue
            status = process.stop(10)
            if status != 0 and process is not self.kamailio:
                bad.append(f"{process.name} ended with {status} on SIGTERM:\n{process.tail()}")
        if bad:
            raise ProcessError("\n".join(bad))


class Agent:
    """tandem-agent in a namespace. up() waits until the session stands and tells the inner address."""

    def __init__(self, netns, directory, unit, server, psk_file=None, tun="tandem0", user="nobody", survive=False, more=None):
        self.netns, self.dir, self.unit, self.survive, self.tun = netns, Path(directory), unit, survive, tun
        self.run_dir, self.log_dir = self.dir / f"{unit}-run", self.dir / "log"
        self.dir.mkdir(parents=True, exist_ok=True)
        self.run_dir.mkdir(exist_ok=True)
        os.chmod(self.run_dir, 0o777)
        servers = [server] if isinstance(server, str) else list(server)
        self.config = write_toml(self.dir / f"{unit}.toml", {
            "id": unit, "gateway": servers, "psk_file": psk_file, "tun": tun, "user": user, "run_dir": self.run_dir,
            **(more or {})})
        self.process = None
        self.enter = ["nsenter", f"--net=/run/netns/{netns.name}"] if more and "capture" in more else []  # `ip netns exec` hides cgroups

    def start(self):
        self.process = Process(f"agent-{self.unit}", [*self.enter, program("tandem-agent"), "--config", self.config], self.log_dir,
                               None if self.enter else self.netns, survive=self.survive)
        return self

    def inner(self):
        """The TUN's IPv4 address, None while it has none."""
        for line in self.netns.ip("-4", "-o", "address", "show", "dev", self.tun, check=False).splitlines():
            words = line.split()
            if "inet" in words:
                return words[words.index("inet") + 1].partition("/")[0]
        return None

    def up(self, timeout=15):
        return self.process.wait_for(self.inner, "address on its TUN", timeout)

    def status(self):
        """The agent's own counters, from its status socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(5)
            s.connect(str(self.run_dir / "agent.sock"))
            data = b""
            while part := s.recv(65536):
                data += part
        return json.loads(data)

    def stop(self, timeout=5):
        return self.process.stop(timeout) if self.process else None
