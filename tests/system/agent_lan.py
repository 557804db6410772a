#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 60
"""An attacker in the device's own network sends to the phone's inner address, past the tunnel: nothing arrives. The device itself and
the gateway do reach it. The rule goes with the agent, however it ends, and is there again when it is."""
import socket
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import equal, main, wait_until


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False)
    alice = t.agent(net.ue, gw, "alice")
    inner = alice.up()
    phone = netns.inside(net.ue.name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    phone.bind((inner, 5060))
    thief = netns.Namespace(f"{net.ue.name}-l")
    t.defer(thief.delete)
    netns.veth(net.ue, "lan0", thief, "l0")
    net.ue.address("lan0", "203.0.113.1/24")
    thief.address("l0", "203.0.113.2/24")
    thief.route(f"{inner}/32", "via", "203.0.113.1")

    def say(space, word):
        def send():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.sendto(word.encode(), (inner, 5060))
        netns.inside(space.name, send)

    def heard(patience):
        phone.settimeout(patience)
        try:
            return phone.recv(100).decode()
        except TimeoutError:
            return None

    def guarded(when):
        for space, word in ((net.gw, "gateway"), (net.ue, "device")):
            say(space, word)
            equal(heard(5), word, f"what the phone hears, {when}")
        say(thief, "past the tunnel")
        equal(heard(0.7), None, f"what it hears past the tunnel, {when}")

    guarded("at first")
    alice.process.kill()
    net.ue.ip("address", "add", f"{inner}/32", "dev", "lo")  # so that there is somebody to hear it
    say(thief, "the agent is gone")
    equal(heard(5), "the agent is gone", "what is heard once nobody guards")
    net.ue.ip("address", "del", f"{inner}/32", "dev", "lo")
    alice.start()
    wait_until(lambda: alice.inner() == inner, "the same address again", 15)
    guarded("after a restart")


main(test, "the phone's inner address is reached by the tunnel alone")
