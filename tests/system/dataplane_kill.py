#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the data plane at random points, each while a call's sequence numbers pass 65,535: the holder starts it again, it
finds its flows, every packet after it authenticates, no (key, SSRC, index) is sent twice, nothing recorded is accepted again,
and the gap is reported. No control plane is there to help."""
import os
import random
import signal
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from flows import Dataplane, Peer
from harness import check, equal, main, wait_until

KILLS, RATE, SUITES = 6, 50, ["AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80", "AEAD_AES_256_GCM"]


def test(t):
    net = t.network(ue2=False)
    dp = Dataplane(t, net).start()
    contract = dp.contract()
    before = contract("hello")
    random.seed(t.seed)
    t.say(f"seed {t.seed}")
    # Call i passes its wrap about when kill i comes.
    times = [2 + 2.5 * i + random.uniform(-0.4, 0.4) for i in range(KILLS)]
    seconds = times[-1] + 4
    count = int(seconds * RATE)
    units, phones, keys = [], [], []
    for i, at in enumerate(times):
        phone = f"{net.bob_address}:{6000 + 2 * i}"
        keys.append(contract.add_call(phone, 4000 + 2 * i, 5000 + 2 * i, SUITES[i % len(SUITES)], seed=10 * i + 1, tag=i))
        first = 65536 - int(at * RATE)
        common = ["--rate", RATE, "--count", count, "--first", first, "--linger", 2]
        units.append(Peer(t, net.ue, f"unit{i}", "--bind", f"{net.ue_address}:{7000 + 2 * i}", "--to", f"{net.access}:{4000 + 2 * i}",
                          "--ssrc", 1000 + i, "--rtcp-every", 20, "--record-sent", t.dir / f"sent{i}", *keys[i], *common))
        phones.append(Peer(t, net.core, f"phone{i}", "--bind", phone, "--to", f"{net.core_address}:{5000 + 2 * i}",
                           "--ssrc", 2000 + i, "--rtcp-every", 20, *common))
    begin, gaps = time.monotonic(), []
    for n, at in enumerate(times):
        time.sleep(max(0, begin + at - time.monotonic()))
        pid = dp.pid()
        os.kill(pid, signal.SIGKILL)
        again = wait_until(lambda: back(dp, n + 1), f"restart {n + 1}", 10)
        equal(again["generation"], before["generation"], "generation of the flow state (no flow was lost)")
        equal(again["flows"], 2 * KILLS, "flows found again")
        check(again["last_gap_ms"] > 0, "the gap is reported")
        gaps.append(again["last_gap_ms"])
    check("go on, gap" in dp.process.log(), "the gap is in the log")
    t.say(f"gaps reported, ms: {gaps}")

    lost = 0
    for i in range(KILLS):
        for end, name in ((units[i].result(), f"unit {i}"), (phones[i].result(), f"phone {i}")):
            lost += end["lost"]
            for what in ("auth_failed", "replayed", "doubled", "wrong_content", "malformed"):
                equal(end[what], 0, f"{what} at {name}")
            check(end["received_rtcp"] > 0, f"{name} receives RTCP")
            stream = next(iter(end["streams"].values()))
            check(stream["first"] < 65536 < stream["last"], f"{name} heard its stream before and after the wrap: {stream}")
            equal(stream["last"], 65536 - int(times[i] * RATE) + count - 1, f"last packet that {name} heard")
    t.say(f"{KILLS} kills, {2 * KILLS * count} packets sent, {lost} lost in the gaps")
    # Twice the reported gap: what the ports' queues and the dead process still held goes too.
    check(lost <= 2 * KILLS * RATE * sum(2 * g + 100 for g in gaps) / 1000, f"only what fell into the gaps is lost: {lost}")

    # Recorded packets, after one more kill, from another address: none is accepted, no leg moves. Those that fell into a gap
    # are new to the gateway, but after a restart every index below the highest counts as seen.
    os.kill(dp.pid(), signal.SIGKILL)
    wait_until(lambda: back(dp, KILLS + 1), "restart", 10)
    contract = dp.contract()
    contract("hello")
    legs = {f["id"]: f["rtp_remote"] for f in contract("list")["flows"]}
    refused = lambda: sum(dp.drops().get(x, 0) for x in ("srtp_replay", "srtp_too_old"))
    earlier, sent = refused(), 0
    phone = Peer(t, net.core, "phone-late", "--bind", f"{net.bob_address}:6000", "--duration", 6)
    for i in range(KILLS):
        sent += Peer(t, net.ue, f"attacker{i}", "--bind", f"{net.ue_address}:{7100 + i}", "--to", f"{net.access}:{4000 + 2 * i}",
                     "--replay", t.dir / f"sent{i}", "--rate", 5000, "--linger", 0).result()["sent"]
    check(sent >= KILLS * count, f"recorded packets were sent again: {sent}")
    check(dp.drops().get("srtp_auth", 0) == 0, "no authentication failed")
    wait_until(lambda: refused() - earlier >= sent, "all are refused as replays", 5)
    equal(phone.result()["received"], 0, "packets that reached a phone")
    equal({f["id"]: f["rtp_remote"] for f in contract("list")["flows"]}, legs, "where the legs are")


def back(dp, restarts):
    try:
        hello = dp.contract()("hello")
        return hello if hello["restarts"] >= restarts else None
    except Exception:
        return None


main(test, "data plane: kill -9 near sequence 65,535")
