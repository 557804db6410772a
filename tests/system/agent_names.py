#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 90
"""COL-04, COL-05: three names on one port are three local addresses, by the agent's name server, and reach three services; curl finds them
by the host's own resolver. Of a chosen name nothing of the real server's shows; all other names are dnsmasq's, also large answers by TCP, many
at once, and where the first server is silent. What is no query is counted and answers nobody."""
import random
import socket
import struct
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import equal, main, wait_until
from process import Process
from radios import Radios
from services import Service

STUB, SERVER, SILENT = "127.0.0.54", "127.0.0.99", "127.0.0.98"
NAMES = {f"{which}.example.org": (f"127.0.0.{10 + number}", 8081 + number) for number, which in enumerate(("mail", "files", "Wiki"))}


def page(words):
    def serve(connection):
        connection.recv(4096)
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(words)}\r\nConnection: close\r\n\r\n{words}".encode())
    return serve


class Device:
    def __init__(self, t, net):
        self.space = net.ue
        resolver = Path("/etc/netns") / net.ue.name
        resolver.mkdir(parents=True)
        t.defer(lambda: (resolver / "resolv.conf").unlink() or resolver.rmdir())
        (resolver / "resolv.conf").write_text(f"nameserver {STUB}\noptions timeout:5 attempts:1\n")

    def run(self, *command):
        return subprocess.run(["ip", "netns", "exec", self.space.name, *map(str, command)], capture_output=True, text=True, timeout=30, check=False)

    def dig(self, *words):
        done = self.run("dig", f"@{STUB}", "+short", "+tries=1", "+time=8", *words)
        equal(done.returncode, 0, f"dig {words}: {done.stdout}{done.stderr}")
        return done.stdout.split("\n")[:-1]


def query(number, name):
    labels = b"".join(bytes([len(x)]) + x.encode() for x in name.split("."))
    return struct.pack("!HHHHHH", number, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", 1, 1)


def many_at_once(device, count):
    """Each from a socket of its own, all with one id; who gets another's answer is seen."""
    def ask():
        sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
        for i, s in enumerate(sockets):
            s.settimeout(8)
            s.sendto(query(77, f"h{i}.wild.example.net"), (STUB, 53))
        right = 0
        for i, s in enumerate(sockets):
            reply = s.recv(2000)
            right += reply[:2] == struct.pack("!H", 77) and f"h{i}".encode() in reply and reply.endswith(socket.inet_aton("203.0.113.8"))
        return right
    return netns.inside(device.space.name, ask)


def nonsense(device):
    def send():
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        words = [b"", b"x", bytes(11), bytes(12)[:2] + b"\x81" + bytes(9), query(1, "mail.example.org")[:-3], random.Random(1).randbytes(40)[:3] + b"\xff" * 30]
        for w in words[:5]:
            s.sendto(w, (STUB, 53))
        with socket.create_connection((STUB, 53)) as c:
            c.sendall(b"\0\5xxxxx")
            equal(c.recv(10), b"", "what one hears by TCP who says nonsense")
    netns.inside(device.space.name, send)


def test(t):
    net = Radios(t.prefix)
    t.defer(net.delete)
    for name, (_, port) in NAMES.items():
        t.defer(Service(net, port, page(name)).close)
    gw = t.gateway(net, kamailio=False, tunnel={"services": [f"{net.bob_address}:*"]})
    device = Device(t, net)
    text = "x" * 200
    dnsmasq = Process("dnsmasq", ["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--bind-interfaces", f"--listen-address={SERVER}",
                                  "--address=/other.example.net/203.0.113.7", "--address=/wild.example.net/203.0.113.8", "--address=/mail.example.org/198.51.100.99",
                                  *[f"--txt-record=large.example.net,{number}{text}" for number in range(10)]], t.log_dir, net.ue)
    t.defer(dnsmasq.stop)
    silent = netns.inside(net.ue.name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    silent.bind((SILENT, 53))
    alice = t.agent(net.ue, gw, "alice", more={
        "names": {"listen": f"{STUB}:53", "servers": [f"{SERVER}:53"]},
        "forward": [{"listen": f"{address}:80", "to": f"{net.bob_address}:{port}", "name": name} for name, (address, port) in NAMES.items()]})
    alice.up()
    wait_until(lambda: alice.status()["streams"]["session"], "the session of the forwarded connections")
    for name, (address, _) in NAMES.items():
        equal(device.dig(name), [address], f"address of {name}")
        equal(device.dig("+tcp", name.upper()), [address], f"the same by TCP, in capitals: {name}")
        equal(device.run("curl", "--silent", "--show-error", "--max-time", "20", "--noproxy", "*", f"http://{name}/").stdout, name, f"the page of {name}")
    equal(device.dig("mail.example.org", "AAAA") + device.dig("mail.example.org", "TXT"), [], "what else there is of a chosen name")
    equal(device.dig("other.example.net"), ["203.0.113.7"], "a name of dnsmasq's")
    equal(device.dig("www.mail.example.org"), ["198.51.100.99"], "a name below a chosen one: dnsmasq's")
    equal(len(device.dig("large.example.net", "TXT")), 10, "records of an answer that UDP does not take")
    equal(many_at_once(device, 200), 200, "answers that reached who asked")
    nonsense(device)
    wait_until(lambda: alice.status()["names"]["malformed"] == 6, "what was malformed is counted", 5)
    equal(device.dig("files.example.org"), ["127.0.0.11"], "and the next one is answered")
    state = alice.status()["names"]
    t.say(state)
    equal((state["unanswered"], state["no_room"]), (0, 0), "unanswered, no room")
    alice.stop()
    another(t, net, gw, device, dnsmasq)


def another(t, net, gw, device, dnsmasq):
    """The first server is silent; then both are."""
    bob = t.agent(net.ue, gw, "bob", more={
        "names": {"listen": f"{STUB}:53", "servers": [f"{SILENT}:53", f"{SERVER}:53"]},
        "forward": [{"listen": "127.0.0.10:80", "to": f"{net.bob_address}:8081", "name": "mail.example.org"}]})
    bob.up()
    equal(device.dig("other.example.net"), ["203.0.113.7"], "where the first server is silent")
    dnsmasq.stop()
    done = device.run("dig", f"@{STUB}", "+short", "+tries=1", "+time=6", "other.example.net")
    equal(done.returncode, 9, "where nobody answers dig says so")
    equal(device.dig("mail.example.org"), ["127.0.0.10"], "a chosen name all the same")
    wait_until(lambda: bob.status()["names"]["unanswered"] == 1, "it is counted", 5)
    bob.stop()


main(test, "names of a device that stand for services")
