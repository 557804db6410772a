#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 90
"""An attacker without a tunnel on the gateway's access wire reaches nobody of the inner network: not the gateway's own inner address, not
a unit's with forwarding on, not with a unit's address as its own; over the data plane's ports, over another interface of the host, with
the control plane dead, and with a new data plane. Units do not reach each other. A network that [tunnel] inner_from names does reach it."""
import signal
import socket
import struct
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import equal, main, wait_until

INNER = "10.64.0.1"


class Ear:
    """A UDP port that tells what came."""

    def __init__(self, space, address, port=5060):
        self.socket = netns.inside(space.name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.socket.bind((address, port))

    def heard(self, patience=0.7):
        self.socket.settimeout(patience)
        try:
            return self.socket.recv(2048).decode()
        except TimeoutError:
            return None


def say(space, to, word, source=None, port=5060):
    def send():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.bind((source or "", 0))
            s.sendto(word.encode(), (to, port))
    netns.inside(space.name, send)


def unheard(ear, space, to, word, **more):
    say(space, to, word, **more)
    equal(ear.heard(), None, f"{word}: what arrived")


NEW_BATCH, END_BATCH, DELETE_TABLE, DELETE_RULE = 0x10, 0x11, 0x0a02, 0x0a08  # nfnetlink's


def netfilter(space, kind, body=b"", family=1):
    """One change of nf_tables, as nft makes it; family 0: of all."""
    def message(what, payload, of, resource=0):
        return struct.pack("=IHHIIBBH", 20 + len(payload), what, 1, 1, 0, of, 0, socket.htons(resource)) + payload

    def send():
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as s:
            s.send(message(NEW_BATCH, b"", 0, 10) + message(kind, body, family) + message(END_BATCH, b"", 0, 10))
    netns.inside(space.name, send)


def flushed(gw, other, gateway, what, change):
    """Somebody flushes rules: strangers get in while the control plane stands still, and soon do not."""
    gw.controlplane.signal(signal.SIGSTOP)
    change()
    say(other, INNER, f"{what}, at once")
    equal(gateway.heard(5), f"{what}, at once", "a packet without the rules")
    gw.controlplane.signal(signal.SIGCONT)

    def kept_out():
        say(other, INNER, what)
        return gateway.heard() is None
    wait_until(kept_out, f"after {what} the rules are back", 20)


def test(t):
    net = t.network()
    # Another interface of the host, which is no port of the data plane's.
    other = netns.Namespace(f"{net.gw.name}-o")
    try:
        netns.veth(net.gw, "side0", other, "o0")
        net.gw.address("side0", "203.0.113.1/24")
        other.address("o0", "203.0.113.2/24")
        strangers(t, net, other)
    finally:
        other.delete()


def named(gw):
    return gw.ctl.drops().get("edge_inner", 0)


def strangers(t, net, other):
    gw = t.gateway(net, kamailio=False)
    alice, bob = t.agent(net.ue, gw, "alice"), t.agent(net.ue2, gw, "bob")
    a, b = alice.up(), bob.up()
    net.gw.sysctl("net.ipv4.ip_forward", 1)
    thief = net.core  # on a wire of the data plane's
    thief.route("10.64.0.0/16", "via", gw.core)
    other.route("10.64.0.0/16", "via", "203.0.113.1")
    gateway, unit = Ear(net.gw, INNER), Ear(net.ue, a)
    say(net.ue, INNER, "by the tunnel")
    equal(gateway.heard(5), "by the tunnel", "what a unit says to the gateway")
    say(net.gw, a, "from the gateway")
    equal(unit.heard(5), "from the gateway", "what the gateway says to a unit")
    equal([x for x in gw.ctl.ops("alarm list")["alarms"] if x["name"] == "perimeter"], [], "alarms of the perimeter")

    unheard(gateway, thief, INNER, "a wire of the data plane's, to the gateway")
    unheard(unit, thief, a, "a wire of the data plane's, to a unit")
    thief.address("lo", "10.64.0.77/32")
    unheard(Ear(net.gw, gw.core, 7777), thief, gw.core, "with an inner address as its own", source="10.64.0.77", port=7777)
    wait_until(lambda: named(gw) == 3, "the edge names each of them", 5)
    unheard(gateway, other, INNER, "another interface, to the gateway")
    unheard(unit, other, a, "another interface, to a unit")
    unheard(Ear(net.ue2, b), net.ue, b, "from one unit to another")
    flushed(gw, other, gateway, "flush ruleset", lambda: netfilter(net.gw, DELETE_TABLE, family=0))
    flushed(gw, other, gateway, "flush table", lambda: netfilter(net.gw, DELETE_RULE, struct.pack("=HH", 11, 1) + b"tandem\0\0"))
    unheard(Ear(net.ue2, b, 5063), net.ue, b, "from one unit to another, afterwards", port=5063)

    gw.controlplane.kill()
    net.gw.ip("address", "add", f"{INNER}/32", "dev", "lo")  # what the TUN had
    gateway = Ear(net.gw, INNER, 5061)
    unheard(gateway, thief, INNER, "with the control plane dead", port=5061)
    unheard(gateway, other, INNER, "with the control plane dead, another interface", port=5061)
    gw.stop()
    gw.start_dataplane()  # alone
    inside = stats(gw)
    unheard(gateway, thief, INNER, "with a new data plane", port=5061)
    wait_until(lambda: stats(gw) == inside + 1, "the new data plane's edge names it", 5)
    gw.stop()

    net.gw.ip("address", "del", f"{INNER}/32", "dev", "lo")
    alice.stop(), bob.stop()
    friend = t.gateway(net, kamailio=False, tunnel={"inner_from": ["core0", "eht9"]})
    wait_until(lambda: any(a["name"] == "perimeter" and "eht9" in a["text"] for a in friend.ctl.ops("alarm list")["alarms"]),
               "a name that is no interface's is told", 10)
    alice = t.agent(net.ue, friend, "alice")
    unit = Ear(net.ue, alice.up(), 5062)
    say(thief, alice.inner(), "from a network that inner_from names", port=5062)
    equal(unit.heard(5), "from a network that inner_from names", "what a unit hears of it")
    unheard(Ear(net.gw, INNER, 5062), other, INNER, "from one that it does not name", port=5062)


def stats(gw):
    """The edge's own count, without a control plane."""
    return {d["reason"]: d["packets"] for d in gw.ctl("--instance", gw.instance, "drops")["drops"]}["edge_inner"]


main(test, "the inner network is reached by tunnels alone")
