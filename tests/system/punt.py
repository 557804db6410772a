#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
# alone
"""Packets for the control plane (PACKET_IN, PACKET_OUT): a ClientHello on a media port goes up and the answer comes from that port, also to who
was never heard of; what is refused has its status; without the flow's wish they are dropped as ever. Then a quarter of a million of them a second from one
source, and under many names: the media beside them lose nothing, each is counted under its name, no more go up than may, and somebody
else's ClientHello is still answered."""
import os
import socket
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import frames
import netns
from harness import check, equal, main, wait_until
from load import CORE_PORT, FIRST_PORT, UNIT_PORT, Load, Pinned, key_lines, link_counter

SUITE, STREAMS, RATE, SECONDS, TRIES, FLOOD = "AEAD_AES_128_GCM", 20, 1000, 3.0, 4, 280_000  # asked; what is sent is said
QUIET_PORT = FIRST_PORT + 2 * STREAMS  # of a call whose handshake goes on during the flood
PER_SOURCE, PER_FLOW = 32, 64  # a second, and as many at once (dataplane/pipeline/punt.hpp)
PUNT_STUN, PUNT_DTLS, PUNT_CONTROL, FLAGS_MASK = 2, 4, 8, 4
# The record of a ClientHello of DTLS 1.2 and as much again behind it.
HELLO = bytes([22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 99, 1]) + bytes(range(98))
REFUSALS = ("punt_source_limit", "punt_flow_limit", "punt_limit", "punt_full")


class Realtime(Pinned):
    """As in the field, where its CPUs are nobody else's: beside compilers it would lose what its ring cannot hold meanwhile."""

    cpu, realtime = 1, 5


class Scene:
    def __init__(self, t):
        self.net, self.dir = t.network(ue2=False), t.dir
        self.dp = Realtime(t, self.net, max_flows=64, idle="interrupt").start()
        self.contract = self.dp.add_streams(SUITE, STREAMS, self.net.bob_address, self.net.ue_address)
        self.dp.add_streams(SUITE, 1, self.net.bob_address, self.net.ue_address, first=QUIET_PORT)
        self.contract = self.dp.contract()
        self.contract("hello")
        self.next = 1

    def wish(self, flags):
        ports = range(FIRST_PORT, QUIET_PORT + 2, 2)
        self.contract.all_ok("update", flows=[{"id": f"access:{p}", "mask": FLAGS_MASK, "flags": flags} for p in ports])

    def socket(self, t, space, address, port):
        def make():
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.bind((address, port))
            s.setblocking(False)
            return s
        made = netns.inside(space.name, make)
        t.defer(made.close)
        return made

    def answer(self, ms=50):
        """What came up; each ClientHello is answered with its bytes backwards, but for those of the flood's made-up sources."""
        everything = self.contract("packets", ms=ms)["packets"]
        came = [p for p in everything if not p["source"].startswith("10.")]
        for at in range(0, len(came), 100):
            self.contract.all_ok("send", packets=[{"id": f"{p['id'] >> 16}:{p['id'] & 0xffff}", "to": p["source"],
                                                   "hex": p["hex"][:2] + bytes.fromhex(p["hex"])[:0:-1].hex()} for p in came[at:at + 100]])
        return everything

    def media(self):
        net = self.net
        return Load("--from-netns", net.ue.name, "--from", f"{net.ue_address}:{UNIT_PORT}", "--receive-netns", net.core.name, "--receive",
                    f"{net.bob_address}:{CORE_PORT}", "--to", f"{net.access}:{FIRST_PORT}-{FIRST_PORT + 2 * STREAMS - 1}/2", "--suite", SUITE,
                    "--streams", STREAMS, "--rate", RATE, "--seconds", SECONDS, "--first-sequence", self.next, "--linger", 1,
                    keys=key_lines(SUITE, STREAMS, "send", "up"), cpu=0, realtime=3)

    def flood(self, sources):
        """To all flows with media, by the kernel: a socket does not get to that rate everywhere."""
        net = self.net
        return Load("--xdp", "--first-byte", 22, "--sources", sources, "--streams", STREAMS, "--no-receive", "--interface", "ue0", "--to-mac",
                    ":".join(f"{b:02x}" for b in frames.mac(net.gw, "acc0")), "--from-netns", net.ue.name, "--from", f"{net.ue_address}:9000", "--to",
                    f"{net.access}:{FIRST_PORT}-{FIRST_PORT + 2 * STREAMS - 1}/2", "--rate", FLOOD, "--seconds", SECONDS + 1, cpu=0, nice=-10)


def received(s):
    try:
        return s.recvfrom(2048)
    except BlockingIOError:
        return None


def one_handshake(t, scene):
    net = scene.net
    port, unit = (net.access, FIRST_PORT), scene.socket(t, net.ue, net.ue_address, UNIT_PORT + 1)
    before = scene.dp.account()
    unit.sendto(HELLO, port)
    wait_until(lambda: scene.dp.since(before)["worker"].get("stun_unexpected") == 1, "without the flow's wish it is dropped as ever")
    equal(scene.contract("packets", ms=50)["packets"], [], "what went up without the flow's wish")
    scene.wish(PUNT_DTLS)
    before = scene.dp.account()
    unit.sendto(HELLO, port)
    came = scene.answer(5000)
    equal([(p["id"], p["kind"], p["source"], p["tag"], p["hex"]) for p in came],
          [(FIRST_PORT, "dtls", f"{net.ue_address}:{UNIT_PORT + 1}", 1, HELLO.hex())], "what went up")
    got = []
    wait_until(lambda: got.append(received(unit)) or got[-1], "the answer comes")  # the unit's neighbour entry is made for it
    equal(got[-1], (HELLO[:1] + HELLO[:0:-1], port), "the answer, and where it came from")
    unit.sendto(b"\0\1" + bytes(18), port)  # STUN, which the flow did not ask for
    wait_until(lambda: scene.dp.since(before)["worker"].get("stun_unexpected") == 1, "what it did not ask for stays")
    seen = scene.dp.since(before)
    equal((seen["counter"].get("punted"), seen["counter"].get("packets_out"), seen["worker"]), (1, 1, {"stun_unexpected": 1}), "counted")


