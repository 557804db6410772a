#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""Unmodified programs in a cgroup are captured by cgroup BPF: curl and Python's sockets reach their service through the agent's listener, see the
peer that they asked for, half-close, over IPv4, IPv6 and IPv4 of an IPv6 socket; 500 at once without cross-talk. Programs outside of the cgroup, rules
that say leave, and the host itself are not touched. What cannot be is refused in words, and nothing is left behind. Behind the listener there is no
session here: capture_direct connects by itself."""
import asyncio
import hashlib
import subprocess
import sys
import threading

sys.path.insert(0, sys.path[0] + "/../lib")
import captured
import netns
from harness import check, equal, main, wait_until

SERVICE4, SERVICE6, LEFT4 = "198.51.100.10", "2001:db8:2::10", "198.51.100.11"
PORT = 8000
RULES = ['{to = "198.51.100.0/24"}', f'{{to = "{LEFT4}", leave = true}}', f'{{to = "2001:db8:2::/64", port = {PORT}}}']

# Sends all, then its end; the service answers only then.
ASK = """
import json, socket, sys
host, port, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
s.settimeout(20)
s.connect((host, port))
peer, own = s.getpeername(), s.getsockname()
s.sendall(bytes(i * 7 % 251 for i in range(size)))
s.shutdown(socket.SHUT_WR)
answer = b""
while part := s.recv(65536):
    answer += part
print(json.dumps({"peer": peer[:2], "own": own[0], "answer": answer.decode()}))
"""

# All are open before the first is answered; each has a pattern and a length of its own.
MANY = """
import asyncio, json, random, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
async def one(i, opened, everybody):
    r, w = await asyncio.open_connection(host, port)
    peer = w.get_extra_info("socket").getpeername()[:2]
    opened.append(i)
    if len(opened) == count:
        everybody.set()
    await everybody.wait()
    pattern = random.Random(i).randbytes(20000 + 37 * i)
    async def send():
        for at in range(0, len(pattern), 5000):
            w.write(pattern[at:at + 5000])
            await w.drain()
        w.write_eof()
    _, back = await asyncio.gather(send(), r.read(-1))
    w.close()
    return back == pattern, peer == (host, port)
async def all():
    opened, everybody = [], asyncio.Event()
    return await asyncio.gather(*(one(i, opened, everybody) for i in range(count)))
done = asyncio.run(all())
print(json.dumps({"right": sum(a for a, _ in done), "peers": sum(b for _, b in done)}))
"""

RESET = """
import json, socket, sys
try:  # the reset may be there before connect() has returned
    said = repr(socket.create_connection((sys.argv[1], int(sys.argv[2])), 20).recv(1))
except OSError as e:
    said = type(e).__name__
