#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""Forwarded connections with compress = true (COL-25, COL-26): a transfer of text takes less than 40 % of its octets on the wire, which tells
nothing of it, and ends with the right sha256 over a hard and a soft handover; beside it a line that is typed comes back at once."""
import hashlib
import json
import random
import socket
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import check, equal, main, wait_until
from radios import WLAN, WWAN, Radios
from services import DOWNLOAD, ECHO, REPORT, Download, Service, Typist, send_back, send_hash

OCTETS, PIECE, PACE_S = 24_000_000, 65536, 0.012
MARK = b"a line that nobody between may read"


def text():
    """Lines as of a log: few words, many numbers."""
    some, lines, size = random.Random(7), [], 0
    words = ["request", "answered", "session", "moved", "from", "to", "unit", "path", "after", "octets", "refused", "stream"]
    while size < OCTETS:
        drawn = [some.choice(words).encode() for _ in range(3)]
        line = b"%08d %s %s %d %s\n" % (len(lines), drawn[0], drawn[1], some.randrange(100_000), MARK if len(lines) % 20 == 0 else drawn[2])
        lines.append(line)
        size += len(line)
    return b"".join(lines)[:OCTETS]


def send_slowly(connection, whole):
    for at in range(0, len(whole), PIECE):
        connection.sendall(whole[at:at + PIECE])
        time.sleep(PACE_S)


def test(t):
    net, whole = Radios(t.prefix), text()
    t.defer(net.delete)
    ports = (DOWNLOAD, ECHO, REPORT)
    gw = t.gateway(net, kamailio=False, tunnel={"keepalive_ms": 1000, "services": [f"{net.bob_address}:{port}" for port in ports]})
    for port, serve in ((DOWNLOAD, lambda c: send_slowly(c, whole)), (ECHO, send_back), (REPORT, send_hash)):
        t.defer(Service(net, port, serve).close)
    alice = t.agent(net.ue, gw, "alice", more={
        "path": [{"name": "wifi", "interface": ["wl*"], "hysteresis_s": 1}, {"name": "mobile", "interface": ["ww*"], "hysteresis_s": 1}],
        "forward": [{"listen": f"127.0.0.1:{port}", "to": f"{net.bob_address}:{port}", "compress": True} for port in ports]})
    captures = [t.capture(net.ue, radio) for radio in ("wlan0", "wwan0")]
    alice.up()

    def dial(port):
        return netns.inside(net.ue.name, lambda: socket.create_connection(("127.0.0.1", port), 30))

    def streams():
        return gw.ctl.sessions()[0]["streams"]

    def on_the_wire():
        links = json.loads(net.ue.run("ip", "-j", "-s", "link"))
        return sum(one["stats64"][way]["bytes"] for one in links if one["ifname"] in ("wlan0", "wwan0") for way in ("rx", "tx"))

    wait_until(lambda: alice.status()["streams"]["session"], "the session of the forwarded connections")
    equal(alice.status()["streams"]["compressed"]["contexts"], 0, "contexts before the first octet")
    upload_ends(dial, whole[:2_000_000])
    before, began = on_the_wire(), time.monotonic()
    download = Download(dial)
    typist = Typist(dial)
    wait_until(lambda: download.octets > OCTETS // 10 and typist.back > 10, "both flow")
    now = streams()["compressed"]
    check(now["contexts"] >= 3 and now["context_bytes"] < 8 * 2**20, f"contexts and their memory are told: {now}")
    net.gw.link("acc0", "down")
    wait_until(lambda: [s["outer"] for s in gw.ctl.sessions() if s["up"]] == [WWAN], "the primary on wwan0", 10)
    net.gw.link("acc0", "up")
    wait_until(lambda: [s["outer"] for s in gw.ctl.sessions() if s["up"]] == [WLAN], "the primary on wlan0 again", 10)
    wait_until(lambda: streams()["handovers"] == 2, "the streams moved, hard and softly", 5)
    check(download.octets < OCTETS, f"both moves under the transfer: {download.octets} octets")
    download.join(60)
    taken, ended = on_the_wire() - before, time.monotonic()
    equal((download.octets, download.hash.hexdigest()), (OCTETS, hashlib.sha256(whole).hexdigest()), "octets and sha256 of the download")
    echo_at_once(t, dial)
    typist.stopping = True
    typist.join(10)
    equal((typist.wrong, typist.back), ("", typist.typed), "the echo")
    told = streams()["compressed"]
    t.say(f"{OCTETS} octets of text took {taken} on the wire ({100 * taken / OCTETS:.1f} %) in {ended - began:.1f} s, all else there too; {told}")
    check(taken < 0.4 * OCTETS, f"less than 40 % on the wire: {taken} of {OCTETS}")
    check(told["link_bytes"] < 0.4 * told["plain_bytes"], f"the gateway's own count: {told}")
    wait_until(lambda: (streams()["streams"], alice.status()["streams"]["compressed"]["contexts"]) == (0, 0), "no context is left", 10)
    equal((streams()["compressed"]["contexts"], streams()["compressed"]["context_bytes"]), (0, 0), "nor at the gateway")
    for capture in captures:
        capture.stop()
        octets = capture.path.read_bytes()
        check(len(octets) > 100_000 and MARK not in octets and b"line 1" not in octets, f"{capture.path.name}: ciphertext alone")


def upload_ends(dial, octets):
    """The other direction, with its half-close."""
    with dial(REPORT) as connection:
        connection.sendall(octets)
        connection.shutdown(socket.SHUT_WR)
        equal(connection.makefile().read(), hashlib.sha256(octets).hexdigest(), "what came after the half-close")


def echo_at_once(t, dial):
    with dial(ECHO) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        took = []
        for number in range(50):
            line, began = b"typed %d\n" % number, time.monotonic()
            connection.sendall(line)
            equal(connection.recv(len(line), socket.MSG_WAITALL), line, "an echo")
            took.append(time.monotonic() - began)
    took.sort()
    t.say(f"a typed line is back after {1000 * took[25]:.2f} ms (median), {1000 * took[-1]:.1f} ms at most")
    check(took[25] < 0.05, f"an echo goes out at once: {took[25]:.3f} s")


main(test, "compressed connections")
