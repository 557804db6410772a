# SPDX-License-Identifier: Apache-2.0
"""Media at 10,000 packets/s while the same link is flooded as fast as the other core can: closed ports, malformed frames, handshakes,
and a stranger's packets with bad tags on live ports. Media and flood come from the same CPU; the flood has the lower priority there,
so that what is measured is the gateway and not the sender."""

import time

from load import Load
from frames import closed_ports, malformed, syn_flood
from relays import LOAD_CPU, Tandem

SUITE, DIRECTION, RATE = "AEAD_AES_128_GCM", "srtp-rtp", 10_000
FLOOD_NICE = 10  # beside the media's sender


def flood_of(bench, relay, kind, seconds):
    """The flood, running."""
    net = bench.net
    if kind == "bad-tags":
        port = 7777
        keys = f"send * {'5a' * 28}\n"
        return Load("--from-netns", net.ue.name, "--from", f"{net.ue_address}:{port}", "--to", relay.to(DIRECTION), "--suite", SUITE,
                    "--no-receive", "--flat-out", "--seconds", seconds, "--streams", relay.streams, keys=keys, cpu=LOAD_CPU,
                    nice=bench.nice + FLOOD_NICE)
    make = {"closed-port": closed_ports, "malformed": malformed, "handshake": syn_flood}[kind]
    file = bench.test.dir / f"{kind}.hex"
    file.write_text("\n".join(f.hex() for f in make(net)) + "\n")
    return Load("--frames", file, "--interface", "ue0", "--from-netns", net.ue.name, "--flat-out", "--seconds", seconds, cpu=LOAD_CPU,
                nice=bench.nice + FLOOD_NICE)


def measure(bench):
    seconds = 1.5 if bench.quick else 5.0
    bench.dataplane = {**bench.dataplane}
    relay = Tandem(bench, SUITE, bench.streams, bench.payload)
    try:
        for kind in (None, "closed-port", "malformed", "handshake", "bad-tags"):
            before, begin = relay.busy_seconds(), time.monotonic()
            running = flood_of(bench, relay, kind, seconds + 0.3) if kind else None
            media = relay.trial(DIRECTION, RATE, seconds)
            flood = running.result() if running else {"rate_sent": 0.0}
            share = (relay.busy_seconds() - before) / (time.monotonic() - begin)
            note = f"flood: {kind or 'none'}"
            bench.row("flood", "tandem", SUITE, DIRECTION, flood["rate_sent"], "pps", note=note + ", sent")
            bench.row("flood", "tandem", SUITE, DIRECTION, media["lost"] / max(media["sent"], 1), "share", note=note + ", media lost")
            bench.row("flood", "tandem", SUITE, DIRECTION, share, "share", note=note + ", busy share of the worker")
    finally:
        relay.stop()