print(json.dumps(said))
"""


class Service:
    """PORT: answers with the hash of all that it read, once that ends. PORT + 1: echo. PORT + 2: a page."""

    def __init__(self, space):
        self.peers = []
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        threading.Thread(target=netns.inside, args=(space.name, lambda: self.run(started)), daemon=True).start()
        started.wait(10)

    def run(self, started):
        async def serve():
            for port, what in ((PORT, self.digest), (PORT + 1, self.echo), (PORT + 2, self.page)):
                await asyncio.start_server(what, ["0.0.0.0", "::"], port, backlog=1024)
            started.set()
            await asyncio.Event().wait()
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(serve())

    async def digest(self, r, w):
        self.peers.append(w.get_extra_info("peername")[:2])
        w.write(hashlib.sha256(await r.read(-1)).hexdigest().encode())
        w.close()

    async def echo(self, r, w):
        self.peers.append(w.get_extra_info("peername")[:2])
        while part := await r.read(65536):
            w.write(part)
            await w.drain()
        w.close()

    async def page(self, r, w):
        await r.readuntil(b"\r\n\r\n")
        w.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\npage\n")
        w.close()


def asks(space, group, host, port=PORT, size=300000):
    said = captured.python(space, group, ASK, host, port, size)
    equal(said["peer"], [host, port], f"the peer that a program of {host} sees")
    equal(said["answer"], hashlib.sha256(bytes(i * 7 % 251 for i in range(size))).hexdigest(), "what the service says that it read")
    return said["own"]


def curl(space, group, host):
    command = [*captured.within(space, group), "curl", "--silent", "--show-error", "--max-time", "20", "--noproxy", "*", "--write-out",
               "%{remote_ip} %{local_ip}", f"http://{host}:{PORT + 2}/"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    equal(done.returncode, 0, f"what curl says ({done.stderr.strip()})")
    return done.stdout


def captures(ue, group):
    equal(asks(ue, group, SERVICE4), "127.0.0.1", "where the captured one of IPv4 is bound")
    equal(asks(ue, group, SERVICE6), "::1", "where the captured one of IPv6 is bound")
    equal(asks(ue, group, f"::ffff:{SERVICE4}"), "::ffff:127.0.0.1", "where one of IPv4 by an IPv6 socket is bound")
    equal(curl(ue, group, SERVICE4), f"page\n{SERVICE4} 127.0.0.1", "what curl says")


def leaves_alone(ue, group):
    equal(asks(ue, None, SERVICE4), "198.51.100.1", "where a program outside of the cgroup is bound")
    equal(asks(ue, group, LEFT4), "198.51.100.1", "where one is bound whose destination a rule leaves")
    equal(curl(ue, group, f"[{SERVICE6}]"), f"page\n{SERVICE6} 2001:db8:2::1", "what curl says of a port that no rule names")


def one_by_one(ue, group, service):
    before = len(service.peers)
    said = captured.python(ue, group, MANY, SERVICE4, PORT + 1, 500, timeout=100)
    equal(said, {"right": 500, "peers": 500}, "patterns that came back to the socket that sent them, and peers that are right")
    equal(len(set(service.peers[before:])), 500, "connections that the service saw")


def refusals(t, ue, group):
    def refused(name, words, where=group.name, inside=None):
        second = captured.Direct(t, ue, where, RULES, name, inside=inside)
        equal(second.wait(20), 1, f"exit status of {name}")
        check(all(w in second.log() for w in words), f"{name} says {words}: {second.log()}")
    refused("second", ["captured already, by another tandem-agent", "end it first"])
    refused("nowhere", ["there is no cgroup", "mkdir"], "tandem-test-nowhere")
    (group.path / "below").mkdir()
    refused("below", ["captured already, by another tandem-agent"], f"{group.name}/below")
    (group.path / "below").rmdir()
    refused("itself", ["this process is itself in the cgroup"], inside=group)
    foreign = captured.Foreign(t).group
    refused("foreign", ["by another program", "'somebody'", "bpftool cgroup show"], foreign.name)
    equal(foreign.programs(), ["somebody"], "what is on the cgroup that somebody else captures")


def test(t):
    group = captured.Group(t)
    ue, core = captured.networks(t, SERVICE4, LEFT4, SERVICE6)
    service = Service(core)
    capture = captured.Direct(t, ue, group.name, RULES).ready()
    captures(ue, group)
    leaves_alone(ue, group)
    one_by_one(ue, group, service)
    equal(captured.python(ue, group, RESET, SERVICE4, 9), "ConnectionResetError", "what a program hears whose service is not there")
    # Another network's 127.0.0.1 has no proxy.
    equal(asks(core, group, SERVICE4), SERVICE4, "where a program of another network is bound")
    refusals(t, ue, group)
    check("tandem_connect4" in group.programs(), "the first one's programs are still there")
    said = capture.counters()
    equal((said["taken"], said["captured"], said["elsewhere"], said["unready"], said["strangers"]), (505, 505, 1, 0, 0), "what was counted")
    equal(group.programs(), [], "what is left on the cgroup")
    killed = captured.Direct(t, ue, group.name, RULES, "killed").ready()
    killed.kill()
    wait_until(lambda: not group.programs(), "nothing is left by one that was killed")
    equal(asks(ue, group, SERVICE4), "198.51.100.1", "where a program is bound once nobody captures")


main(test, "programs of a cgroup are captured, TCP")
