#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
# alone
"""Offered twice what it can carry, the data plane carries at least 0.9 of its best rate, and every packet is accounted for: link,
edge, ring, worker, receiver. Rates are relative to a capacity measured in the same round; the machine may have other work, so one
round of several is enough (what collapses does so in each)."""
import os
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import check, equal, main, skip
from load import CORE_PORT, FIRST_PORT, UNIT_PORT, LoadError, Pinned, key_lines, link_counter, load

SUITE, STREAMS, ROUNDS, SHARE = "AEAD_AES_128_GCM", 50, 6, 0.9


class Scene:
    def __init__(self, t):
        self.t, self.net = t, t.network(ue2=False)
        netns.take_redirected_frames(self.net.core, "core0")
        self.dp = Pinned(t, self.net, max_flows=128)
        self.dp.cpu = 1
        self.dp.start()
        self.contract = self.dp.add_streams(SUITE, STREAMS, self.net.bob_address, self.net.ue_address)
        self.next = 1

    def links(self):
        net = self.net
        return [link_counter(*which) for which in ((net.core, "core0", "tx_dropped"), (net.gw, "acc0", "tx_dropped"), (net.ue, "ue0", "rx_dropped"))]

    def offer(self, rate, seconds=0.8):
        """Packets a second: (offered, carried). rate None: as fast as the kernel makes them."""
        net, before, links = self.net, self.dp.account(), self.links()
        pace = ["--rate", int(rate)] if rate else ["--flat-out"]
        try:
            r = load("--from-netns", net.core.name, "--from", f"{net.bob_address}:{CORE_PORT}", "--interface", "core0", "--to-mac",
                     self.mac(), "--receive-netns", net.ue.name, "--receive", f"{net.ue_address}:{UNIT_PORT}", "--receive-suite", SUITE, "--to",
                     f"{net.core_address}:{FIRST_PORT}-{FIRST_PORT + 2 * STREAMS - 1}/2", "--streams", STREAMS, "--xdp", *pace, "--seconds",
                     seconds, "--first-sequence", self.next, "--verify-every", 16, "--linger", 0.5,
                     keys=key_lines(SUITE, STREAMS, "receive", "down"), cpu=0)
        except LoadError as e:
            if "--xdp" in str(e):
                skip(str(e))
            raise
        self.next += r["sent"] // STREAMS + 1
        self.account(r, before, [after - b for after, b in zip(self.links(), links)])
        return r["sent"] / r["seconds"], r["received"] / r["seconds"]

    def account(self, r, before, links):
        for wrong in ("bad_tags", "bad_content", "duplicates", "foreign", "reordered"):
            equal(r[wrong], 0, wrong)
        to_gateway, to_unit, at_unit = links
        seen = self.dp.settled(before, r["sent"] - to_gateway)
        edge, counter, worker = seen["edge"], seen["counter"], seen["worker"]
        rings = counter.get("rx_ring_full", 0) + counter.get("rx_no_buffer", 0)
        equal(edge.get("to_worker", 0) + to_gateway, r["sent"], f"sent, by the edge's account ({edge})")
        equal(counter.get("rx_packets", 0) + rings, edge["to_worker"], f"given to workers, by theirs and their rings' ({counter})")
        equal(counter.get("tx_packets", 0) + sum(worker.values()), counter["rx_packets"], f"taken by workers ({worker})")
        equal(r["received"] + r["socket_drops"] + to_unit + at_unit + counter.get("tx_invalid", 0), counter["tx_packets"], "sent by workers")

    def mac(self):
        from frames import mac
        return mac(self.net.gw, "core0").hex(":")


def test(t):
    if len(os.sched_getaffinity(0)) < 2:
        skip("needs two CPUs")
    scene = Scene(t)
    offered, carried = scene.offer(2000)
    equal(carried, offered, "carried of a small rate")
    capacity = scene.offer(None)[1]
    hurry = 1.0
    for number in range(ROUNDS):
        best = max(scene.offer(factor * capacity)[1] for factor in (0.9, 1.2))
        offered, carried = scene.offer(2 * best * hurry)
        hurry = min(4.0, max(1.0, hurry * 2 * best / offered))  # a sender that shares its CPU must be asked for more
        t.say(f"round {number}: best {best:.0f}/s; offered {offered:.0f}/s, carried {carried:.0f}/s: {carried / best:.2f}")
        capacity = max(best, carried)
        if carried >= SHARE * best and offered >= 1.7 * best:
            return
    check(False, f"in one of {ROUNDS} rounds, {SHARE} of the best rate comes out when twice as much goes in")


main(test, "overload: twice the capacity offered, the best rate carried, every packet accounted for")
