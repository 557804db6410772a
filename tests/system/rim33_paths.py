#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
"""RIM-33: a unit with wlan0 and wwan0, with no router, one or two between it and the gateway: the secondary leaves by the radio that the
rule names; where that one is cut during a call the media go on over the other, and come back with it."""
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import check, equal, main, wait_until
from media import Call

WLAN, WWAN, EITHER = "+4611", "+4622", "+4633"


class Radios:
    """ue (wlan0) -[routers]- (acc0) gw, ue (wwan0) -[routers]- (acc1) gw, core. Numbers of routers are given."""

    access, core_address, bob_address = "192.0.2.1", "198.51.100.1", "198.51.100.10"

    def __init__(self, prefix, wlan, wwan):
        self.all = []
        self.gw, self.ue, self.core = self._make(f"{prefix}-gw"), self._make(f"{prefix}-ue"), self._make(f"{prefix}-core")
        self.ports = ["acc0", "acc1", "core0"]
        netns.veth(self.core, "core0", self.gw, "core0")
        self.gw.address("core0", "198.51.100.1/24", "198.51.100.2/24")
        self.core.address("core0", "198.51.100.10/24")
        self.core.route("default", "via", "198.51.100.1")
        self.address, self.routes, self.far = {}, {}, {}
        self._chain(prefix, "wlan0", "acc0", wlan, "192.0.2.1", "192.0.2.10", 1)
        self._chain(prefix, "wwan0", "acc1", wwan, "192.0.2.129", "192.0.2.130", 2)

    def _chain(self, prefix, radio, port, routers, gateway, last, number):
        """From the gateway outwards: `last` is the address beside the gateway, the unit's own or the nearest router's."""
        near, near_port, near_address, address = self.gw, port, gateway, last
        for i in range(routers):
            router = self._make(f"{prefix}-{radio}r{i}")
            router.sysctl("net.ipv4.ip_forward", 1)
            netns.veth(router, "up0", near, near_port)
            near.address(near_port, f"{near_address}/{25 if near is self.gw else 24}")
            router.address("up0", f"{address}/{25 if near is self.gw else 24}")
            router.route("default", "via", near_address)
            near.route(f"10.{number}.0.0/16", "via", address)
            near, near_port, near_address, address = router, "down0", f"10.{number}.{i}.1", f"10.{number}.{i}.10"
        self.far[radio] = near, near_port
        netns.veth(self.ue, radio, near, near_port)
        near.address(near_port, f"{near_address}/{25 if near is self.gw else 24}")
        self.ue.address(radio, f"{address}/{25 if near is self.gw else 24}")
        self.address[radio] = address
        self.routes[radio] = ("default", "via", near_address, "dev", radio, "metric", str(100 * number))
        self.ue.route(*self.routes[radio])

    def _make(self, name):
        space = netns.Namespace(name)
        self.all.append(space)
        return space

    def cut(self, radio, carrier=False):
        """Switched off; or its carrier is lost, and then address and routes stay."""
        if carrier:
            self.far[radio][0].link(self.far[radio][1], "down")
        else:
            self.ue.link(radio, "down")

    def mend(self, radio, carrier=False):
        if carrier:
            self.far[radio][0].link(self.far[radio][1], "up")
        else:
            self.ue.link(radio, "up")
            self.ue.route(*self.routes[radio])

    def delete(self):
        for space in self.all:
            space.delete()


def leg(c):
    return c.leg()["remote"].rpartition(":")[0] if c.leg()["remote"] else None


def path_of(agent):
    return agent.status()["media"]["open"][0]["path"]


def both_hear(c, seconds=1.0):
    begin = time.monotonic()
    time.sleep(seconds)
    heard = len(c.core.heard_since(begin)), len(c.unit.heard_since(begin))
    check(min(heard) > 30 * seconds, f"media in both directions: {heard} packets in {seconds} s")


def one_call(t, net, gw, alice, who, number):
    c = Call(gw, net.ue, alice.inner(), net.core, net.bob_address, call_id=f"c{number}", callee=who)
    t.defer(c.close)
    wait_until(lambda: c.core.received and c.unit.received, "media in both directions")
    return c


