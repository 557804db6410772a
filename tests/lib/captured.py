# SPDX-License-Identifier: Apache-2.0
"""The agent's capture without a gateway: a cgroup2, programs started in it, tests/tools/capture_direct.cpp beside it. By `nsenter --net`, because
`ip netns exec` hides cgroups."""

import ctypes
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import netns
from harness import skip, wait_until
from process import Process
from programs import program


def networks(t, *services):
    """A device's namespace, and the core's with the services' addresses, joined by veth."""
    ue, core = netns.Namespace(f"{t.prefix}-ue"), netns.Namespace(f"{t.prefix}-core")
    t.defer(ue.delete)
    t.defer(core.delete)
    netns.veth(ue, "ue0", core, "core0")
    ue.address("ue0", "198.51.100.1/24", "2001:db8:2::1/64")
    core.address("core0", *(f"{a}/{64 if ':' in a else 24}" for a in services))
    return ue, core


def mount():
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind = line.split()[:3]
        if kind == "cgroup2":
            return Path(where)
    return None


def within(space, group=None):
    """Before a program's arguments: in the namespace, and in the group from its first byte on."""
    return ["nsenter", f"--net=/run/netns/{space.name}", *(["sh", "-c", f'echo $$ > {group.path}/cgroup.procs; exec "$@"', "sh"] if group else [])]


class Group:
    def __init__(self, t, name=""):
        top = mount()
        if top is None:
            skip("no cgroup2 is mounted here")
        self.name = f"tandem-test-{os.getpid()}{name}"
        self.path = top / self.name
        self.path.mkdir()
        t.defer(self.remove)

    def remove(self):
        wait_until(lambda: not (self.path / "cgroup.procs").read_text(), f"nothing runs in {self.path}")
        self.path.rmdir()

    def programs(self):
        """Ids and names of what is attached to it."""
        said = subprocess.run(["bpftool", "-j", "cgroup", "show", self.path], capture_output=True, text=True, check=False).stdout
        return sorted(p["name"] for p in json.loads(said.strip() or "[]"))


class Foreign:
    """A group with somebody's program on connect4, which does nothing."""

    def __init__(self, t):
        self.group = Group(t, "-foreign")
        syscall = ctypes.CDLL(None, use_errno=True).syscall
        code, licence = ctypes.create_string_buffer(struct.pack("<BBhi BBhi", 0xb7, 0, 0, 1, 0x95, 0, 0, 0)), ctypes.create_string_buffer(b"GPL")

        def bpf(command, attributes):
            done = syscall(321, command, ctypes.create_string_buffer(attributes), len(attributes))  # x86-64
            if done < 0:
                skip(f"bpf({command}): {os.strerror(ctypes.get_errno())}")
            return done
        program = bpf(5, struct.pack("<IIQQIIQII16sII", 18, 2, ctypes.addressof(code), ctypes.addressof(licence), 0, 0, 0, 0, 0, b"somebody", 0, 10))
        where = os.open(self.group.path, os.O_RDONLY)
        bpf(8, struct.pack("<IIII", where, program, 10, 2))  # until the group is removed
        os.close(where)
        os.close(program)


def config(t, name, group, rules, more=""):
    """An agent.toml of which nothing but [capture] counts."""
    key = t.dir / "alice.psk"
    if not key.exists():
        key.write_text("00" * 32)
        key.chmod(0o600)
    path = t.dir / f"{name}.toml"
    path.write_text(f'version = 1\nid = "alice"\ngateway = ["192.0.2.1:4433"]\npsk_file = "{key}"\nuser = "nobody"\n[capture]\ncgroup = "{group}"\n'
                    f"rule = [{', '.join(rules)}]\n{more}\n")
    return path


class Direct(Process):
    def __init__(self, t, space, group, rules, name="capture", more="", inside=None):
        super().__init__(name, [*within(space, inside), program("capture_direct"), "--config", config(t, name, group, rules, more)], t.log_dir)
        t.defer(self.stop)

    def ready(self):
        self.wait_for_text("ready")
        return self

    def counters(self):
        """It ends with them."""
        self.stop()
        return json.loads(self.log().splitlines()[-1])

    def stop(self):
        self.signal(15)
        return self.wait(10)


def python(space, group, text, *words, timeout=60):
    """A client of Python's own sockets; what it prints, as JSON."""
    done = subprocess.run([*within(space, group), sys.executable, "-c", text, *map(str, words)], capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise RuntimeError(f"client ended with {done.returncode}: {done.stderr.strip()[-800:]}")
    return json.loads(done.stdout)


class Mirror:
    """A service that sends each datagram back behind what says(who asked) is, and a "|"; keeps who asked."""

    def __init__(self, space, address, port, says, asked=None):
        self.socket = netns.inside(space.name, lambda: socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.socket.bind((address, port))
        self.asked, self.says = [] if asked is None else asked, says
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            words, who = self.socket.recvfrom(20000)
            self.asked.append(who[:2])
            self.socket.sendto(self.says(who).encode() + b"|" + words, who)
