#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 90
"""An attacker opens connections to the tunnel port as fast as one process can and says nothing, or half a ClientHello, on them; each that
is closed is opened again. New units get their sessions all the same, those that are up keep theirs."""
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import check, equal, main

HELD, UNITS = 1000, 12
PART = bytes([22, 3, 1, 1, 0, 1, 0, 0])


def attack(space, to):
    """In a process of its own, until it is killed."""
    pid = os.fork()
    if pid:
        return pid
    try:
        with open(f"/run/netns/{space.name}", "rb") as where:
            netns._libc.setns(where.fileno(), netns.CLONE_NEWNET)
        os.nice(10)
        poll, held, n = select.epoll(), {}, 0
        while True:
            while len(held) < HELD:
                n += 1
                s = socket.socket()
                s.setblocking(False)
                s.connect_ex(to)
                held[s.fileno()] = [s, n % 2]
                poll.register(s, select.EPOLLIN | select.EPOLLRDHUP | (select.EPOLLOUT if n % 2 else 0))
            for fd, what in poll.poll(0.05):
                s, talks = held[fd]
                if what & (select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR):
                    poll.unregister(fd)
                    held.pop(fd)[0].close()
                elif talks:
                    s.send(PART)
                    poll.modify(fd, select.EPOLLIN | select.EPOLLRDHUP)
    finally:
        os._exit(1)


def test(t):
    net = t.network()
    gw = t.gateway(net, kamailio=False, start=False)
    config = Path(gw.dataplane_config)  # all of it reaches the control plane
    config.write_text(config.read_text().replace("[edge]\n", "[edge]\nhandshakes_per_second = 0\n"))
    gw.start()
    known = t.agent(net.ue, gw, "known")
    pid = attack(net.ue2, (net.access, 4433))
    t.defer(lambda: (os.kill(pid, signal.SIGKILL), os.waitpid(pid, 0)))
    time.sleep(3)  # it holds what it can
    times = []
    for i in range(UNITS):
        begin = time.monotonic()
        t.agent(net.ue, gw, f"unit{i}", tun=f"u{i}")
        times.append(time.monotonic() - begin)
    t.say(f"{UNITS} new units beside it: at most {max(times):.2f} s each, start of the agent included")
    check(known.process.alive() and known.status()["primary"]["up"], "who was up before is up")
    equal(len([s for s in gw.ctl.sessions() if s["up"]]), UNITS + 1, "units that are up")
    check(max(times) < 5, f"a new unit does not wait for the attacker's time limit: {times}")


main(test, "connections that say nothing keep no unit out")
