#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""One record per call with the right numbers: duration, packets each way, level and why, re-keys, cause; list, show and export as CSV and
JSON. kill -9 of the control plane while calls are up, and again while they end: each call has one record, none is doubled."""
import csv
import io
import json
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import check, equal, main, wait_until
from media import Call
from ng import Client, encode

LEVEL = {"suite": "AEAD_AES_256_GCM", "seed_bytes": 32, "rekey_s": 2, "overlap_s": 1}


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False, levels={"test": LEVEL})
    alice = t.agent(net.ue, gw, "alice").inner()

    def call(call_id, start=False):
        made = Call(gw, net.ue, alice, net.core, net.bob_address, call_id=call_id, callee="+46701234567", start=start)
        t.defer(made.close)
        return made

    def records(*more):
        return gw.ctl("record", "list", *more)["records"]

    one_call(t, gw, call, records)
    # Three calls are up when it dies.
    calls = [call(f"up{i}") for i in range(3)]
    gw.controlplane.kill()
    gw.start_controlplane()
    wait_until(lambda: sum(m["active"] for m in gw.ctl.media()) == 3, "the calls are known again", 15)
    check(not [r for r in records() if r["call_id"].startswith("up")], "a running call has no record")
    # The delete is not waited for: the end and the death meet.
    for c in calls[:2]:
        c.ng.socket.send(c.ng.cookie().encode() + b" " + encode({"command": "delete", "call-id": c.call_id, "from-tag": "a"}))
    time.sleep(0.003)
    gw.controlplane.kill()
    gw.start_controlplane()
    client = netns.inside(gw.netns.name, Client)
    for c in calls:  # the proxy sends its delete again where it had no answer
        client.command("delete", call_id=c.call_id, from_tag="a")
    wait_until(lambda: len(records()) == 4 and not gw.ctl.media(), f"four records in all: {[r['call_id'] for r in records()]}", 10)
    gw.controlplane.kill()
    gw.start_controlplane()
    equal(sorted(r["call_id"] for r in records()), ["first", "up0", "up1", "up2"], "records after another death")
    equal(len({r["id"] for r in records()}), 4, "ids are unique")
    for r in records("--party", "+46701234567", "--limit", "2"):
        check(r["seconds"] > 0 and r["level"] == "test", f"a call that lived over a death has its numbers: {r}")
    export(t, gw, records)


def one_call(t, gw, call, records):
    begin = time.time()
    made = call("first", start=True)
    wait_until(lambda: made.media()["rekeys"] >= 2, "two re-keys", 15)
    for phone in (made.unit, made.core):
        phone.pause()
    time.sleep(0.3)
    last = made.media()
    made.command("delete")
    lasted = time.time() - begin
    r = wait_until(lambda: (records("--call-id", "first") or [None])[0], "the record is there", 5)
    shown = gw.ctl("record", "show", r["id"])
    equal((shown["caller"], shown["callee"], shown["level"], shown["decided_by"], shown["cause"]),
          ("alice", "+46701234567", "test", "default", "hung up"), "who, level, why, end")
    check(abs(shown["seconds"] - lasted) < 1.5, f"duration {shown['seconds']} of about {lasted:.1f} s")
    equal(len(shown["media"]), 1, "media of the call")
    media = shown["media"][0]
    equal((media["seed_bytes"], media["interval_s"], media["rekeys"]), (32, 2, last["rekeys"]), "seed, interval, re-keys")
    for side, leg, sent in zip(media["legs"], last["legs"], (made.unit.sent, made.core.sent)):
        equal((side["kind"], side["suite"]), (leg["kind"], leg["suite"]), "leg")
        equal(side["packets"], leg["received"]["packets"], f"packets from the {side['kind']}")
        check(0 <= len(sent) - side["packets"] <= 25, f"{side['kind']}: {side['packets']} of {len(sent)} packets that the phone sent")
        equal(side["bytes"], leg["received"]["bytes"], f"bytes from the {side['kind']}")
    check(any(step["decided"] for step in shown["why"]), f"why is kept with the record: {shown['why']}")
    made.close()


def export(t, gw, records):
    out = t.dir / "records.csv"
    gw.ctl.raw("record", "export", "--csv", out)
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    equal(sorted(row["call_id"] for row in rows), ["first", "up0", "up1", "up2"], "calls in the CSV")
    first = next(row for row in rows if row["call_id"] == "first")
    equal((first["level"], first["suite"], first["seed_bytes"], first["cause"]), ("test", "AEAD_AES_256_GCM", "32", "hung up"), "a row")
    status, text, err = gw.ctl.raw("record", "export", "--json")
    equal((status, err), (0, ""), "export as JSON")
    equal({r["id"] for r in json.loads(text)}, {row["id"] for row in rows}, "JSON and CSV hold the same records")
    equal(records("--since", "2100-01-01"), [], "records of the future")
    equal(gw.ctl.raw("record", "list", "--since", "yesterday")[0], 2, "a time that is none")
    equal(gw.ctl.raw("record", "show", "0" * 32)[0], 1, "a record that is not")
    equal(gw.ctl.raw("record", "export")[0], 2, "export without a format")


main(test, "one record a call, whatever dies when")
