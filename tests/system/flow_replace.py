#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A call's flows are replaced again and again while SRTP above roll-over counter 0 passes: the core's leg takes RTCP apart and joins
it again, with a kill -9 of the data plane around every other change. Every packet authenticates, no SRTP or SRTCP index comes
twice, what was recorded is refused. Then the flows are made anew from a copy of their streams, as after a loss of the memory."""
import os
import random
import signal
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from flows import Dataplane, Peer, key_of
from harness import check, equal, main, wait_until

SUITE, RATE, CHANGES = "AEAD_AES_128_GCM", 200, 6
UNIT, CORE, APART = "access:4000", "core:5000", "core:5001"


def test(t):
    net = t.network(ue2=False)
    dp = Dataplane(t, net).start()
    random.seed(t.seed)
    t.say(f"seed {t.seed}")
    phone, phone_rtcp = f"{net.bob_address}:6000", f"{net.bob_address}:6001"
    contract = dp.contract()
    contract("hello")
    keys = contract.add_call(phone, tag=7)
    refused(t, contract, phone)

    first = 65536 - RATE // 4
    common = ["--rate", RATE, "--count", 1_000_000, "--first", first] # until told to end
    unit = Peer(t, net.ue, "unit", "--bind", f"{net.ue_address}:7000", "--to", f"{net.access}:4000", "--ssrc", 1000, "--rtcp-every", 5,
                "--record-sent", t.dir / "sent", *keys, *common)
    time.sleep(0.2)  # the unit is heard before anything is sent to it
    rtp = Peer(t, net.core, "phone", "--bind", phone, "--to", f"{net.core_address}:5000", "--ssrc", 2000, "--rtcp-every", 5, *common)
    rtcp = Peer(t, net.core, "phone-rtcp", "--bind", phone_rtcp, "--to", f"{net.core_address}:5001", "--ssrc", 2000, "--rtcp-every", 1,
                *common)
    wait_until(lambda: beyond(contract, first + 3 * RATE // 4), "both ways are beyond their first wrap", 20)
    kills = {"before": 0, "after": 0}
    for n in range(CHANGES):
        mux = flows_of(contract) == 3
        if n % 2 == 0:
            contract.all_ok("replace", flows=plan(mux, phone, phone_rtcp))
        else:
            contract = killed(dp, contract, plan(mux, phone, phone_rtcp))
            kills["after" if (flows_of(contract) == 2) == mux else "before"] += 1
        check(flows_of(contract) in (2, 3), "all of the old flows or all of the new ones")
        time.sleep(random.uniform(0.1, 0.3))
    t.say(f"{CHANGES} changes; killed before the change {kills['before']}, after it {kills['after']}")
    if flows_of(contract) == 3:
        contract.all_ok("replace", flows=plan(True, phone, phone_rtcp))
    anew = made_anew(contract, phone)
    wait_until(lambda: beyond(contract, anew + 200), "media goes on", 20)

    ends = {}
    for name, peer in (("phone-rtcp", rtcp), ("unit", unit), ("phone", rtp)):
        peer.process.signal(signal.SIGTERM)
        ends[name] = peer.result()
        time.sleep(0.3)  # what is under way
    for name, ssrc in (("unit", "2000"), ("phone", "1000")):
        end = ends[name]
        for what in ("auth_failed", "replayed", "doubled", "wrong_content", "malformed"):
            equal(end[what], 0, f"{what} at {name}")
        check(end["streams"][ssrc]["last"] >= anew + 200, f"{name} heard its stream to the end")
        check(end["received_rtcp"] > 5, f"{name} receives RTCP: {end['received_rtcp']}")
        t.say(f"{name}: {end['received']} packets, {end['received_rtcp']} RTCP, lost {end['lost']}")
    equal(ends["phone"]["streams"]["1000"]["last"], first + ends["unit"]["sent"] - 1, "last packet that the phone heard")
    check(ends["phone-rtcp"]["received_rtcp"] > 0, "RTCP went to its own port, too")
    equal(dp.drops().get("srtp_auth", 0), 0, "authentications that failed at the gateway")

    count_refused = lambda: sum(dp.drops().get(x, 0) for x in ("srtp_replay", "srtp_too_old"))
    earlier = count_refused()
    late = Peer(t, net.core, "phone-late", "--bind", phone, "--duration", 2)
    sent = Peer(t, net.ue, "attacker", "--bind", f"{net.ue_address}:7100", "--to", f"{net.access}:4000", "--replay", t.dir / "sent",
                "--rate", 5000, "--linger", 0).result()["sent"]
    check(sent >= ends["unit"]["sent"], f"recorded packets were sent again: {sent}")
    wait_until(lambda: count_refused() - earlier >= sent, "all are refused as replays", 5)
    equal(late.result()["received"], 0, "packets that reached the phone")


def flows_of(contract):
    return len(contract("list")["flows"])


def beyond(contract, index):
    """Has every stream of the call come so far?"""
    streams = contract("streams")["streams"]
    return len(streams) >= 2 and all(s["rtp"][0] > index for s in streams if s["rtp"][0])


def plan(mux, phone, phone_rtcp):
    """The call with the core's RTCP joined to RTP (mux) or apart; no remote is named where it stays."""
    unit = {"id": UNIT, "reverse": CORE, "in": SUITE, "in_mki": 4, "tag": 7, "in_from": [UNIT], "out_from": [UNIT]}
    core = {"id": CORE, "reverse": UNIT, "out": SUITE, "out_mki": 4, "source": "signalled", "signalled": phone, "tag": 7,
            "in_from": [CORE, APART] if mux else [CORE]}
    core["out_from"] = core["in_from"]
    if mux:
        return [unit, core]
    apart = {**core, "id": APART, "carries": 2, "signalled": phone_rtcp}
    return [{**unit, "rtcp_out": APART, "rtcp_remote": phone_rtcp}, {**core, "carries": 1}, apart]


