#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
"""RIM-05: 100 MB each way through the primary during a call arrive unchanged; tshark finds TLS 1.3 with TLS_AES_256_GCM_SHA384 and
nothing else in the primary's connection; the call's media are not in it (RIM-06), and lose nothing to the bulk (RIM-35)."""
import hashlib
import shutil
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import check, equal, main, skip, wait_until
from media import Call

SIZE = 100 * 1000 * 1000
BLOCK = hashlib.sha256(b"tandem").digest() * 2048


def blocks():
    left = SIZE
    number = 0
    while left > 0:
        block = (number.to_bytes(8, "big") + BLOCK)[:min(left, len(BLOCK))]  # no two alike: order counts
        yield block
        left -= len(block)
        number += 1


def expected():
    digest = hashlib.sha256()
    for block in blocks():
        digest.update(block)
    return digest.hexdigest()


def send_all(s):
    for block in blocks():
        s.sendall(block)
    s.shutdown(socket.SHUT_WR)


def read_all(s):
    digest, size = hashlib.sha256(), 0
    while part := s.recv(1 << 18):
        digest.update(part)
        size += len(part)
    return size, digest.hexdigest()


def transfer(t, net, gw, upload):
    """(size, sha256) that the far end got, and the seconds."""
    server = netns.inside(net.gw.name, lambda: socket.create_server((gw.inner, 0)))
    result = []

    def serve():
        peer, _ = server.accept()
        peer.settimeout(90)
        with peer:
            result.append(read_all(peer)) if upload else send_all(peer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    begin = time.monotonic()
    client = netns.inside(net.ue.name, lambda: socket.create_connection(server.getsockname(), 10))
    client.settimeout(90)
    with client:
        send_all(client) if upload else result.append(read_all(client))
    thread.join(90)
    server.close()
    took = time.monotonic() - begin
    t.say(f"{'unit to gateway' if upload else 'gateway to unit'}: {SIZE / 1e6 / took:.0f} MB/s")
    return result[0]


def tshark(pcap, what, *fields):
    command = ["tshark", "-r", str(pcap), "-d", "tcp.port==4433,tls", "-Y", what, "-T", "fields", *[x for f in fields for x in ("-e", f)]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    check(done.returncode == 0, f"tshark works: {done.stderr[-300:]}")
    return [line.split("\t") for line in done.stdout.splitlines()]


def test(t):
    for tool in ("tshark", "tcpdump"):
        if not shutil.which(tool):
            skip(f"{tool} is not installed")
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False)
    pcap = t.dir / "primary.pcap"
    # From the handshake well into the bulk: 20,000 whole frames. Cut ones tshark cannot put together again.
    dump = t.start("tcpdump", ["tcpdump", "-U", "-Z", "root", "-s", "0", "-c", "20000", "-B", "32768", "-ni", "ue0", "-w", pcap, "tcp port 4433"], net.ue)
    dump.wait_for_text("listening on")
    alice = t.agent(net.ue, gw, "alice")
    call = Call(gw, net.ue, alice.inner(), net.core, net.bob_address)
    t.defer(call.close)
    time.sleep(1)
    digest, begin = expected(), time.monotonic()
    for upload in (False, True):
        equal(transfer(t, net, gw, upload), (SIZE, digest), "size and sha256 of what came")
    end = time.monotonic()

    # The media ran beside it: all of it in the secondary.
    media = alice.status()["media"]["open"][0]
    primary = alice.status()["primary"]
    t.say(f"media beside the bulk: sent {media['sent']}, received {media['received']}; packets in the primary: {primary['tx_packets']}")
    heard = len([1 for when, _ in call.core.received if begin <= when <= end])
    sent = len([1 for when, _ in call.unit.sent if begin <= when <= end])
    t.say(f"unit's phone sent {sent} during the bulk, the core heard {heard}")
    check(abs(sent - heard) <= 3, f"the bulk costs no media: {sent} sent, {heard} heard")
    for counter in ("auth_failures", "not_protected", "phone_failures", "send_failures"):
        equal(media[counter], 0, f"the agent's {counter}")
    equal(alice.stop(), 0, "the agent's exit status")
    equal(dump.wait(10), 0, "exit status of tcpdump, which ends by itself")

    hello = tshark(pcap, "tls.handshake.type == 2", "tls.handshake.ciphersuite", "tls.handshake.extensions.supported_version")
    equal(hello, [["0x1302", "0x0304"]], "ServerHello: TLS_AES_256_GCM_SHA384 in TLS 1.3")
    offered = tshark(pcap, "tls.handshake.type == 1", "tls.handshake.ciphersuite", "tls.handshake.extensions.supported_version")
    # 0x00ff is no cipher but RFC 5746's signal, which OpenSSL always sends.
    equal([[x for x in offered[0][0].split(",") if x != "0x00ff"], offered[0][1:]], [["0x1302"], ["0x0304"]], "what ClientHello offers")
    types = tshark(pcap, "tls.record", "tls.record.opaque_type", "tls.record.content_type")
    t.say(f"frames with TLS records: {len(types)}")
    seen = {kind for row in types for cell in row for kind in cell.split(",") if kind}
    check(seen <= {"20", "22", "23"}, f"record types are handshake (hellos), change cipher spec (RFC 8446 D.4) and data: {seen}")
    clear = tshark(pcap, "tls.record.content_type == 22", "tls.handshake.type")
    equal(sorted(x for row in clear for x in row[0].split(",") if x), ["1", "2"], "handshake messages in clear")
    check(len(types) > 1000, f"the bulk is in these records: {len(types)} frames")


main(test, "RIM-05 the primary carries ordinary data, under TLS 1.3 with AES-256-GCM only")
