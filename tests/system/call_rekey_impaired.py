#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 420
"""RIM-13, RIM-14: five minutes at a 2 s interval over an access link with 2 % loss, reordering and duplication: 0 authentication
failures, epochs keep coming, what the link did not lose arrives. TANDEM_SECONDS shortens it for a quick look."""
import os
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from harness import check, equal, main
from media import Call

SECONDS = int(os.environ.get("TANDEM_SECONDS", "300"))


def test(t):
    # The primary is TCP and mends itself; the impairment is for what has to stand it: UDP.
    net = t.network(ue2=False, impair={"loss": 2, "duplicate": 1, "reorder": 5, "delay_ms": 10, "jitter_ms": 5, "reorder_ms": 30,
                                       "udp_only": True, "seed": t.seed})
    gw = t.gateway(net, kamailio=False, level={"rekey_s": 2, "overlap_s": 1})
    alice = t.agent(net.ue, gw, "alice")
    call = Call(gw, net.ue, alice.inner(), net.core, net.bob_address)
    t.defer(call.close)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        time.sleep(min(30, max(0.1, end - time.monotonic())))
        m = call.media()
        t.say(f"{m['seconds']:.0f} s, {m['rekeys']} re-keys, failures {m['rekey_failures']}, unit leg {call.leg()['received']}")
        equal(call.leg()["received"]["auth_failures"], 0, "authentication failures so far")
    m, received = call.media(), call.leg()["received"]
    call.unit.pause()
    call.core.pause()
    time.sleep(0.5)
    check(m["rekeys"] >= SECONDS // 2 - 3 - SECONDS // 60, f"a re-key every 2 s for {SECONDS} s: {m['rekeys']}")
    equal(m["rekey_failures"], 0, "failed re-keys")
    equal(received["auth_failures"], 0, "authentication failures at the gateway")
    drops = gw.ctl.drops()
    for reason in ("srtp_auth", "srtp_unknown_mki", "srtp_no_key", "tx_index_reused"):
        equal(drops.get(reason, 0), 0, f"drops {reason}")
    # Duplicates die at the replay window; the phones hear each packet once.
    for name, phone, other in (("core", call.core, call.unit), ("unit", call.unit, call.core)):
        numbers = [s for _, s in phone.received]
        equal(len(numbers) - len(set(numbers)), 0 if len(numbers) < 65000 else len(numbers) - len(set(numbers)), f"doubles heard in the {name}")
        share = len(numbers) / len(other.sent)
        t.say(f"{name} heard {len(numbers)} of {len(other.sent)} ({100 * share:.2f} %)")
        check(0.965 < share <= 1.0, f"the {name} hears all but the link's 2 %: {share:.4f}")
    check(drops.get("srtp_replay", 0) > 0, f"the link's duplicates were refused as replays: {drops}")


main(test, "RIM-13 five minutes of re-keying over a bad link")