def killed(dp, contract, items):
    """kill -9 at about the moment when a replacement is asked for."""
    pid = dp.pid()
    restarts = contract("hello")["restarts"]
    wait = random.uniform(0, 0.003)
    contract.send("replace", flows=items)
    time.sleep(wait)
    os.kill(pid, signal.SIGKILL)
    return wait_until(lambda: back(dp, restarts + 1), "the data plane's return", 10)


def back(dp, restarts):
    try:
        contract = dp.contract()
        return contract if contract("hello")["restarts"] >= restarts else None
    except Exception:
        return None


def refused(t, contract, phone):
    """What cannot be: each with its status, and what runs is not touched."""
    before = contract("list")
    unit = {"id": UNIT, "reverse": CORE, "in": SUITE, "in_mki": 4, "tag": 7, "in_from": [UNIT], "out_from": [UNIT]}
    for items, statuses in (([{**unit, "tag": 8}], ["not_yours"]), ([unit, {**unit, "id": "access:4100", "in_from": ["access:9"]}],
                                                                     ["group_refused", "unknown_flow"]),
                            ([unit, {**unit, "id": "access:4100", "tag": 9}], ["group_refused", "not_yours"])):
        equal(contract("replace", flows=items)["status"], statuses, f"statuses of {items}")
    one = {"id": UNIT, "side": "in", "ssrc": 5, "rtp": [70000, 1, 0]}
    equal(contract("put", streams=[one])["status"], ["bad_state"], "a stream into a side that has a key")
    contract.all_ok("add", flows=[{**unit, "id": "access:4200", "tag": 9}])
    for change, status in (({"rtp": [1 << 49, 1, 0]}, "bad_state"), ({"rtp": [70000, 2, 0]}, "bad_state"), ({"rtp": [3, 15, 0]}, "bad_state"),
                           ({"rtcp": [1 << 32, 1, 0]}, "bad_state"), ({"id": "access:9"}, "unknown_flow")):
        equal(contract("put", streams=[{**one, "id": "access:4200", **change}])["status"], [status], f"status of {change}")
    twice = [{**one, "id": "access:4200"}, {**one, "id": "access:4200"}]
    equal(contract("put", streams=twice)["status"], ["group_refused", "bad_state"], "an SSRC twice")
    equal(contract("streams")["streams"], [], "nothing of it was put")
    contract.all_ok("put", streams=twice[:1])
    equal([s["ssrc"] for s in contract("streams")["streams"]], [5], "a stream that may be put")
    contract.all_ok("remove", ids=["access:4200"])
    equal(contract("list"), before, "the running flows")


def made_anew(contract, phone):
    """The flows are gone and come back from the copy, with room for what was sent since."""
    copy = contract("streams")["streams"]
    check({s["ssrc"] for s in copy} == {1000, 2000}, f"streams of both ways: {copy}")
    check(all(s["rtp"][0] > 65536 for s in copy), "beyond their first wrap")
    contract.all_ok("remove", ids=[UNIT, CORE])
    later = lambda w: [w[0] + 128, (1 << 64) - 1, (1 << 64) - 1] if w[0] else [0, 0, 0]
    call = [{"id": UNIT, "reverse": CORE, "in": SUITE, "out": "RTP", "in_mki": 4, "rtp_remote": phone, "tag": 7},
            {"id": CORE, "reverse": UNIT, "in": "RTP", "out": SUITE, "out_mki": 4, "source": "signalled", "signalled": phone, "tag": 7}]
    contract.all_ok("add", flows=call)
    contract.all_ok("put", streams=[{**s, "rtp": later(s["rtp"]), "rtcp": later(s["rtcp"])} for s in copy])
    contract.all_ok("install", keys=[{"id": where, "side": side, "epoch": 0, "key": key, "salt": salt}
                                     for where, side, (key, salt) in ((UNIT, "in", key_of(SUITE, 1)), (CORE, "out", key_of(SUITE, 2)))])
    return max(s["rtp"][0] for s in copy)


main(test, "data plane: flows take the place of others, with their state")
