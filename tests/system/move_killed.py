#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 90
"""A re-offer moves a unit's phone, and the control plane is killed while its answer is at work: the unit may have been told of the move
already. What is in force afterwards, the old place or the new, is what its agent does; and a re-offer moves it again."""
import socket
import sys
import threading
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import check, main, wait_until
from media import Call, sdp_port
from ng import Client
from peer import sdp


def heard(call, other, seconds=1.0):
    """Packets at the old place and at the new one."""
    while True:
        try:
            other.recv(2048)
        except BlockingIOError:
            break
    begin, count = time.monotonic(), 0
    time.sleep(seconds)
    while True:
        try:
            other.recv(2048)
            count += 1
        except BlockingIOError:
            return len(call.unit.heard_since(begin)), count


def killed(t, net, gw, alice, delay):
    inner = alice.inner()
    call = Call(gw, net.ue, inner, net.core, net.bob_address, call_id=f"kill{delay}")
    t.defer(call.close)
    time.sleep(0.6)
    other = netns.inside(net.ue.name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    t.defer(other.close)
    other.bind((inner, 0))
    other.setblocking(False)
    ng = netns.inside(net.gw.name, lambda: Client(timeout=1))

    def ask(name, port, address=inner):
        try:
            return ng.command(name, call_id=call.call_id, from_tag="a", to_tag="b", sdp=sdp(address, port), received_from=["IP4", inner])
        except OSError:
            return {}

    check(ask("offer", other.getsockname()[1]).get("sdp"), "the phone moves")
    killer = threading.Timer(delay, gw.controlplane.kill)
    killer.start()
    answered = ask("answer", call.core.port, net.bob_address)
    killer.join()
    gw.start_controlplane()
    wait_until(lambda: alice.status()["primary"]["up"], "the primary is up again", 20)
    found = []
    wait_until(lambda: found.append(heard(call, other)) or max(found[-1]) > 30 and min(found[-1]) == 0, "one place hears", 15)
    t.say(f"killed {delay * 1000:.1f} ms into the answer{'' if answered else ', which was not given'}: old, new place hear {found[-1]}")
    check(not answered or found[-1][1] > 0, "what was answered is in force")
    offer, answer = ask("offer", call.unit.port), ask("answer", call.core.port, net.bob_address)
    check(offer.get("sdp") and answer.get("sdp"), f"it moves back: {offer} {answer}")
    call.core.remote, call.unit.remote = sdp_port(offer["sdp"]), sdp_port(answer["sdp"])
    wait_until(lambda: heard(call, other)[0] > 30, "the old place hears again", 10)


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False, level={"rekey_s": 2, "overlap_s": 0.5})
    alice = t.agent(net.ue, gw, "alice")
    for delay in (0.0005, 0.001):
        killed(t, net, gw, alice, delay)


main(test, "a unit's phone is where the gateway has it, whenever the control plane is killed")
