#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 90
"""Datagrams of unmodified programs go through the tunnel to services: each socket of a program is one peer of its service and sees the peers that it
sent to, 100 at once without cross-talk; the same over a lost network and back, and anew after the gateway's control plane was killed. What
[tunnel] services does not name for UDP is neither sent nor heard, and counted."""
import json
import os
import re
import signal
import subprocess
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
import captured
from harness import check, equal, main, wait_until
from radios import WLAN, WWAN, Radios

PORT, OTHER, FORBIDDEN, MANY = 5353, 5454, 5555, 100

# Each of many sockets asks both services, all at once; a datagram of nothing, and a large one, come back too.
ASK = """
import json, random, socket, sys
host, ports, count = sys.argv[1], [int(p) for p in sys.argv[2:4]], int(sys.argv[4])
all = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
right, peers, places = 0, 0, set()
for port in ports:
    for i, s in enumerate(all):
        s.settimeout(10)
        words = random.Random(port * count + i).randbytes(0 if i == 0 else 8000 if i == 1 else 20 + i)
        s.sendto(words, (host, port))
        text, peer = s.recvfrom(20000)
        place, _, back = text.partition(b"|")
        places.add((i, place.decode()))
        right += back == words
        peers += peer == (host, port)
connected = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
connected.settimeout(10)
connected.connect((host, ports[0]))
connected.send(b"to one")
print(json.dumps({"right": right, "peers": peers, "places": len(places), "connected": connected.recv(100).partition(b"|")[2].decode(),
                  "peer": connected.getpeername()}))
"""

# A line each 20 ms, of a connected socket, until it is told to end; what it heard, and of which place its service saw it.
TALK = """
import json, select, socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], int(sys.argv[2])))
sent, heard, places, silences, last, due = 0, 0, [], [], time.monotonic(), time.monotonic()
while True:
    ready = select.select([s, sys.stdin], [], [], max(0, due - time.monotonic()))[0]
    if sys.stdin in ready:
        break
    if s in ready:
        place = s.recv(1000).partition(b"|")[0].decode()
        if place not in places:
            places.append(place)
        heard += 1
        if time.monotonic() - last > 0.2:
            silences.append(round(time.monotonic() - last, 2))
        last = time.monotonic()
    if time.monotonic() >= due:
        s.send(b"%d" % sent)
        sent += 1
        due += 0.02
print(json.dumps({"sent": sent, "heard": heard, "places": places, "silences": silences, "peer": s.getpeername()}))
"""

MUTE = """
import json, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
s.sendto(b"?", (sys.argv[1], int(sys.argv[2])))
try:
    print(json.dumps(repr(s.recv(100))))
except TimeoutError:
    print(json.dumps("silence"))
"""


def place(who):
    return f"{who[0]}:{who[1]}"


def test(t):
    net = Radios(t.prefix)
    t.defer(net.delete)
    host = net.bob_address
    gw = t.gateway(net, kamailio=False, tunnel={"keepalive_ms": 1000, "services": [f"{host}:{PORT}/udp", f"{host}:{OTHER}/udp", f"{host}:{FORBIDDEN}"]})
    mirrors = {port: captured.Mirror(net.core, host, port, place) for port in (PORT, OTHER, FORBIDDEN)}
    group = captured.Group(t)
    alice = t.agent(net.ue, gw, "alice", more={
        "capture": {"cgroup": group.name, "rule": [{"to": f"{host}/32", "protocol": "udp"}], "udp_idle_s": 3},
        "path": [{"name": "wifi", "interface": ["wl*"], "hysteresis_s": 1}, {"name": "mobile", "interface": ["ww*"], "hysteresis_s": 1}]})
    alice.up()

    def counters():
        return gw.ctl.control_totals()

    def outer():
        return [s["outer"] for s in gw.ctl.sessions() if s["up"]]

    wait_until(lambda: alice.status()["streams"]["session"], "the session")
    said = captured.python(net.ue, group, ASK, host, PORT, OTHER, MANY)
    equal(said, {"right": 2 * MANY, "peers": 2 * MANY, "places": MANY, "connected": "to one", "peer": [host, PORT]}, "what programs heard, and of whom")
    equal(captured.python(net.ue, group, MUTE, host, FORBIDDEN), "silence", "what a program hears that sends where no rule for UDP leads")
    equal((len(mirrors[FORBIDDEN].asked), counters()["datagrams_not_allowed"]), (0, 1), "of it at the service, and counted at the gateway")
    equal(captured.python(net.ue, group, MUTE.replace('b"?"', "bytes(60000)"), host, PORT), "silence", "what answers a datagram larger than a link carries")
    wait_until(lambda: alice.status()["streams"]["datagrams_lost"] == 1, "it is counted as lost", 5)
    wait_until(lambda: alice.status()["streams"]["datagrams"] == 0, "sockets that are idle are forgotten", 15)
    wait_until(lambda: gw.ctl.sessions()[0]["streams"]["streams"] == 0, "at the gateway, too", 5)

    talk = subprocess.Popen([*captured.within(net.ue, group), sys.executable, "-c", TALK, host, str(PORT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    t.defer(lambda: talk.poll() is None and talk.kill())

    def goes_on(what, limit=10):
        before = len(mirrors[PORT].asked)
        wait_until(lambda: len(mirrors[PORT].asked) > before + 20, f"{what}: the program is heard", limit)

    goes_on("at first")
    net.gw.link("acc0", "down")
    wait_until(lambda: outer() == [WWAN], "the primary on wwan0", 10)
    goes_on("over wwan0")
    net.gw.link("acc0", "up")
    wait_until(lambda: outer() == [WLAN], "the primary on wlan0 again", 10)
    goes_on("over wlan0 again")
    os.kill(gw.controlplane.pid, signal.SIGKILL)
    gw.controlplane.wait(5)
    gw.start_controlplane()
    goes_on("after a restart of the control plane", 20)
    out = json.loads(talk.communicate("\n", timeout=10)[0])
    t.say(f"{out}; {alice.status()['streams']}")
    equal(out["peer"], [host, PORT], "its own peer")
    equal(len(out["places"]), 2, "places that its service saw: one before the restart, whatever the network, and one after it")
    check(all(re.match(r"198\.51\.100\.1:\d+$", seen) for seen in out["places"]), f"of the gateway: {out['places']}")
    alice.stop()
    equal(group.programs(), [], "what is left on the cgroup")


main(test, "captured programs' datagrams go through the tunnel")
