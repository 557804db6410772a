#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""Datagrams of unmodified programs in a cgroup are captured: connected and unconnected sockets, IPv4, IPv6 and IPv4 of an IPv6 socket, each see
the peers that they sent to; each socket of a program is one socket towards the services and back, 200 at once without cross-talk. What is idle is
forgotten, a socket that stays connected is not, more destinations than there are doors are refused until then."""
import json
import re
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
import captured
from harness import check, equal, main, wait_until

SERVICE4, OTHER4, LEFT4, SERVICE6 = "198.51.100.10", "198.51.100.12", "198.51.100.11", "2001:db8:2::10"
PORT, DOORS, IDLE = 5000, 128, 5
RULES = ['{to = "198.51.100.0/24", protocol = "udp"}', f'{{to = "{LEFT4}", protocol = "udp", leave = true}}',
         '{to = "2001:db8:2::/64", protocol = "udp"}']

# One unconnected socket, several destinations; then a connected one for each.
ASK = """
import json, socket, sys
port, hosts = int(sys.argv[1]), sys.argv[2:]
family = socket.AF_INET6 if ":" in hosts[0] else socket.AF_INET
said = {"unconnected": [], "connected": []}
u = socket.socket(family, socket.SOCK_DGRAM)
u.settimeout(20)
for h in hosts:
    u.sendto(b"to " + h.encode(), (h, port))
    text, peer = u.recvfrom(1000)
    said["unconnected"].append([text.decode(), *peer[:2]])
for h in hosts:
    c = socket.socket(family, socket.SOCK_DGRAM)
    c.settimeout(20)
    c.connect((h, port))
    c.send(b"to " + h.encode())
    text, peer = c.recvfrom(1000)
    said["connected"].append([text.decode(), *peer[:2], *c.getpeername()[:2]])
print(json.dumps(said))
"""

# Half of them connected; each sends its own words, all are open at once.
MANY = """
import json, random, socket, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
all = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
for i, s in enumerate(all):
    s.settimeout(20)
    if i % 2:
        s.connect((host, port))
right = peers = 0
for turn in range(5):
    words = [random.Random(turn * count + i).randbytes(20 + i) for i in range(count)]
    for i, s in enumerate(all):
        s.send(words[i]) if i % 2 else s.sendto(words[i], (host, port))
    for i, s in enumerate(all):
        text, peer = s.recvfrom(2000)
        right += text.partition(b"|")[2] == words[i]
        peers += peer[:2] == (host, port)
print(json.dumps({"right": right, "peers": peers}))
"""

# To more destinations than there are doors, by one socket; the first of them is connected to by another one, which stays.
FULL = """
import json, socket, sys, time
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
kept = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
kept.settimeout(20)
kept.connect((host, port))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def send_all(first):
    refused = 0
    for i in range(first, first + count):
        try:
            s.sendto(b"x", (host, port + i))
        except PermissionError:
            refused += 1
    return refused
refused = send_all(1)
end, later = time.monotonic() + 40, 1
while later and time.monotonic() < end:
    time.sleep(1)
    later = 0
    try:
        s.sendto(b"x", (host, port + 2000))
    except PermissionError:
        later = 1
kept.send(b"still")
text, peer = kept.recvfrom(1000)
print(json.dumps({"refused": refused, "later": later, "kept": [text.decode().partition("|")[2], *peer], "peer": kept.getpeername()}))
"""


def asks(space, group, *hosts):
    said = captured.python(space, group, ASK, PORT, *hosts)
    plain = [h.replace("::ffff:", "") for h in hosts]
    equal(said["unconnected"], [[f"{p}|to {h}", h, PORT] for h, p in zip(hosts, plain)], "what an unconnected socket hears, and from whom")
    equal(said["connected"], [[f"{p}|to {h}", h, PORT, h, PORT] for h, p in zip(hosts, plain)], "what connected ones hear, from whom, and their peer")


def counters(capture):
    before = len(re.findall(r"^\{", capture.log(), re.M))
    capture.signal(10)
    wait_until(lambda: len(re.findall(r"^\{.*\}\n", capture.log(), re.M)) > before, "counters")
    return json.loads(capture.log().splitlines()[-1])


def test(t):
    group = captured.Group(t)
    ue, core = captured.networks(t, SERVICE4, OTHER4, LEFT4, SERVICE6)
    asked = []
    for address in (SERVICE4, OTHER4, LEFT4, SERVICE6):
        captured.Mirror(core, address, PORT, lambda _, own=address: own, asked)
    capture = captured.Direct(t, ue, group.name, RULES, more=f"udp_idle_s = {IDLE}").ready()
    asks(ue, group, SERVICE4, OTHER4)
    equal(len(set(asked)), 3, "sockets that the services saw, of a program's three")
    asks(ue, group, SERVICE6)
    asks(ue, group, f"::ffff:{SERVICE4}")
    before = counters(capture)
    check(before["up"] == before["down"] == 8, f"eight datagrams went up and down: {before}")
    asks(ue, None, SERVICE4)
    asks(ue, group, LEFT4)
    equal(counters(capture)["up"], 8, "datagrams captured, after some of others")

    asked.clear()
    said = captured.python(ue, group, MANY, SERVICE4, PORT, 200)
    equal(said, {"right": 1000, "peers": 1000}, "words that came back to the socket that sent them, and senders that are right")
    equal(len(set(asked)), 200, "sockets that the service saw")
    wait_until(lambda: (now := counters(capture))["programs"] == 0 and now["doors"] == 0, "all is idle and forgotten", 30, 0.5)

    said = captured.python(ue, group, FULL, SERVICE4, PORT, 200)
    # One door is of the connected socket.
    equal((said["refused"], said["later"]), (200 - (DOORS - 1), 0), "refused when the doors are full, and once they are idle")
    equal((said["kept"], said["peer"]), (["still", SERVICE4, PORT], [SERVICE4, PORT]), "what a socket that stayed connected hears, and its peer")
    wait_until(lambda: counters(capture)["doors"] == 0, "the connected socket's door is free once it is closed", 30, 0.5)
    capture.stop()
    equal(group.programs(), [], "what is left on the cgroup")
    asks(ue, group, SERVICE4)


main(test, "datagrams of a cgroup's programs are captured")
