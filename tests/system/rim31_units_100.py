#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""RIM-31, RIM-14: 100 units at once, each in a call, re-keyed every 2 s: every packet authenticates under its own unit's keys,
none under another's; seeds come at the level's interval."""
import json
import re
import socket
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import check, equal, main, wait_until
from ng import Client
from peer import CorePeer, sdp
from programs import program

UNITS = 100


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False, level={"rekey_s": 2, "overlap_s": 1})
    units = [f"unit{n:03}" for n in range(UNITS)]
    for unit in units:
        gw.unit_add(unit)
    probe = t.start("probe", [program("probe_unit"), "--gateway", gw.server, "--keys", gw.dir, "--units", ",".join(units)],
                    net.ue)
    probe.wait_for(lambda: probe.log().count('"configured"') == UNITS, "all sessions", 60)
    rows = [json.loads(x) for x in probe.log().splitlines() if '"configured"' in x]
    equal(len({r["tsid"] for r in rows}), UNITS, "number of TSIDs")
    equal(len({r["inner"] for r in rows}), UNITS, "number of inner addresses")
    inner = {r["unit"]: r["inner"].rpartition(":")[0] for r in rows}
    peer = CorePeer(net.core)
    t.defer(peer.close)
    ng = netns.inside(net.gw.name, Client)
    for unit in units:
        offer = ng.command("offer", call_id=unit, from_tag="a", sdp=sdp(inner[unit], 4000), metadata=f"caller={unit};callee=bob")
        equal(offer["result"], "ok", f"offer of {unit}")
        answer = ng.command("answer", call_id=unit, from_tag="a", to_tag="b", sdp=sdp(net.bob_address, peer.port))
        equal(answer["result"], "ok", f"answer to {unit}")
    t.say("100 calls are up")
    begin = len(probe.log())
    time.sleep(15)
    log = probe.log()[begin:]
    media = gw.ctl.media()
    equal(len(media), UNITS, "number of media")
    for m in media:
        leg = next(x for x in m["legs"] if x["kind"] == "unit")
        equal(leg["received"]["auth_failures"], 0, f"authentication failures of {leg['unit']}")
        check(leg["received"]["packets"] > 500, f"{leg['unit']}'s packets are accepted: {leg['received']}")
        check(m["rekeys"] >= 5, f"{leg['unit']} is re-keyed every 2 s: {m['rekeys']} times")

    # RIM-14: the interval is kept. The mean is the level's; no test fails on a single late wake-up of a shared machine.
    times = {}
    for row in (json.loads(x) for x in log.splitlines() if '"event":"seed"' in x):
        times.setdefault(row["unit"], []).append(row["at"])
    gaps = [b - a for seen in times.values() for a, b in zip(seen, seen[1:])]
    mean = sum(gaps) / len(gaps)
    t.say(f"{len(gaps)} intervals between seeds: mean {mean:.3f} s, longest {max(gaps):.3f} s, shortest {min(gaps):.3f} s")
    check(1.9 < mean < 2.1, f"the mean interval is 2 s: {mean:.3f}")

    # What one unit protected is no one else's: the same bytes to another unit's port fail its authentication.
    first, second = media[0], media[1]
    port = [int(next(x for x in m["legs"] if x["kind"] == "unit")["local_rtp"].rpartition(":")[2]) for m in (first, second)]
    taken = netns.inside(net.ue.name, lambda: sniff(port[0]))
    check(taken, "a packet of the first unit is seen on the access link")
    attacker = netns.inside(net.ue.name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    for _ in range(10):
        attacker.sendto(taken, (net.access, port[1]))

    def refused():
        received = next(x for x in gw.ctl.ops("media show", id=second["id"])["legs"] if x["kind"] == "unit")["received"]
        return received["auth_failures"] + received["replays"] + received["drops"] >= 10
    wait_until(refused, "the second unit's port refuses the first unit's packet ten times", 5)
    for unit in units:
        ng.command("delete", call_id=unit, from_tag="a")
    wait_until(lambda: not gw.ctl.media(), "all media closed", 20)
    probe.stop()
    totals = json.loads(re.findall(r'\{"event":"totals".*\}', probe.log())[-1])
    t.say(f"units sent {totals['sent']}, heard {totals['received']}, refused {totals['refused']}, seeds {totals['seeds']}")
    equal(totals["refused"], 0, "packets that a unit could not authenticate")
    check(totals["received"] > 0.9 * totals["sent"], "what the far end echoed came back")


def sniff(port, timeout=5.0):
    """UDP payload of the next packet to `port` as it leaves for the access link (AF_XDP takes it before the gateway end sees it)."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
        s.bind(("ue0", 3))
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            frame = s.recv(2048)
            if frame[12:14] == b"\x08\x00" and frame[23] == 17 and int.from_bytes(frame[36:38], "big") == port:
                return frame[42:]
    return None


main(test, "RIM-31 a hundred units at once")
