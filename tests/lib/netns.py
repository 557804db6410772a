# SPDX-License-Identifier: Apache-2.0
"""Throw-away network namespaces joined by veth. Names begin with tt<pid>-, so what a killed run left is told from
what a live one uses; nothing leaves the machine. Needs root and iproute2."""

import array
import ctypes
import fcntl
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time

_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


class NetError(Exception):
    pass


def run(*argv, check=True, timeout=30, stdin=None):
    """Runs a program, returns its output; an error carries the program's own words."""
    done = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=timeout, input=stdin, check=False)
    if check and done.returncode != 0:
        raise NetError(f"`{' '.join(map(str, argv))}` ended with {done.returncode}: {done.stdout.strip()}")
    return done.stdout


def namespaces():
    return [line.split()[0] for line in run("ip", "netns", "list").splitlines() if line.strip()]


def pids_in(name):
    return [int(p) for p in run("ip", "netns", "pids", name, check=False).split() if p.isdigit()]


def end_processes(pids, patience=3.0):
    """SIGTERM, then SIGKILL to those that remain: by pid, nothing else."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        end = time.monotonic() + patience
        while time.monotonic() < end:
            pids = [p for p in pids if alive(p)]
            if not pids:
                return
            time.sleep(0.05)


def alive(pid):
    """A zombie that nobody waits for is not."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def delete(name):
    """Ends what runs inside, then removes the namespace; its veths go with it."""
    own = os.getpid()
    pids = [p for p in pids_in(name) if p != own]
    if pids:
        end_processes(pids)
    run("ip", "netns", "del", name, check=False)


def remove_leftovers():
    """Namespaces of test runs whose process is gone."""
    removed = []
    for name in namespaces():
        found = re.match(r"tt(\d+)-", name)
        if found and not os.path.exists(f"/proc/{found[1]}"):
            delete(name)
            removed.append(name)
    return removed


def _enter(name):
    fd = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(fd, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter namespace {name}")
    finally:
        os.close(fd)


def forked(name, act):
    """act() inside, in a process of its own, which ends with it or by whoever kills it. Its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        _enter(name)
        act()
    finally:
        os._exit(1)


def inside(name, function):
    """Runs function() in the namespace, in a thread of its own (sockets made there stay there)."""
    result, error = [], []

    def body():
        try:
            _enter(name)
            result.append(function())
        except BaseException as e:  # handed to the caller's thread
            error.append(e)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if error:
        raise error[0]
    return result[0]


def _ethtool_off(interface):
    """Checksums and segments are made by the sender: frames look as on a wire (there is no ethtool in the package list)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for command in (0x17, 0x1f, 0x24, 0x2c, 0x15):  # STXCSUM, STSO, SGSO, SGRO, SRXCSUM
            value = array.array("B", struct.pack("II", command, 0))
            request = struct.pack("16sP", interface.encode(), value.buffer_info()[0])
            try:
                fcntl.ioctl(s, 0x8946, request)
            except OSError:
                pass


class Namespace:
    def __init__(self, name):
        self.name = name
        if name in namespaces():
            raise NetError(f"namespace {name} exists already; `ip netns del {name}` removes it")
        run("ip", "netns", "add", name)
        self.ip("link", "set", "lo", "up")
        # Router advertisements and duplicate address detection only delay tests.
        self.sysctl("net.ipv6.conf.all.accept_ra", 0, check=False)
        self.sysctl("net.ipv6.conf.default.accept_ra", 0, check=False)
        self.sysctl("net.ipv6.conf.default.accept_dad", 0, check=False)

    def ip(self, *arguments, check=True):
        return run("ip", "-n", self.name, *arguments, check=check)

    def run(self, *argv, check=True, timeout=30, stdin=None):
        return run("ip", "netns", "exec", self.name, *argv, check=check, timeout=timeout, stdin=stdin)

    def sysctl(self, name, value, check=True):
        def write():
            with open("/proc/sys/" + name.replace(".", "/"), "w") as f:
                f.write(str(value))
        try:
            inside(self.name, write)
        except OSError:
            if check:
                raise

    def address(self, interface, *addresses):
        for a in addresses:
            self.ip("address", "add", a, "dev", interface, *(["nodad"] if ":" in a else []))

    def route(self, *arguments):
        self.ip(*(["-6"] if any(":" in a for a in arguments) else []), "route", "add", *arguments)

    def link(self, interface, state):
        """link("ue0", "down")"""
        self.ip("link", "set", interface, state)

    def delete(self):
        delete(self.name)


def take_redirected_frames(space, interface):
    """GRO on: only then a veth takes frames that XDP redirects to it (tandem-load --xdp)."""
    def on():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            value = array.array("B", struct.pack("II", 0x2c, 1))  # ETHTOOL_SGRO
            fcntl.ioctl(s, 0x8946, struct.pack("16sP", interface.encode(), value.buffer_info()[0]))
    inside(space.name, on)


def veth(a, interface_a, b, interface_b, mtu=1500):
    """Joins two namespaces by a veth pair, both ends up, offloads off."""
    a.ip("link", "add", interface_a, "mtu", str(mtu), "type", "veth", "peer", "name", interface_b, "mtu", str(mtu),
         "netns", b.name)
    for end, interface in ((a, interface_a), (b, interface_b)):
        end.ip("link", "set", interface, "up")
        inside(end.name, lambda i=interface: _ethtool_off(i))


def has_netem():
    """Whether this kernel has sch_netem (asked once, in a namespace of its own)."""
    name = f"tt{os.getpid()}-netem"
    run("ip", "netns", "add", name)
    try:
        return "Error" not in run("ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", "lo", "root", "netem",
                                  "loss", "1%", check=False)
    finally:
        run("ip", "netns", "del", name, check=False)
