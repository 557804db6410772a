# SPDX-License-Identifier: Apache-2.0
"""What comes out when 1, 1.5 and 2 times the best rate go in. A relay that spends its time on packets that it then loses comes down;
one that drops early stays up."""

import netns
from relays import Rtpengine, Tandem

SUITE, DIRECTION = "AEAD_AES_128_GCM", "rtp-srtp"
FACTORS = (1.0, 1.5, 2.0)


def best_rate(bench, relay):
    """The most that came out in any trial while the offer was raised: not the loss-free rate, which is lower."""
    best, offered = 0.0, 50_000
    while offered < 1_000_000:
        r = offer(relay, offered, 0.5 if bench.quick else 1.5)
        carried = r["received"] / r["seconds"]
        best = max(best, carried)
        if carried < 0.85 * offered:
            break
        offered *= 1.3
    return best


def offer(relay, rate, seconds):
    """Tandem's offer is made in the kernel: a socket cannot overload it. rtpengine's interface takes no such frames, nor does it need them."""
    ask = rate
    for _ in range(3):  # a sender that shares its CPU falls behind what it was asked for
        r = relay.trial(DIRECTION, ask, seconds, xdp=relay.engine == "tandem")
        if r["rate_sent"] >= 0.95 * rate:
            break
        ask *= min(2.0, rate / r["rate_sent"])
    return r


def measure(bench):
    netns.take_redirected_frames(bench.net.core, "core0")
    for make in (Tandem, Rtpengine):
        relay = make(bench, SUITE, bench.streams, bench.payload)
        try:
            best, carried = best_rate(bench, relay), []
            for factor in FACTORS:
                tries = [offer(relay, factor * best, 0.8 if bench.quick else 3.0) for _ in range(3)]
                r = sorted(tries, key=lambda one: one["received"] / one["seconds"])[len(tries) // 2]
                carried.append((factor, r["received"] / r["seconds"], round(r["rate_sent"])))
        finally:
            relay.stop()
        highest = max(best, *(value for _, value, _ in carried))
        if not highest:
            raise RuntimeError(f"{relay.engine} carries nothing")
        for factor, value, offered in carried:
            bench.row("overload", relay.engine, SUITE, DIRECTION, value, "pps", offered=offered, note=f"asked for {factor:g} x the best rate")
            bench.row("overload", relay.engine, SUITE, DIRECTION, value / highest, "ratio", offered=offered, note="share of the best seen")
