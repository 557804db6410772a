#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The contract's statuses on the real socket: HELLO first, takeover, malformed messages, items that are refused, paging, events."""
import re
import struct
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from flows import Dataplane, Peer, key_of
from harness import check, equal, main
from programs import ROOT


VERSION = int(re.search(r"contract_version = (\d+);", (ROOT / "dataplane/api/contract.hpp").read_text())[1])


def header(kind, count=0, magic=0x544e444d, version=VERSION, sequence=9):
    return struct.pack("<IHHIHH", magic, version, kind, sequence, count, 0).hex()


def silent_ones_keep_nobody_out(dp, controller):
    """More connections than there may be: who controls goes on, and the next one gets in."""
    dp.silent(40)
    equal(controller("hello")["flows"], 0, "flows, to who controls beside them")
    equal(dp.contract()("list")["error"], "not_controlling", "answer to one more, who says no HELLO")
    check("makes room" in dp.process.log(), "the log says who made room")


def test(t):
    net = t.network(ue2=False)
    dp = Dataplane(t, net, max_flows=600).start()
    a = dp.contract()
    equal(a("list")["error"], "not_controlling", "answer before HELLO")
    equal(a("hello", version=1)["error"], "bad_version", "answer to another contract version")
    equal(a("hello")["max_flows"], 600, "max_flows")

    for raw, status in ((header(4)[:20], "bad_message"), (header(4, version=VERSION + 1), "bad_version"), (header(77), "bad_message"),
                        (header(2, count=1), "bad_message"), (header(2, count=1) + "00" * 10, "bad_message"),
                        (header(6, count=3) + "00" * 4, "bad_message"), (header(8, count=1), "bad_message"),
                        (header(0, count=2) + "00" * 16, "bad_message")):
        equal(a("raw", hex=raw).get("error"), status, f"answer to {raw[:48]}")
    equal(a("hello")["flows"], 0, "flows after that")
    b = dp.contract()
    equal(b("raw", hex=header(0, magic=1)).get("error"), "bad_message", "answer to a wrong magic")
    b = dp.contract()
    b("hello")  # takes over
    try:
        a("list")
        check(False, "the earlier connection is closed")
    except Exception as e:
        check("closed" in str(e) or "Broken pipe" in str(e), f"the earlier connection is closed: {e}")

    silent_ones_keep_nobody_out(dp, b)

    flow = {"id": "access:4000", "reverse": "core:5000", "in": "AEAD_AES_128_GCM", "out": "RTP", "in_mki": 4, "rtp_remote": "198.51.100.10:6000"}
    many = [{**flow, "id": f"access:{20000 + 2 * n}"} for n in range(300)]
    equal(set(b("add", flows=many)["status"]), {"ok"}, "status of 300 flows")
    equal([f["id"] for f in b("list")["flows"]], [20000 + 2 * n for n in range(300)], "ids over two pages")
    key, salt = key_of("AEAD_AES_128_GCM", 1)
    install = lambda **c: b("install", keys=[{"id": "access:20000", "side": "in", "epoch": 0, "key": key, "salt": salt, **c}])["status"][0]
    equal(install(), "ok", "a key")
    equal(install(), "ok", "the same key again")
    equal(install(salt="00" * 12), "bad_epoch", "another key for the epoch")
    equal(install(key="00"), "bad_key_length", "a short key")
    equal(install(epoch=1), "ok", "epoch 1")
    equal(install(epoch=2), "ok", "epoch 2")
    equal(install(epoch=3), "too_many_epochs", "a fourth epoch")
    equal(install(id="access:1"), "unknown_flow", "a key for no flow")
    equal(b("retire", refs=[{"id": "access:20000", "side": "in", "epoch": 0}])["status"], ["ok"], "retire")
    equal(install(epoch=3), "ok", "epoch 3 after that")
    equal(b("switch", refs=[{"id": "access:20000", "side": "out", "epoch": 5}])["status"], ["bad_epoch"], "switch to no epoch")
    equal(b("add", flows=[many[0], {**flow, "rtp_remote": "[2001:db8::1]:5"}])["status"], ["flow_exists", "bad_address"], "wrong flows")
    equal(set(b("remove", ids=[f["id"] for f in many])["status"]), {"ok"}, "removal")
    equal(b("hello")["flows"], 0, "flows after the removal")

    # Events: a flow speaks, latches, uses its epoch, falls silent, speaks again.
    b.add_call("198.51.100.10:6000", tag=77)
    b.all_ok("update", flows=[{"id": "access:4000", "mask": 8, "timeout": 1}])
    up = key_of("AEAD_AES_128_GCM", 1)
    speak = lambda n, first: Peer(t, net.ue, f"unit{n}", "--bind", f"{net.ue_address}:7000", "--to", f"{net.access}:4000", "--suite",
                                  "AEAD_AES_128_GCM", "--mki", 4, "--send-key", "0:" + "".join(up), "--count", 10, "--first", first,
                                  "--linger", 0).result()
    speak(1, 1)
    time.sleep(1.6)
    speak(2, 100)
    time.sleep(0.5)
    seen = []
    while batch := b("events", ms=200)["events"]:
        seen += [(e["event"], e["tag"]) for e in batch]
    equal(sorted(e for e, _ in seen), sorted(["flow_latched", "epoch_first_use", "flow_active", "flow_timeout", "flow_active"]), "events")
    equal({tag for _, tag in seen}, {77}, "their tags")
    equal(b("list")["flows"][0]["source"], f"{net.ue_address}:7000", "source in the list")


main(test, "data plane: the contract's statuses and events")
