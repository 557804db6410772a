# SPDX-License-Identifier: Apache-2.0
"""The agent's capture without a gateway: a cgroup2, programs started in it, tests/tools/capture_direct.cpp beside it. By `nsenter --net`, because
`ip netns exec` hides cgroups."""

import json
import os
import subprocess
import sys
from pathlib import Path

from harness import skip, wait_until
from process import Process
from programs import build_dir


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


def config(t, name, group, rules, more=""):
    """An agent.toml of which nothing but [capture] counts."""
    key = t.dir / "alice.psk"
    if not key.exists():
        key.write_text("00" * 32)
        key.chmod(0o600)
    path = t.dir / f"{name}.toml"
    path.write_text(f'version = 1\nid = "alice"\ngateway = ["192.0.2.1:4433"]\npsk_file = "{key}"\nuser = ""\n[capture]\ncgroup = "{group}"\n'
                    f"rule = [{', '.join(rules)}]\n{more}\n")
    return path


class Direct(Process):
    def __init__(self, t, space, group, rules, name="capture", more=""):
        super().__init__(name, [*within(space), build_dir() / "tests/tools/capture_direct", "--config", config(t, name, group, rules, more)], t.log_dir)
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
