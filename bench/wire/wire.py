# SPDX-License-Identifier: Apache-2.0
"""Loss-free rate by bisection, CPU time per packet, added latency at a rate that both carry."""

from relays import Kernel, Nothing, Rtpengine, Tandem

SUITES = ("AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80")
DIRECTIONS = ("rtp-srtp", "srtp-rtp")
KEPT = 0.97  # of the rate that was asked for; less is the sender's limit, not the relay's
LATENCY_RATE = 50_000


class Clean:
    """Trials of one relay in one direction; a wrong tag or payload is no figure but the end."""

    def __init__(self, relay, direction, seconds, tries):
        self.relay, self.direction, self.seconds, self.tries = relay, direction, seconds, tries

    def trial(self, rate, seconds=None, **more):
        r = self.relay.trial(self.direction, rate, seconds or self.seconds, **more)
        if r.get("bad_tags") or r.get("bad_content"):
            raise RuntimeError(f"{self.relay.engine} {self.relay.suite} {self.direction}: wrong packets came back: {r}")
        return r

    def carries(self, rate):
        """(whether nothing is lost, the rate that the sender reached): one clean try of several, for the machine has other work."""
        reached = 0.0
        for _ in range(self.tries):
            r = self.trial(rate)
            reached = max(reached, r["rate_sent"])
            if r["lost"] == 0 and r["rate_sent"] >= KEPT * rate:
                return True, reached
        return False, reached

    def loss_free(self, steps):
        """(rate, the sender's own flat out): the highest rate without a lost packet, within some per cent."""
        flat = self.trial(None)
        if not flat["received"]:
            raise RuntimeError(f"{self.relay.engine} {self.relay.suite} {self.direction}: nothing came back")
        if flat["lost"] == 0:
            return flat["rate_sent"], flat["rate_sent"]
        low, high = 0.0, min(flat["rate_sent"], 1.6 * flat["received"] / flat["seconds"])
        guess = 0.8 * min(high, flat["received"] / flat["seconds"])
        for _ in range(steps):
            clean, reached = self.carries(guess)
            if clean:
                low = max(low, reached)
            else:
                high = guess
            if low and high / low < 1.04:
                break
            guess = (low + high) / 2 if low else guess * 0.6
        return low, flat["rate_sent"]


def rates(bench, relay, direction, tries, steps):
    best, limit = Clean(relay, direction, 0.5 if bench.quick else 2.0, tries).loss_free(steps)
    bench.row("wire", relay.engine, relay.suite, direction, best, "pps")
    bench.row("wire", relay.engine, relay.suite, direction, best / limit, "share", note="of what the sender reached flat out")
    return best


def cpu_row(bench, relay, direction, used, r, note):
    if r["received"]:
        bench.row("wire", relay.engine, relay.suite, direction, 1e6 * used / r["received"], "us_cpu", offered=round(r["rate_sent"]), note=note)


def cpu_near_best(bench, relay, direction, best):
    """Near its limit nobody polls in vain: the plainest comparison of what a packet costs."""
    before = relay.cpu_seconds()
    r = Clean(relay, direction, 0.7 if bench.quick else 3.0, 1).trial(0.9 * best)
    cpu_row(bench, relay, direction, relay.cpu_seconds() - before, r, "near its own best rate")


def latency(bench, relay, direction, rate):
    before = relay.busy_seconds()
    r = Clean(relay, direction, 1.0 if bench.quick else 5.0, 1).trial(rate, spin=True, verify_every=1)
    used = relay.busy_seconds() - before
    for name in ("p50", "p99", "p99.9"):
        bench.row("wire", relay.engine, relay.suite, direction, r["latency_us"][name], "us", percentile=name[1:], offered=round(rate),
                  note="from the sender's stamp to the receiver")
    bench.row("wire", relay.engine, relay.suite, direction, r["lost"] / max(r["sent"], 1), "share", offered=round(rate), note="lost at the rate of the latencies")
    if relay.pids():
        cpu_row(bench, relay, direction, used, r, "at the same rate for all, polling in vain left out")


def with_relay(bench, make, suite, what):
    """One relay at a time: they take the same addresses and the same CPU."""
    relay = make(bench, suite, bench.streams, bench.payload)
    try:
        for direction in DIRECTIONS:
            what(relay, direction)
    finally:
        relay.stop()


def measure(bench):
    limits(bench)
    for suite in SUITES:
        best = {}

        def find(relay, direction, best=best):
            best[relay.engine, direction] = rates(bench, relay, direction, 2 if bench.quick else 3, 5 if bench.quick else 9)

        def at_common_rate(relay, direction, best=best):
            rate = min(LATENCY_RATE, 0.85 * min(v for (_, d), v in best.items() if d == direction))
            if rate >= 1000:
                latency(bench, relay, direction, rate)
            if best[relay.engine, direction]:
                cpu_near_best(bench, relay, direction, best[relay.engine, direction])

        for what in (find, at_common_rate):
            for make in (Tandem, Rtpengine):
                with_relay(bench, make, suite, what)
        for direction in DIRECTIONS:
            if theirs := best["rtpengine", direction]:
                bench.row("wire", "tandem", suite, direction, best["tandem", direction] / theirs, "ratio",
                          note="loss-free rate, times rtpengine's")


def limits(bench):
    sender = Nothing(bench, "-", bench.streams, bench.payload)
    r = sender.trial("rtp-srtp", seconds=0.5 if bench.quick else 2.0)
    bench.row("wire", "none", "-", "-", r["rate_sent"], "pps", note="what the sender reaches where nobody answers")
    kernel = Kernel(bench, "-", bench.streams, bench.payload)
    best, _ = Clean(kernel, "rtp-srtp", 0.5 if bench.quick else 2.0, 2).loss_free(4)
    bench.row("wire", "kernel", "-", "-", best, "pps", note="plain forwarding in clear")
    latency(bench, kernel, "rtp-srtp", min(LATENCY_RATE, 0.8 * best))
