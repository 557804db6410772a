#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""RIM-35: the media's way is the secondary and nothing else: under a download through the primary no media packet is lost, none is in the
primary, no bulk in the secondary. How long each way takes is measured and said, not judged (bench/latency has the figures)."""
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from capture import Rtp, is_rtcp
from harness import check, equal, main, wait_until
from latency import DOWN, UP, Ways, percentile

SIZE = 6 << 20


def say(t, what, measured):
    for (way, direction), (sent, took) in measured.items():
        t.say(f"{what}: {way} {direction}: p50 {percentile(took, 50):.0f} us, p99 {percentile(took, 99):.0f} us, {len(took)} of {sent}")


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False, tunnel={"inner_from": ["core0"]})  # the core's end sends into the inner network, too
    alice = t.agent(net.ue, gw, "alice")
    ways = Ways(t, net, gw, alice)
    t.defer(ways.close)
    wait_until(lambda: gw.ctl.media() and gw.ctl.media()[0]["active"], "media of the call")
    ways.measure(0.5)  # both latch

    # Media alone beside a download, seen on the access link and behind the primary (the gateway's TUN).
    access, behind = t.capture(net.ue, "ue0"), t.capture(net.gw, "tandem0", "behind-primary")
    begin = ways.sequence
    client = ways.download(SIZE)
    measured = ways.measure(3, ways=("secondary",))
    client.wait_for_text(f"fetched {SIZE}", timeout=60)
    time.sleep(0.3)
    access.stop()
    behind.stop()
    for (_, direction), (sent, took) in measured.items():
        equal(len(took), sent, f"media packets that arrived under a download, {direction}")
    bulk = [f for f in behind.frames() if not f.is_udp]
    check(sum(len(f.data) for f in bulk) > SIZE, "the download is seen behind the primary")
    in_primary = [f for f in behind.frames() if f.is_udp and (Rtp(f.payload) or is_rtcp(f.payload))]
    equal(len(in_primary), 0, "media packets in the primary")
    secondary = [f for f in access.frames() if f.is_udp and net.access in (f.src, f.dst)]
    check(all(len(f.payload) <= 250 for f in secondary), "no frame of bulk size in the secondary")
    rtp = [f for f in secondary if not is_rtcp(f.payload)]
    equal(len(rtp), 2 * (ways.sequence - begin), "RTP frames in the secondary: those that were sent, and no more")

    equal((access.lost, behind.lost), (0, 0), "frames that the captures missed")
    control = t.capture(net.gw, "tandem0", "control")  # media behind the primary would be seen: what is sent there on purpose is
    ways.measure(0.2, ways=("primary",))
    control.stop()
    check(sum(1 for f in control.frames() if f.is_udp and Rtp(f.payload)) >= 10, "RTP that is sent through the primary is seen there")

    # How long both take: said.
    quiet = ways.measure(3)
    client = ways.download(1 << 30)
    loaded = ways.measure(3)
    client.stop(5)
    say(t, "quiet", quiet)
    say(t, "download", loaded)
    for direction in (UP, DOWN):
        ratio = percentile(quiet["primary", direction][1], 50) / percentile(quiet["secondary", direction][1], 50)
        t.say(f"{direction}: the primary takes {ratio:.1f} times as long as the secondary (p50, no download)")
        for what, seen in (("quiet", quiet), ("download", loaded)):
            sent, took = seen["secondary", direction]
            equal(len(took), sent, f"media packets that arrived, {direction}, {what}")


main(test, "rim35_media_latency")
