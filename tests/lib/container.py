# SPDX-License-Identifier: Apache-2.0
"""A copy of this system with its own systemd (systemd-nspawn), in a network namespace of the test: an overlay over /, thrown away, none of
this machine's services. For what units, packages and their scripts do for real."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

SKIPPED = 77
# In a mount namespace of its own: $1 scratch, $2 name, $3 network namespace.
BOOT = r"""set -eu
scratch=$1 name=$2 netns=$3
mount --make-rprivate /
mount -t tmpfs tmpfs "$scratch"
mkdir "$scratch"/upper "$scratch"/work "$scratch"/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" "$scratch/root" || exit 77
root=$scratch/root
rm -rf "$root"/etc/systemd/system/*.wants "$root"/etc/systemd/system/*.requires
ln -sfn /lib/systemd/system/basic.target "$root"/etc/systemd/system/default.target
head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$root"/etc/machine-id; echo >>"$root"/etc/machine-id
rm -rf "$root"/usr/sbin/policy-rc.d "$root"/srv/tandem; mkdir -p "$root"/srv/tandem
exec systemd-nspawn --quiet --directory="$root" --boot --register=no --keep-unit --machine="$name" --link-journal=no \
    --network-namespace-path="/run/netns/$netns" --capability=all --system-call-filter="bpf perf_event_open @memlock" \
    --bind=/dev/net/tun --bind=/sys/kernel/rcu_expedited --console=pipe
"""


class NoContainer(Exception):
    """This machine cannot; the words say why."""


class Container:
    def __init__(self, t, netns, name):
        self.name, self.dir = name, t.dir / "container"
        if not shutil.which("systemd-nspawn"):
            raise NoContainer("systemd-nspawn is not installed (systemd-container)")
        self.dir.mkdir()
        self.log = open(t.dir / "container.log", "wb")
        self.nspawn = subprocess.Popen(["unshare", "--mount", "bash", "-c", BOOT, "boot", str(self.dir), name, netns.name], stdin=subprocess.DEVNULL,
                                       stdout=self.log, stderr=subprocess.STDOUT)
        t.defer(self.close)
        self.leader = None
        self._boot(Path(t.dir / "container.log"))

    def _boot(self, log, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.nspawn.poll() is not None:
                words = log.read_text(errors="replace").strip()[-300:]
                raise NoContainer("this kernel mounts no overlay over its root" if self.nspawn.returncode == SKIPPED else f"systemd-nspawn does not start: {words}")
            children = Path(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children").read_text().split()
            if children:
                self.leader = int(children[0])
                if self.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded"):
                    return
            time.sleep(0.2)
        raise NoContainer(f"systemd does not come up in a container within {seconds} s")

    def run(self, *words, check=True, timeout=60):
        """A command in it."""
        enter = ["nsenter", "--target", str(self.leader), "--mount", "--pid", "--uts", "--ipc", "--net", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                 "DEBIAN_FRONTEND=noninteractive", "LANG=C.UTF-8"]
        done = subprocess.run([*enter, *map(str, words)], capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL)
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, words))} ended with {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
        return done

    def path(self, inside):
        """A file of it, as seen from here."""
        return Path(f"/proc/{self.leader}/root") / str(inside).lstrip("/")

    def show(self, unit, *what):
        """Properties of a unit."""
        lines = self.run("systemctl", "show", unit, *(f"--property={w}" for w in what)).stdout.splitlines()
        found = dict(line.partition("=")[::2] for line in lines)
        return [found.get(w, "") for w in what]

    def journal(self, unit):
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit, check=False).stdout

    def close(self):
        if self.nspawn.poll() is None and self.leader:
            os.kill(self.leader, signal.SIGKILL)  # its PID 1: all in it ends with it
        try:
            self.nspawn.wait(10)
        except subprocess.TimeoutExpired:
            self.nspawn.kill()
            self.nspawn.wait(5)
        self.log.close()
        for left in (f"/run/systemd/nspawn/propagate/{self.name}", f"/run/systemd/nspawn/unix-export/{self.name}"):
            if os.path.isdir(left):
                os.rmdir(left)