def run(t, number, wlan, wwan, carrier):
    t.say(f"wlan0 through {wlan} routers, wwan0 through {wwan}; cut: {'its carrier is lost' if carrier else 'it is switched off'}")
    net = Radios(f"{t.prefix}-{number}", wlan, wwan)
    t.defer(net.delete)
    gw = t.gateway(net, kamailio=False, tunnel={"keepalive_ms": 1000})  # the primary is missed soon
    for address, path in ((WLAN, "wlan"), (WWAN, "wwan")):
        gw.ctl.ops("policy set", address=address, level="test", path=path)
    alice = t.agent(net.ue, gw, f"alice{number}")
    inner = alice.inner()

    # Both up: the primary by the kernel's choice (wlan0 has the better metric), the secondary as policy names.
    for i, (who, radio) in enumerate(((WLAN, "wlan0"), (WWAN, "wwan0"), (EITHER, "wlan0"))):
        c = one_call(t, net, gw, alice, who, i)
        equal(leg(c), net.address[radio], f"outer address of the secondary for {who}")
        shown = path_of(alice)
        equal((shown["interface"], shown["fallback"]), (radio, False), f"path in the agent's status: {shown}")
        other = t.capture(net.ue, "wwan0" if radio == "wlan0" else "wlan0", f"other{number}{i}")
        both_hear(c)
        media = [f for f in other.frames() if f.is_udp and net.access in (f.src, f.dst)]
        equal(len(media), 0, f"frames of the secondary on the other radio ({who})")
        c.hang_up()
        c.close()
        wait_until(lambda: not alice.status()["media"]["open"], "the media is closed")

    # The named one is cut during the call: over the other; it comes back: the media come back.
    c = one_call(t, net, gw, alice, WWAN, 10)
    equal(leg(c), net.address["wwan0"], "outer address before the cut")
    cut = time.monotonic()
    net.cut("wwan0", carrier)
    wait_until(lambda: leg(c) == net.address["wlan0"], "the gateway latched on the other radio", timeout=5)
    both_hear(c)
    shown = path_of(alice)
    equal((shown["wanted"], shown["in_use"], shown["fallback"], shown["moves"]), ("wwan", "wlan", True, 1), f"path after the cut: {shown}")
    t.say(f"cut: longest silence {1000 * c.core.longest_gap(cut, time.monotonic()):.0f} ms at the core, "
          f"{1000 * c.unit.longest_gap(cut, time.monotonic()):.0f} ms at the unit (a packet every 20 ms)")
    mended = time.monotonic()
    net.mend("wwan0", carrier)
    wait_until(lambda: leg(c) == net.address["wwan0"], "the gateway latched on the radio that came back", timeout=5)
    both_hear(c)
    equal((path_of(alice)["fallback"], path_of(alice)["moves"]), (False, 2), "path after it came back")
    t.say(f"mended: longest silence {1000 * c.core.longest_gap(mended, time.monotonic()):.0f} ms at the core, "
          f"{1000 * c.unit.longest_gap(mended, time.monotonic()):.0f} ms at the unit")
    equal(alice.status()["media"]["open"][0]["auth_failures"], 0, "authentication failures")

    # The radio under the primary goes: the media stay where they are, the session comes back over the other one.
    net.cut("wlan0")
    both_hear(c)
    equal(leg(c), net.address["wwan0"], "outer address while the other radio is down")
    wait_until(lambda: any(s["up"] and s["outer"] == net.address["wwan0"] for s in gw.ctl.sessions()), "the primary over wwan0", timeout=60)
    equal(alice.inner(), inner, "inner address after the primary moved")
    both_hear(c)
    c.hang_up()
    alice.stop()
    gw.stop()


def test(t):
    run(t, 1, wlan=0, wwan=2, carrier=False)
    run(t, 2, wlan=2, wwan=1, carrier=True)


main(test, "rim33_paths")
