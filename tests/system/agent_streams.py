#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""Connections that the agent forwards ([[forward]]) while wlan0 and wwan0 come and go: lost, back again, and no network at all for some
seconds. A download ends with the right sha256, an echo is never broken, half-close and reset pass, and what the gateway's
[tunnel] services does not name is refused and said. An unmodified program in a captured cgroup has its connections carried likewise
and sees its own peer all the while."""
import hashlib
import socket
import struct
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import captured
import netns
from harness import check, equal, main, wait_until
from radios import WLAN, WWAN, Radios
from services import CLOSED, DOWNLOAD, ECHO, FORBIDDEN, PIECE, REPORT, Download, Program, Service, Typist, piece, send_back, send_hash, send_pieces

PIECES = 800  # of the download, sent over some 8 seconds


def test(t):
    net = Radios(t.prefix)
    t.defer(net.delete)
    services = [f"{net.bob_address}:{port}" for port in (DOWNLOAD, ECHO, CLOSED, REPORT)]
    gw = t.gateway(net, kamailio=False, tunnel={"keepalive_ms": 1000, "services": services})
    for port, serve in ((DOWNLOAD, lambda c: send_pieces(c, PIECES)), (ECHO, send_back), (FORBIDDEN, send_back), (REPORT, send_hash)):
        t.defer(Service(net, port, serve).close)
    group = captured.Group(t)
    alice = t.agent(net.ue, gw, "alice", more={
        "capture": {"cgroup": group.name, "rule": [{"to": f"{net.bob_address}/32"}]},
        "path": [{"name": "wifi", "interface": ["wl*"], "hysteresis_s": 1}, {"name": "mobile", "interface": ["ww*"], "hysteresis_s": 1}],
        "forward": [{"listen": f"127.0.0.1:{port}", "to": f"{net.bob_address}:{port}"} for port in (DOWNLOAD, ECHO, CLOSED, FORBIDDEN, REPORT)]})
    alice.up()

    def dial(port):
        return netns.inside(net.ue.name, lambda: socket.create_connection(("127.0.0.1", port), 30))

    def streams():
        return gw.ctl.sessions()[0]["streams"]

    def ours():
        return alice.status()["streams"]

    def outer():
        return [s["outer"] for s in gw.ctl.sessions() if s["up"]]

    wait_until(lambda: ours()["session"], "the session of the forwarded connections")
    small_things(dial, ours, gw)

    program, began = Program(net, group), time.monotonic()
    download, typist = Download(dial), Typist(dial)
    wait_until(lambda: download.octets > 20 * PIECE and typist.back > 10, "both flow")
    net.gw.link("acc0", "down")
    wait_until(lambda: outer() == [WWAN], "the primary on wwan0", 10)
    wait_until(lambda: streams()["handovers"] == 1, "the streams moved, hard", 5)
    check(streams()["last_handover"].startswith("hard, "), f"hard: {streams()}")
    net.gw.link("acc0", "up")
    wait_until(lambda: outer() == [WLAN], "the primary on wlan0 again", 10)
    wait_until(lambda: streams()["handovers"] == 2, "the streams moved, softly", 5)
    check(streams()["last_handover"].startswith("soft, "), f"soft: {streams()}")
    for port in ("acc0", "acc1"):
        net.gw.link(port, "down")
    before = download.octets
    time.sleep(4)
    stood = typist.back
    net.gw.link("acc1", "up")
    wait_until(lambda: outer() == [WWAN], "the primary on wwan0 after no network at all", 15)
    wait_until(lambda: typist.back > stood + 10, "the echo goes on", 10)
    download.join(40)
    ended = time.monotonic()
    check(not download.is_alive() and download.octets > before, f"the download ends; {download.octets} of {PIECE * PIECES} octets")
    whole = hashlib.sha256(b"".join(piece(number) for number in range(PIECES)))
    equal((download.octets, download.hash.hexdigest()), (PIECE * PIECES, whole.hexdigest()), "octets and sha256 of the download")
    equal(program.end(), {"peers": [[net.bob_address, DOWNLOAD]], "octets": PIECE * PIECES, "sha256": whole.hexdigest()}, "a captured program")
    equal(alice.status()["capture"]["taken"], 1, "captured connections")
    typist.stopping = True
    typist.join(10)
    equal((typist.wrong, typist.back), ("", typist.typed), "the echo")
    state = alice.status()
    t.say(f"{download.octets} octets, longest stall {download.stall(began, ended):.2f} s; {typist.back} lines; {state['streams']}")
    equal((state["streams"]["sessions"], state["primary"]["sessions"]), (1, 1), "sessions from first to last")
    told(gw)
    wait_until(lambda: (streams()["streams"], ours()["open"]) == (0, 0), "each stream is over at both ends", 10)


def told(gw):
    """What the gateway keeps of the moves."""
    moves = gw.ctl("handover", "list", "--unit", "alice")["handovers"]
    check(len(moves) in (3, 4), f"handover list: over no network at all it tried wwan0 first, or did not: {moves}")
    place = [(m["number"], m["from"].split(":")[0], m["to"].split(":")[0], (m["streams"] or {}).get("kind")) for m in moves]
    equal(place[-2:], [(2, WWAN, WLAN, "soft"), (1, WLAN, WWAN, "hard")], "handover list: the first two")
    equal(place[0][2:], (WWAN, "hard"), "handover list: the last")
    check(moves[0]["without_ms"] > 1000 and moves[0]["ended"] and not moves[-2]["ended"], f"without a primary for a while: {moves}")
    equal(gw.ctl("handover", "show", len(moves)), moves[0], "handover show")
    equal(gw.ctl("handover", "list", "--limit", 1)["handovers"], moves[:1], "handover list, limited")
    equal(gw.ctl("handover", "list", "--unit", "bob")["handovers"], [], "handover list of another unit")
    total = gw.ctl("handover", "stats")
    equal((total["moves"], total["kept"]), (len(moves), len(moves)), "handover stats")
    equal((total["streams_soft"], total["streams_soft"] + total["streams_hard"]), (1, gw.ctl.sessions()[0]["streams"]["handovers"]), "of streams")
    check(total["longest_without_ms"] == max(m["without_ms"] for m in moves), f"the longest: {total}")
    status, _, words = gw.ctl.raw("handover", "show", 9)
    check(status != 0 and "handover 9 is not known" in words, f"one that there is not: {words}")


def small_things(dial, ours, gw):
    """Half-close; a service that does not listen; one that the gateway does not allow."""
    octets = piece(7) * 60
    connection = dial(REPORT)
    connection.sendall(octets)
    connection.shutdown(socket.SHUT_WR)
    equal(connection.makefile().read(), hashlib.sha256(octets).hexdigest(), "what came after the half-close")
    connection.close()
    for port, counter in ((CLOSED, "streams_unreachable"), (FORBIDDEN, "streams_not_allowed")):
        try:
            with dial(port) as connection:  # it may be reset before connect() has returned
                equal(connection.recv(1), b"", f"nothing but a reset from {port}")
            check(False, "a reset, no end in order")
        except ConnectionResetError:
            pass
        wait_until(lambda name=counter: gw.ctl.control_totals()[name] == 1, f"{counter} at the gateway")
    equal(ours()["not_allowed"], 1, "refused by the gateway's rules, at the agent")
    # A reset by the program reaches the service.
    connection = dial(ECHO)
    connection.sendall(b"x")
    equal(connection.recv(1), b"x", "an echo")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    wait_until(lambda: gw.ctl.sessions()[0]["streams"]["streams"] == 0, "the reset stream is over at the gateway", 5)


main(test, "forwarded connections outlive their network")
