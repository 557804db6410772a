#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 90
"""An attacker opens connections to the tunnel port as fast as one process can and says nothing on them, or half a ClientHello, or a whole one
whose answer (of a gateway with a certificate) it does not take; each that is closed is opened again. New units get their sessions all the
same, those that are up keep theirs."""
import os
import select
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from certificates import client_hello, gateway_certificate
from harness import check, equal, main, skip, wait_until

HELD, UNITS = 1000, 12
WORDS = (b"", bytes([22, 3, 1, 1, 0, 1, 0, 0]), client_hello(), client_hello())


def attack(to):
    """Until it is killed."""
    os.nice(10)
    poll, held, n = select.epoll(), {}, 0
    while True:
        while len(held) < HELD:
            n += 1
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(to)
            words = WORDS[n % len(WORDS)]
            held[s.fileno()] = [s, words]
            poll.register(s, select.EPOLLRDHUP | (select.EPOLLOUT if words else 0))
        for fd, what in poll.poll(0.05):
            s, words = held[fd]
            if what & (select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR):
                poll.unregister(fd)
                held.pop(fd)[0].close()
            else:
                s.send(words)
                poll.modify(fd, select.EPOLLRDHUP)


def test(t):
    if not shutil.which("openssl"):
        skip("openssl(1) is not installed")
    net = t.network()
    gw = t.gateway(net, kamailio=False, start=False, tunnel=gateway_certificate(t.dir / "ca"))
    config = Path(gw.dataplane_config)  # all of it reaches the control plane
    config.write_text(config.read_text().replace("[edge]\n", "[edge]\nhandshakes_per_second = 0\n"))
    gw.start()
    known = t.agent(net.ue, gw, "known")
    pid = netns.forked(net.ue2.name, lambda: attack((net.access, 4433)))
    t.defer(lambda: (os.kill(pid, signal.SIGKILL), os.waitpid(pid, 0)))
    wait_until(lambda: gw.ctl.control_totals().get("half_open_refused", 0) > 0, "it holds what it can, and more than there are places for", 30)
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
