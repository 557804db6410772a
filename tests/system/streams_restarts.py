#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 90
"""Forwarded connections where an end is lost: a session that is dropped, a control plane and an agent that are killed. What was open is reset at
the program and over at the gateway, what is opened after it works. 400 connections at once, each with a pattern of its own, before."""
import os
import random
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import check, equal, main, wait_until
from radios import Radios
from services import ECHO, Service, piece, send_back

GREEDY, MANY = 7031, 400


def send_on(connection):
    while True:
        connection.sendall(piece(1))


class Pattern(threading.Thread):
    def __init__(self, dial, number):
        super().__init__(daemon=True)
        self.dial, self.octets, self.back = dial, random.Random(number).randbytes(20000 + number), None
        self.start()

    def run(self):
        with self.dial(ECHO) as connection:
            sender = threading.Thread(target=lambda: (connection.sendall(self.octets), connection.shutdown(socket.SHUT_WR)), daemon=True)
            sender.start()
            self.back = b"".join(iter(lambda: connection.recv(65536), b""))


def test(t):
    net = Radios(t.prefix)
    t.defer(net.delete)
    for port, serve in ((ECHO, send_back), (GREEDY, send_on)):
        t.defer(Service(net, port, serve).close)
    services = [f"{net.bob_address}:{port}" for port in (ECHO, GREEDY)]
    gw = t.gateway(net, kamailio=False, tunnel={"services": services})
    alice = t.agent(net.ue, gw, "alice", more={"forward": [{"listen": f"127.0.0.1:{to.rpartition(':')[2]}", "to": to} for to in services]})
    alice.up()

    def dial(port):
        return netns.inside(net.ue.name, lambda: socket.create_connection(("127.0.0.1", port), 30))

    def ready():
        try:
            return alice.status()["streams"]["session"] and gw.ctl.sessions()[0]["up"]
        except (OSError, IndexError):
            return False

    def over():
        streams = gw.ctl.sessions()[0]["streams"]
        return streams is not None and streams["streams"] == 0 and alice.status()["streams"]["open"] == 0

    wait_until(ready, "the session of the forwarded connections")
    all_of_them = [Pattern(dial, number) for number in range(MANY)]
    for one in all_of_them:
        one.join(40)
    equal(sum(one.back == one.octets for one in all_of_them), MANY, "patterns that came back whole")
    wait_until(over, "each is over at both ends", 10)

    def kill_agent():
        os.kill(alice.process.pid, signal.SIGKILL)
        alice.process.wait(5)
        alice.start()

    def kill_gateway():
        os.kill(gw.controlplane.pid, signal.SIGKILL)
        gw.controlplane.wait(5)
        gw.start_controlplane()

    for what, lose in (("the session is dropped", lambda: gw.ctl("session", "drop", gw.ctl.sessions()[0]["tsid"])),
                       ("the control plane is killed", kill_gateway), ("the agent is killed", kill_agent)):
        open_one = dial(GREEDY)
        check(open_one.recv(1000), f"before {what}: octets flow")
        lose()
        begin = time.monotonic()
        try:
            while open_one.recv(65536):
                pass
            check(False, f"{what}: a reset, no end in order")
        except ConnectionResetError:
            pass
        open_one.close()
        wait_until(ready, f"{what}: a session again", 20)
        with dial(ECHO) as fresh:
            fresh.sendall(b"again")
            equal(fresh.recv(10), b"again", f"{what}: what is opened after it")
        wait_until(over, f"{what}: each is over at both ends", 10)
        t.say(f"{what}: reset and well again within {time.monotonic() - begin:.1f} s")


main(test, "forwarded connections where an end is lost")
