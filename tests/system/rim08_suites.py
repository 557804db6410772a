#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""RIM-08, RIM-22, and the suites of RIM-07 (what each costs per packet is bench/srtp_bench's): a level for each suite, four
calls at once. Each level forces its own suite, seed length and tag, told by MEDIA_OPEN and seen in the packets' lengths; libsrtp2 (in probe_unit, which derives its keys from the seed alone) deciphers every packet
of the gateway's, and the gateway every one of libsrtp2's, over re-keys. A number that the operator lists gets AES-256 while the others
keep AES-128."""
import json
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import check, equal, main, wait_until
from ng import Client
from peer import CorePeer, sdp
from programs import program

RTP, MKI = 12 + 160, 4
LEVELS = {  # weakest first: seed and key lengths do not fall, intervals do not grow
    "narrow": ("AES_CM_128_HMAC_SHA1_32", 16, 4),
    "wide": ("AES_CM_128_HMAC_SHA1_80", 16, 10),
    "gcm": ("AEAD_AES_128_GCM", 32, 16),
    "strong": ("AEAD_AES_256_GCM", 64, 16),
}
LISTED = "+46701234567"


def number(media):
    """What units hear of a media's id."""
    return media["id"] & 0x7fffffff


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False,
                   levels={n: {"suite": s, "seed_bytes": b, "rekey_s": 2, "overlap_s": 1} for n, (s, b, _) in LEVELS.items()})
    gw.unit_add("probe")
    gw.ctl.ops("policy set", address=LISTED, level="strong")
    probe = t.start("probe", [program("probe_unit"), "--gateway", gw.server, "--keys", gw.dir, "--units", "probe"], net.ue)
    inner = probe.wait_for_text(r'"configured".*"inner":"([0-9.]+):')[1]
    capture = t.capture(net.ue, "ue0")
    peer = CorePeer(net.core)
    t.defer(peer.close)
    ng = netns.inside(net.gw.name, Client)

    def call(call_id, callee, more=""):
        offer = ng.command("offer", call_id=call_id, from_tag="a", sdp=sdp(inner, 4000), metadata=f"caller=probe;callee={callee}{more}")
        equal(offer["result"], "ok", f"offer of {call_id}")
        answer = ng.command("answer", call_id=call_id, from_tag="a", to_tag="b", sdp=sdp(net.bob_address, peer.port))
        equal(answer["result"], "ok", f"answer to {call_id}")

    for name in LEVELS:
        call(name, "bob", f";level={name}")
    call("listed", LISTED)
    call("unlisted", "+46709999999")
    wanted = {**{n: n for n in LEVELS}, "listed": "strong", "unlisted": "narrow"}
    wait_until(lambda: all(m["rekeys"] >= 2 for m in gw.ctl.media()), "two re-keys of every call", 20)
    time.sleep(0.5)
    media = {m["call_id"]: m for m in gw.ctl.media()}
    equal(sorted(media), sorted(wanted), "calls in force")
    lines = [json.loads(x) for x in probe.log().splitlines() if x.startswith("{")]
    opened = {x["media"]: x for x in lines if x["event"] == "media_open"}
    for name, level in wanted.items():
        m, (suite, seed, _) = media[name], LEVELS[level]
        leg = next(x for x in m["legs"] if x["kind"] == "unit")
        told = opened[number(m)]
        t.say(f"{name}: level {m['level']} ({m['decided_by']}), {leg['suite']}, seed {told['seed_length']} B, "
              f"{leg['received']['packets']} packets")
        equal(m["level"], level, f"level of {name}")
        equal([leg["suite"], told["suite"]], [suite, suite], f"suite of {name}, by the gateway and by MEDIA_OPEN")
        equal([m["seed_bytes"], told["seed_length"]], [seed, seed], f"seed length of {name}, by the gateway and by MEDIA_OPEN")
        equal(leg["received"]["auth_failures"], 0, f"libsrtp2's packets of {name} that the gateway refused")
        check(leg["received"]["packets"] > 100, f"libsrtp2's packets of {name} are taken: {leg['received']}")
    check("database" in media["listed"]["decided_by"], f"the listed number decides: {media['listed']['decided_by']}")

    ports = {name: int(next(x for x in media[name]["legs"] if x["kind"] == "unit")["local_rtp"].rpartition(":")[2]) for name in wanted}
    frames = [f for f in capture.stop() if f.is_udp]
    for name, level in wanted.items():
        out = [f for f in frames if f.sport == ports[name] and not 192 <= f.payload[1] <= 223]
        check(len(out) > 100, f"the gateway's SRTP of {name} is on the wire: {len(out)}")
        equal({len(f.payload) for f in out}, {RTP + MKI + LEVELS[level][2]}, f"lengths of {name}'s packets: header, payload, MKI, its tag")
        check(all(f.payload[12:172] != bytes([0xD5]) * 160 for f in out), f"{name}'s payload is not in clear")

    for name in wanted:
        ng.command("delete", call_id=name, from_tag="a")
    wait_until(lambda: probe.log().count('"media_close"') == len(wanted), "the unit heard of each end", 10)
    closed = {x["media"]: x for x in map(json.loads, (x for x in probe.log().splitlines() if '"media_close"' in x))}
    for name in wanted:
        end = closed[number(media[name])]
        equal(end["refused"], 0, f"the gateway's packets of {name} that libsrtp2 could not decipher")
        check(end["received"] > 0.9 * end["sent"], f"libsrtp2 deciphers {name}'s echo: {end['received']} of {end['sent']}")


main(test, "RIM-08 each level forces its own suite")
