#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
"""RIM-01, RIM-06, RIM-09, RIM-10: a call between real phones through Kamailio, judged by captures: two tunnels over one link, media
only in the secondary and all else only in the primary, the secondary lives as long as the call; a cancelled call leaves nothing."""
import hashlib
import re
import socket
import sys
import threading
import time

sys.path.insert(0, sys.path[0] + "/../lib")
sys.path.insert(0, sys.path[0] + "/../../tools/dev/demo")
import netns
import speech
from baresip import Baresip
from capture import Rtp, is_rtcp
from harness import check, equal, main, wait_until

BULK = bytes(range(256)) * 4 * 1024 * 8  # 8 MiB


def media_frames(frames, address):
    return [f for f in frames if f.is_udp and address in (f.src, f.dst) and (Rtp(f.payload) or is_rtcp(f.payload))]


def fetch_through_tunnel(t, net, gw):
    """A file from the gateway's inner address to the unit, as any program would fetch it: (bytes, sha256)."""
    server = netns.inside(net.gw.name, lambda: socket.create_server((gw.inner, 8080)))
    t.defer(server.close)

    def serve():
        peer, _ = server.accept()
        with peer:
            peer.recv(1024)
            peer.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + BULK)

    threading.Thread(target=serve, daemon=True).start()
    client = netns.inside(net.ue.name, lambda: socket.create_connection((gw.inner, 8080), 5))
    client.settimeout(60)
    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
    data = bytearray()
    while part := client.recv(65536):
        data += part
    body = bytes(data).partition(b"\r\n\r\n")[2]
    return len(body), hashlib.sha256(body).hexdigest()


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net)
    access = t.capture(net.ue, "ue0")
    alice = t.agent(net.ue, gw, "alice")
    inner = t.capture(net.ue, alice.tun, "inner")
    phones = {}
    for name, space, address, registrar in (("alice", net.ue, alice.inner(), gw.inner), ("bob", net.core, net.bob_address, gw.core)):
        wav = speech.make(t.dir / f"{name}.wav", 60, len(phones) + 1)
        phones[name] = Baresip(name, t.dir / name, space, address=address, registrar=registrar, play=wav, log_dir=t.log_dir)
        t.defer(phones[name].stop)
        phones[name].start()
    for phone in phones.values():
        phone.wait_registered(15)
    caller, callee = phones["alice"], phones["bob"]
    check(not media_frames(access.frames(), net.ue_address), "no media frame before a call (RIM-09)")
    equal(gw.ctl.media(), [], "media before a call")

    caller.dial("bob")
    caller.wait_established(20)
    time.sleep(3)
    # RIM-01: both tunnels of one unit, from one outer address.
    session = next(s for s in gw.ctl.sessions() if s["unit"] == "alice")
    m = gw.ctl.media()[0]
    leg = next(x for x in m["legs"] if x["kind"] == "unit")
    equal((session["up"], session["cipher"], leg["unit"]), (True, "TLS_AES_256_GCM_SHA384", "alice"), "primary and secondary")
    equal(leg["remote"].rpartition(":")[0], session["outer"], "outer address of both tunnels")

    # RIM-06 one way: ordinary data during the call go through the primary, not through the secondary.
    before, begin = leg["received"], time.time_ns()
    size, digest = fetch_through_tunnel(t, net, gw)
    equal((size, digest), (len(BULK), hashlib.sha256(BULK).hexdigest()), "file fetched during the call (RIM-05)")
    end = time.time_ns()
    # RTP every 20 ms and a little RTCP: the secondary carries nothing else, whatever the primary carries.
    during = [f for f in media_frames(access.frames(), net.ue_address) if begin <= f.time <= end and f.outgoing]
    seconds = (end - begin) / 1e9
    check(len(during) <= 51 * seconds + 10, f"the secondary carries media only: {len(during)} frames in {seconds:.1f} s")
    check(all(len(f.payload) <= 250 for f in during), "no frame of bulk size in the secondary")
    other = [f for f in access.frames() if f.is_udp and f not in during and not Rtp(f.payload) and not is_rtcp(f.payload)
             and begin <= f.time <= end]
    equal(len(other), 0, "UDP on the access link that is no media")
    # ... and the other way: 3 s without bulk: the primary's share is far below a voice stream's 50 packets a second.
    a = next(s for s in gw.ctl.sessions() if s["unit"] == "alice")
    time.sleep(3)
    b = next(s for s in gw.ctl.sessions() if s["unit"] == "alice")
    crossed = b["rx_packets"] + b["tx_packets"] - a["rx_packets"] - a["tx_packets"]
    t.say(f"packets through the primary in 3 s of call: {crossed}")
    check(crossed < 30, f"no RTP in the primary: {crossed} packets in 3 s, a stream has 150")

    # RIM-10: BYE.
    caller.hang_up()
    bye = time.monotonic()
    wait_until(lambda: gw.ctl.ops("status")["dataplane"]["flows"] == 0, "flows are gone within 1 s of BYE", 1.0, 0.02)
    t.say(f"flows gone {1000 * (time.monotonic() - bye):.0f} ms after hang-up")
    callee.wait_closed(5)

    # RIM-09: the secondary came with the call, by the clock of the capture at the unit.
    inside, outside = inner.frames(), media_frames(access.frames(), net.ue_address)
    invite = next(f.time for f in inside if f.is_udp and f.payload.startswith(b"INVITE"))
    answered = next(f.time for f in inside if f.is_udp and f.payload.startswith(b"SIP/2.0 200") and b"INVITE" in f.payload
                    and re.search(rb"CSeq: *\d+ INVITE", f.payload))
    first = min(f.time for f in outside)
    t.say(f"first secondary frame {(first - invite) / 1e6:.0f} ms after INVITE, {(first - answered) / 1e6:+.0f} ms from the 200")
    check(invite < first < answered + 100_000_000, "the secondary is made between INVITE and 100 ms after the 200")
    tls = [f.time for f in access.frames() if f.is_tcp and f.payload]
    both = [f.time for f in outside]
    check(any(both[0] < x < both[-1] for x in tls), "both tunnels are seen interleaved on the link (RIM-01)")

    # RIM-10: CANCEL before the answer.
    for phone in phones.values():
        phone.clear_events()
    callee.stop()
    manual = Baresip("bob", t.dir / "bob2", net.core, address=net.bob_address, registrar=gw.core, answer=False, record=False,
                     log_dir=t.log_dir)
    t.defer(manual.stop)
    manual.start()
    manual.wait_registered(15)
    caller.dial("bob")
    manual.wait_event("CALL_INCOMING", 10)
    caller.hang_up()
    manual.wait_closed(10)
    wait_until(lambda: not gw.ctl.media() and gw.ctl.ops("status")["dataplane"]["flows"] == 0, "a cancelled call leaves nothing", 5)


main(test, "RIM-01 two tunnels over one link, each with its own traffic, for as long as the call")
