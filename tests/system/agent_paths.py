#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 90
"""COL-09, COL-10, COL-11, COL-12, COL-45: a device with wlan0 and wwan0 and an order of them. Its tunnel is on wlan0 though the kernel's routes
prefer wwan0; goes to wwan0 when wlan0's carrier is lost, back when that has been there long enough, and to another address of wlan0.
Session, inner address and the phone's packets go on, the media of a call too, and `tandem-agent paths` says why."""
import json
import socket
import subprocess
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from core_calls import alarms
from harness import check, equal, main, wait_until
from media import Call
from programs import program
from radios import OTHER, WLAN, WWAN, Radios

def test(t):
    net = Radios(t.prefix)
    t.defer(net.delete)
    gw = t.gateway(net, kamailio=False, tunnel={"keepalive_ms": 1000})
    alice = t.agent(net.ue, gw, "alice", more={"path": [
        {"name": "wifi", "interface": ["wl*"], "hysteresis_s": 1, "threshold_dbm": -75},
        {"name": "mobile", "interface": ["ww*"], "cost": "volume", "hysteresis_s": 1}]})
    inner = alice.up()

    def tell(*arguments):
        return subprocess.run([program("tandem-agent"), "paths", "--run-dir", alice.run_dir, *arguments], text=True, check=True,
                              stdout=subprocess.PIPE).stdout

    def paths():
        return json.loads(tell("--json"))

    def outer():
        return [s["outer"] for s in gw.ctl.sessions() if s["up"]]

    def last():
        m = paths()["moves"][-1]
        return m["kind"], m["reason"], (m["to"] or {}).get("address"), m["outcome"]

    def moves_to(address, kind, reason, begin):
        wait_until(lambda: outer() == [address], f"the primary on {address}", 10)
        took = time.monotonic() - begin
        wait_until(lambda: last() == (kind, reason, address, "up"), f"{kind} {reason} is told; last is {last()}", 5)
        equal(alice.inner(), inner, "inner address")
        wait_until(echo, "the phone's packet through the tunnel and back", 5)
        heard = time.monotonic()
        wait_until(lambda: c.core.heard_since(heard) and c.unit.heard_since(heard), "media in both directions", 5)
        check(reason != "lost" or took < 1, f"{reason}: on {address} after {took:.2f} s")
        t.say(f"{kind}, {reason}: {took:.2f} s to be seen at the gateway, longest silence of the call "
              f"{1000 * c.core.longest_gap(begin, time.monotonic()):.0f} ms at the core, "
              f"{1000 * c.unit.longest_gap(begin, time.monotonic()):.0f} ms at the unit")

    phone = netns.inside(net.ue.name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    phone.bind((inner, 5070))
    phone.settimeout(0.5)
    beyond = alice.status()["primary"]["inner_gateway"][0]
    server = netns.inside(net.gw.name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    server.bind((beyond, 5060))
    server.settimeout(0.5)

    def echo():
        try:
            phone.sendto(b"there", (beyond, 5060))
            word, source = server.recvfrom(100)
            server.sendto(word, source)
            return phone.recv(100) == b"there"
        except TimeoutError:
            return False

    equal(outer(), [WLAN], "outer address at first, against the kernel's metric")
    session = gw.ctl.sessions()[0]
    c = Call(gw, net.ue, inner, net.core, net.bob_address, call_id="c1", callee="+4633")
    t.defer(c.close)
    wait_until(lambda: c.core.received and c.unit.received, "media in both directions")

    lost = time.monotonic()
    net.gw.link("acc0", "down")  # the carrier; address and routes stay
    moves_to(WWAN, "hard", "lost", lost)
    back = time.monotonic()
    net.gw.link("acc0", "up")
    moves_to(WLAN, "soft", "better", back)
    check(time.monotonic() - back > 1, "not before its hysteresis")
    equal(alice.status()["primary"]["moves"], 1, "moves while the old one served")

    # The same card in another network.
    moved = time.monotonic()
    net.ue.run("ip", "-batch", "-", stdin=f"address add {OTHER}/24 dev wlan0\nroute add default via 203.0.113.1 dev wlan0 metric 150\n"
               f"address del {WLAN}/25 dev wlan0\n")
    wait_until(lambda: outer() == [OTHER], "the primary on the new address", 10)
    wait_until(lambda: paths()["in_use"] == "wlan0" and last()[2:] == (OTHER, "up"), "told", 5)
    t.say(f"another address: {time.monotonic() - moved:.2f} s; {[(m['kind'], m['reason']) for m in paths()['moves']]}")
    check("moved" in [m["reason"] for m in paths()["moves"]], "another address of the same card is told as such")
    wait_until(echo, "the phone's packet through the tunnel and back", 5)

    # Nothing at all, and then the other one.
    for port in ("acc0", "acc1"):
        net.gw.link(port, "down")
    wait_until(lambda: last()[1] == "no path", "no path is told", 5)
    again = time.monotonic()
    net.gw.link("acc1", "up")
    moves_to(WWAN, "hard", "first", again)
    equal(gw.ctl.sessions()[0]["tsid"], session["tsid"], "one session from first to last")
    t.say(tell())
    check(all(word in tell() for word in ("wlan0 is lost: no carrier", "wlan0 is preferred and was there long enough", "no path")), "reasons in words")
    equal(len(tell("--json", "--watch", "--rounds", "2").splitlines()), 2, "lines of --watch as JSON")
    c.hang_up()
    for s in (phone, server):
        s.close()
    alice.stop()
    idle_circuit(t, net, gw)


def taken(gw, net, unit):
    """A call, once the gateway has heard that its port is well again (its last look at it may be older)."""
    end = time.monotonic() + 10
    while True:
        try:
            return Call(gw, net.ue, unit.inner(), net.core, net.bob_address, call_id="c2", caller="carl", callee="+4633")
        except RuntimeError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def idle_circuit(t, net, gw):
    """COL-12: billed by time and idle, though keepalives go on: not gone to, and left after idle_s. A call brings it back and keeps it."""
    net.gw.link("acc0", "up")
    wait_until(lambda: "state UP" in net.ue.ip("link", "show", "wlan0"), "wlan0 has its carrier", 5)
    net.ue.ip("neigh", "flush", "dev", "wlan0")  # that nobody answered there was while it had none
    wait_until(lambda: "dataplane" not in alarms(gw), "the gateway's port is well again", 10)
    alice = t.agent(net.ue, gw, "carl", more={"path": [
        {"name": "circuit", "interface": ["wwan0"], "cost": "time", "idle_s": 3, "hysteresis_s": 1},
        {"name": "packets", "interface": ["wlan0"], "cost": "volume", "hysteresis_s": 1}]})

    def on():
        return alice.status()["paths"]["in_use"]

    equal(on(), "wlan0", "the circuit is not gone to while nothing is sent")
    c = taken(gw, net, alice)
    t.defer(c.close)
    wait_until(lambda: c.core.received and c.unit.received, "media in both directions")
    wait_until(lambda: on() == "wwan0", "the circuit, for there is traffic", 10)
    equal(alice.status()["paths"]["moves"][-1]["reason"], "traffic", "why")
    time.sleep(4)
    equal(on(), "wwan0", "the circuit with traffic")
    c.hang_up()
    c.close()
    over = time.monotonic()
    wait_until(lambda: on() == "wlan0", "the idle circuit is left", 10)
    took = time.monotonic() - over
    made = alice.status()["paths"]["moves"][-1]
    t.say(f"idle circuit left {took:.1f} s after the call: {made['text']}")
    equal((made["kind"], made["reason"]), ("soft", "idle"), "why")
    check(" for 3 s" in made["text"] and took > 2, f"3 s +-1 after the last packet: {took:.1f} s, {made['text']}")


main(test, "a device that chooses its network")
