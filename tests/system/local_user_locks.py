#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 60
"""A local user without rights takes what a data plane locks by name, before it starts and while it runs: the stats segment and an abstract
socket in its network namespace. It starts all the same, again too; two data planes on one interface still exclude each other."""
import fcntl
import os
import signal
import socket
import sys
from pathlib import Path

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import check, equal, main
from process import Process
from programs import program, write_toml

NOBODY = 65534


def as_nobody(space, function):
    """A process of nobody's in the namespace that calls function() and then stays until it is killed. None: it could not."""
    read, write = os.pipe()

    def act():
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        kept = function()
        os.write(write, b"y")
        signal.pause()
        del kept

    pid = netns.forked(space.name, act)
    os.close(write)
    if os.read(read, 1) == b"y":
        return pid
    os.waitpid(pid, 0)
    return None


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net, start=False, kamailio=False)
    index = int(netns.inside(net.gw.name, lambda: socket.if_nametoindex("acc0")))

    def squat():
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        s.bind(f"\0tandem-if-{index}")
        return s

    def hold():
        f = open(f"/dev/shm/tandem-{gw.instance}.stats", "rb")
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return f

    def take_name():
        os.mkdir(f"/dev/shm/tandem-{gw.instance}.stats")
        return True

    thieves = []
    t.defer(lambda: [os.kill(p, signal.SIGKILL) for p in thieves if p])
    thieves.append(as_nobody(net.gw, squat))
    thieves.append(as_nobody(net.gw, take_name))
    t.defer(lambda: [d.rmdir() for d in Path("/dev/shm").glob(f"tandem-{gw.instance}.stats.foreign-*")])
    check(all(thieves), "anybody may bind an abstract socket, and make a directory in /dev/shm")
    gw.start_dataplane()
    thieves.append(as_nobody(net.gw, hold))
    t.say(f"the local user {'holds' if thieves[-1] else 'cannot hold'} the stats segment")
    os.kill(gw.dataplane_pid(), signal.SIGKILL)  # the next one takes the segment over
    gw.dataplane.wait_for_text("restart 1 on this flow state", 20)

    second = write_toml(t.dir / "second.toml", {"instance": f"{gw.instance}-2", "run_dir": t.dir / "run2", "hugepages": "never"},
                        [("[[address]]", {"name": "access", "ip": net.access}), ("[[port]]", {"interface": "acc0"})])
    other = Process("second", [program("tandem-dataplane"), "--config", second], t.log_dir, net.gw)
    t.defer(lambda: other.stop(5))
    equal(other.wait(20), 1, "exit status of a second data plane on the same interface")
    check("another Tandem data plane already uses acc0" in other.log(), f"it says who is there: {other.tail()}")


main(test, "a local user cannot stop the data plane")