def refusals(scene):
    net, flow = scene.net, f"access:{FIRST_PORT}"
    to = f"{net.ue_address}:{UNIT_PORT + 1}"
    ask = lambda **p: scene.contract("send", packets=[{"id": flow, "to": to, "hex": HELLO.hex(), **p}])
    for wrong, status in (({"id": "access:1"}, "unknown_flow"), ({"to": f"{net.ue_address}:0"}, "bad_port"), ({"to": "[2001:db8::1]:5"}, "bad_address"),
                          ({"hex": "80" + "00" * 20}, "bad_state"), ({"hex": "0001" + "00" * 18}, "bad_state"),
                          ({"id": f"core:{FIRST_PORT}"}, "bad_state")):
        equal(ask(**wrong).get("status"), [status], f"PACKET_OUT with {wrong}")
    for wrong in ({"length": 0}, {"length": 2000}, {"length": len(HELLO) - 9}, {"hex": "16" * 1501}):
        equal(ask(**wrong).get("error"), "bad_message", f"PACKET_OUT with {wrong}")
    equal(ask(to="203.0.113.9:7")["status"], ["not_possible"], "without a route")
    before = scene.dp.account()
    equal(ask(to=f"{net.ue_address.rsplit('.', 1)[0]}.100:7")["status"], ["ok"], "to nobody, on the link")
    wait_until(lambda: scene.dp.since(before)["counter"].get("packets_out_unsent") == 1, "after a second without a neighbour it is not sent")
    flags = scene.contract("update", flows=[{"id": flow, "mask": FLAGS_MASK, "flags": PUNT_DTLS | PUNT_CONTROL}])
    equal(flags["status"], ["bad_state"], "DTLS and control messages on one port")


def beside_flood(t, scene, name, sources, most):
    """Media's losses in one run of the flood."""
    before, link = scene.dp.account(), link_counter(scene.net.ue, "ue0", "tx_dropped")
    phone, target = scene.socket(t, scene.net.core, scene.net.bob_address, 7777), (scene.net.core_address, QUIET_PORT)
    media, flood = scene.media(), scene.flood(sources)
    answered, asked, last = 0, 0, 0.0
    while media.popen.poll() is None or flood.popen.poll() is None:
        if time.monotonic() - last > 0.2:
            last = time.monotonic()
            phone.sendto(HELLO, target)
            asked += 1
        scene.answer()
        answered += 1 if received(phone) else 0
    media, flood = media.result(), flood.result()
    while scene.answer(500):  # what still waits here
        pass
    while received(phone):
        answered += 1
    phone.close()
    scene.next += media["sent"] // STREAMS + 1
    lost = link_counter(scene.net.ue, "ue0", "tx_dropped") - link
    seen = scene.dp.settled(before, media["sent"] + flood["sent"] - lost)
    counter, worker = seen["counter"], seen["worker"]
    rings = counter.get("rx_ring_full", 0) + counter.get("rx_no_buffer", 0)
    t.say(f"{name}: {flood['sent']} sent at {flood['rate_sent']:.0f}/s; media {media['sent']} sent, {media['lost']} lost; link dropped {lost}, "
          f"rings full {rings}; {counter.get('punted', 0)} went up, {counter.get('punts_unread', 0)} of them not read, {answered} of another's {asked} answered; {worker}")
    for wrong in ("bad_content", "bad_tags", "duplicates", "foreign", "send_errors"):
        equal(media[wrong], 0, f"{name}: {wrong} of the media")
    equal(set(worker) - set(REFUSALS), set(), f"{name}: drops by workers")
    check(counter["punted"] <= most, f"{name}: no more go up than may: {counter['punted']} of at most {most}")
    check(answered > 0, f"{name}: another's ClientHello is answered")
    if rings + lost + media["lost"] == 0:
        equal(sum(worker.values()) + counter["punted"], counter["rx_packets"] - media["sent"], f"{name}: each has a name")
    return media["lost"], rings + lost


def test(t):
    os.nice(-15)  # who answers is not to wait for compilers either
    scene = Scene(t)
    one_handshake(t, scene)
    refusals(scene)
    scene.contract.all_ok("update", flows=[{"id": f"core:{QUIET_PORT}", "mask": FLAGS_MASK, "flags": PUNT_DTLS}])
    seconds = SECONDS + 3  # the flood's, a second's worth at once, and a machine that is busy
    others = 10 * seconds
    for name, sources, most in (("one source", 1, PER_SOURCE * seconds + others), ("many sources", 200_000, PER_FLOW * STREAMS * seconds + others)):
        for attempt in range(TRIES):
            lost, full = beside_flood(t, scene, name, sources, most)
            if lost == 0:
                break
            check(full > 0, f"{name}: what media lost, they lost where the machine left this data plane no time to empty its rings")
        else:
            check(False, f"{name}: media lose nothing in one of {TRIES} runs")
    listed = {f["id"] & 0xffff: f["source"] for f in scene.contract("list")["flows"] if f["in"] == SUITE and f["id"] & 0xffff < QUIET_PORT}
    equal(set(listed.values()), {f"{scene.net.ue_address}:{UNIT_PORT}"}, "the units' addresses after the strangers' packets")


main(test, "the punt: a handshake on a media port, and a flood of them that costs media nothing")
