#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
# alone
"""Media lose nothing while a flood goes on beside them, as fast as its sender can: closed ports, malformed frames, TCP SYNs to the
tunnel port from one source and from many, and a stranger's packets with wrong tags on the live ports. Each flooding frame is counted at the edge by its name, and
none of them reaches a worker (the stranger's do: only a worker can tell, and it names them)."""
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
from collections import Counter

import frames
from flows import SUITES
from harness import check, equal, main, wait_until
from load import CORE_PORT, FIRST_PORT, UNIT_PORT, Load, Pinned, key_lines, link_counter, load

SUITE, STREAMS, RATE, SECONDS, TRIES = "AEAD_AES_128_GCM", 20, 2000, 2.0, 3
AHEAD = 20_000  # of the stranger's sequence numbers: the media's future, so only the tag tells


class Scene:
    def __init__(self, t):
        self.net = t.network(ue2=False)
        self.dp = Pinned(t, self.net, edge={"tunnel_tcp": [frames.HANDSHAKE_PORT]}, max_flows=64).start()
        self.contract = self.dp.add_streams(SUITE, STREAMS, self.net.bob_address, self.net.ue_address)
        self.dir, self.next = t.dir, 1
        self.to = f"{self.net.access}:{FIRST_PORT}-{FIRST_PORT + 2 * STREAMS - 1}/2"

    def media(self):
        """SRTP from the unit, RTP at the phone in the core; both ends verified."""
        net = self.net
        r = load("--from-netns", net.ue.name, "--from", f"{net.ue_address}:{UNIT_PORT}", "--receive-netns", net.core.name, "--receive",
                 f"{net.bob_address}:{CORE_PORT}", "--to", self.to, "--suite", SUITE, "--streams", STREAMS, "--rate", RATE, "--seconds",
                 SECONDS, "--first-sequence", self.next, "--linger", 1, keys=key_lines(SUITE, STREAMS, "send", "up"), cpu=0)
        self.next += r["sent"] // STREAMS + 1
        for wrong in ("bad_content", "duplicates", "foreign", "send_errors"):
            equal(r[wrong], 0, f"{wrong} of the media")
        return r

    def flood(self, made):
        file = self.dir / "flood.hex"
        file.write_text("\n".join(f.hex() for f in made) + "\n")
        return Load("--frames", file, "--interface", "ue0", "--from-netns", self.net.ue.name, "--flat-out", "--seconds", SECONDS + 1,
                    cpu=0, nice=10)

    def stranger(self):
        net, key = self.net, "5a" * sum(SUITES[SUITE])
        return Load("--from-netns", net.ue.name, "--from", f"{net.ue_address}:7777", "--to", self.to, "--suite", SUITE, "--no-receive",
                    "--rate", 5 * RATE, "--seconds", SECONDS + 1, "--streams", STREAMS, "--first-sequence", AHEAD, keys=f"send * {key}\n", cpu=0, nice=10)


def one(scene, start):
    """(media's counts, flood's counts, what the data plane counted meanwhile, what the link itself had no room for)"""
    before, link = scene.dp.account(), link_counter(scene.net.ue, "ue0", "tx_dropped")
    running = start()
    media, flood = scene.media(), running.result()
    lost = link_counter(scene.net.ue, "ue0", "tx_dropped") - link
    return media, flood, scene.dp.settled(before, media["sent"] + flood["sent"] - lost), lost


def judge(t, name, scene, start, counted):
    """counted(flood's frames) -> {reason: packets} at the edge; None: the flood is for the workers to tell."""
    for attempt in range(TRIES):
        media, flood, seen, link = one(scene, start)
        t.say(f"{name}: {flood['sent']} sent at {flood['rate_sent']:.0f}/s; media {media['sent']} sent, {media['lost']} lost; link dropped {link}")
        edge, worker, counter = seen["edge"], seen["worker"], seen["counter"]
        rings = counter.get("rx_ring_full", 0) + counter.get("rx_no_buffer", 0)
        dropped_at_edge = {n: v for n, v in edge.items() if n.startswith("edge_")}
        if counted is None:
            equal(dropped_at_edge, {}, f"{name}: drops at the edge")
            equal(worker.get("srtp_auth", 0) + rings + link, flood["sent"] + media["lost"], f"{name}: told by their tags, or lost on the way")
        else:
            passed = edge.get("handshake", 0)
            equal(sum(dropped_at_edge.values()) + passed + link, flood["sent"] + media["sent"] - edge.get("to_worker", 0),
                  f"{name}: the edge's account of all frames")
            equal(worker, {}, f"{name}: drops by workers")
            equal(counter.get("rx_packets", 0) + rings, edge.get("to_worker", 0), f"{name}: frames that the edge gave to workers")
            check(edge.get("to_worker", 0) <= media["sent"], f"{name}: workers see only media: {edge}, {media['sent']} sent")
            if link == 0:
                full = dropped_at_edge.pop("edge_handshakes_full", 0)  # the bucket of all unproven sources is empty before their own
                equal({**dropped_at_edge, **({"edge_handshake_limit": dropped_at_edge.get("edge_handshake_limit", 0) + full} if full else {})},
                      counted(flood["sent"], passed), f"{name}: by their names")
        if media["lost"] == 0:
            return
    check(False, f"{name}: media lose nothing in one of {TRIES} runs")


def by_turns(reasons):
    return lambda sent, _: dict(Counter({r: 0 for r in reasons}) + Counter(reasons[i % len(reasons)] for i in range(sent % len(reasons)))
                                + Counter({r: sent // len(reasons) * n for r, n in Counter(reasons).items()}))


def test(t):
    scene = Scene(t)
    before = scene.dp.account()
    media = scene.media()
    equal(media["lost"], 0, "media lost without a flood")
    scene.dp.settled(before, media["sent"])
    net = scene.net
    for name, made, counted in (
            ("closed ports", frames.closed_ports(net), lambda sent, _: {"edge_closed_port": sent}),
            ("malformed frames", frames.malformed(net), by_turns(frames.MALFORMED)),
            ("handshakes", frames.syn_flood(net), lambda sent, passed: {"edge_handshake_limit": sent - passed}),
            ("handshakes of many", frames.syn_flood(net, 20_000, spread=True), lambda sent, passed: {"edge_handshake_limit": sent - passed})):
        judge(t, name, scene, lambda made=made: scene.flood(made), counted)
    judge(t, "wrong tags", scene, scene.stranger, None)
    listed = {f["id"] & 0xffff: f["source"] for f in scene.contract("list")["flows"] if f["in"] == SUITE}
    equal(set(listed.values()), {f"{net.ue_address}:{UNIT_PORT}"}, "the units' addresses after the stranger's packets")
    wait_until(lambda: scene.dp.process.alive(), "the data plane runs")


main(test, "edge: a flood costs no media and no worker")
