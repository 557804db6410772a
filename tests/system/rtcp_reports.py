#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What both ends report by RTCP of what they hear (receiver reports, RFC 3550 6.4.2): read in the data plane, the unit's after it was
decrypted, and shown with the leg of whoever reports, in `media show` and in the call's record; in clear or encrypted, never what a
stranger sends."""
import socket
import struct
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import check, equal, main, wait_until
from media import Call


def report(ssrc, about, fraction, lost, jitter):
    """A receiver report with one block and the SDES chunk that belongs to it."""
    block = struct.pack("!IIIIII", about, fraction << 24 | (lost & 0xffffff), 4711, jitter, 0, 0)
    name = b"\x01\x04test\x00\x00"
    return struct.pack("!BBHI", 0x81, 201, 7, ssrc) + block + struct.pack("!BBHI", 0x81, 202, 3, ssrc) + name


def rtcp_socket(space, phone):
    s = netns.inside(space.name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    s.bind((phone.address, phone.port + 1))
    return s


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False)
    alice = t.agent(net.ue, gw, "alice")
    call = Call(gw, net.ue, alice.inner(), net.core, net.bob_address, call_id="reports")
    wait_until(lambda: call.core.received and call.unit.received, "media flow both ways")
    sockets = [rtcp_socket(net.ue, call.unit), rtcp_socket(net.core, call.core)]
    towards = [(a, p + 1) for a, p in (call.towards_unit, call.towards_core)]
    for jitter, lost in ((400, 3), (160, 5)):  # 50 ms, then 20 ms, at 8,000 Hz
        sockets[0].sendto(report(1, 2, 10, lost, jitter), towards[0])
        sockets[1].sendto(report(2, 1, 10, lost + 100, 2 * jitter), towards[1])
        time.sleep(0.3)
    net.core.address("core0", "198.51.100.66/32")
    stranger = netns.inside(net.core.name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    stranger.bind(("198.51.100.66", 0))  # another port of the phone's own address would be the phone
    stranger.sendto(report(3, 1, 255, 9999, 80000), towards[1])

    expected = {"unit": (2, 5, 20.0, 50.0), "core": (2, 105, 40.0, 100.0)}

    def seen(legs):
        return {leg["kind"]: tuple(leg.get("received", leg)[name] for name in ("reports", "reported_lost", "jitter_ms", "max_jitter_ms"))
                for leg in legs}

    end = time.monotonic() + 5
    while seen(call.media()["legs"]) != expected and time.monotonic() < end:
        time.sleep(0.1)
    equal(seen(call.media()["legs"]), expected, "what each leg reports")
    check(call.unit.rtcp + call.core.rtcp == 0, "RTCP goes to the RTCP port")
    time.sleep(0.3)
    equal(seen(call.media()["legs"]), expected, "after a stranger's report")
    call.hang_up()
    wait_until(lambda: gw.ctl.ops("record list")["records"], "the call's record", 5)
    record = gw.ctl.ops("record list")["records"][0]
    equal(seen(record["media"][0]["legs"]), expected, "reports in the record")
    for s in (*sockets, stranger):
        s.close()
    call.close()


main(test, "what both ends report by RTCP")
