#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 90
"""RIM-01 with IPv6 inside: the unit gets an inner IPv4 and an inner IPv6 address; data and a call's media use IPv6 between phone and
gateway, the other phone speaks IPv4; once with the tunnels over IPv4, once with both tunnels over IPv6."""
import re
import socket
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import check, equal, main, wait_until
from media import Call


class MixedCall(Call):
    """As a proxy asks that knows the callee's family: IPv4 towards the core, IPv6 back to the unit."""

    def command(self, name, **keys):
        family = {"offer": {"address_family": "IP4"}, "answer": {"address_family": "IP6"}}
        return super().command(name, **family.get(name, {}), **keys)


def test(t):
    net = t.network(ue2=False, ipv6=True)
    for access in (net.access, "2001:db8:1::1"):
        t.say(f"gateway at {access}")
        gw = t.gateway(net, kamailio=False, access=access, inner6="fd64::/64", level={"rekey_s": 2, "overlap_s": 1})
        alice = t.agent(net.ue, gw, "alice")
        one(t, net, gw, alice)
        equal(alice.stop(), 0, "the agent's exit status")
        gw.stop()


def one(t, net, gw, alice):
    shown = net.ue.ip("-6", "-o", "address", "show", "dev", alice.tun)
    address = wait_until(lambda: re.search(r"inet6 (fd64::\S+)/64", shown), "an inner IPv6 address").group(1)
    equal(len(alice.status()["primary"]["inner"]), 2, "inner addresses")

    server = netns.inside(net.gw.name, lambda: socket.create_server(("fd64::1", 8080), family=socket.AF_INET6))
    client = netns.inside(net.ue.name, lambda: socket.create_connection(("fd64::1", 8080), 5))
    peer, who = server.accept()
    client.sendall(b"through the primary")
    equal((peer.recv(100), who[0]), (b"through the primary", address), "data over inner IPv6")

    for s in (client, peer, server):
        s.close()

    call = MixedCall(gw, net.ue, address, net.core, net.bob_address)
    check(":" in call.towards_unit[0] and ":" not in call.towards_core[0], f"SDP families: {call.towards_unit}, {call.towards_core}")
    wait_until(lambda: call.media()["rekeys"] >= 3, "three re-keys", 15, 0.2)
    call.unit.pause()
    call.core.pause()
    time.sleep(0.5)
    up = {s for _, s in call.unit.sent} - {s for _, s in call.core.received}
    down = {s for _, s in call.core.sent} - {s for _, s in call.unit.received}
    t.say(f"sent {len(call.unit.sent)} and {len(call.core.sent)}, lost {len(up)} and {len(down)}")
    check(len(call.unit.sent) > 200 and len(up) <= 2 and len(down) <= 2, f"no media are lost: {sorted(up)[:5]} {sorted(down)[:5]}")
    media = alice.status()["media"]["open"][0]
    equal((media["auth_failures"], media["phone_failures"], media["not_protected"]), (0, 0, 0), "the agent's failures")
    call.hang_up()
    call.close()


main(test, "RIM-01 inner IPv6, outer IPv4 and IPv6")
