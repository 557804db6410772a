#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""RIM-11, RIM-12: seeds travel in the primary only: no byte of a seed or of the keys made from it is seen in clear on any link of the
gateway, from set-up through re-keys; both ends derive the same keys (the packets authenticate)."""
import json
import re
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import check, equal, main
from ng import Client
from peer import CorePeer, sdp
from programs import program


def test(t):
    net = t.network(ue2=False)
    captures = [t.capture(net.ue, "ue0"), t.capture(net.core, "core0"), t.capture(net.gw, "lo", "lo")]
    gw = t.gateway(net, kamailio=False, level={"rekey_s": 2, "overlap_s": 1})
    captures.append(t.capture(net.gw, "tandem0", "tun"))
    gw.unit_add("probe")
    reveal = t.dir / "revealed"
    probe = t.start("probe", [program("probe_unit"), "--gateway", gw.server, "--keys", gw.dir, "--units", "probe", "--reveal", reveal],
                    net.ue)
    inner = probe.wait_for_text(r'"configured".*"inner":"([0-9.]+):')[1]
    peer = CorePeer(net.core)
    t.defer(peer.close)
    ng = netns.inside(net.gw.name, Client)
    offer = ng.command("offer", call_id="x", from_tag="a", sdp=sdp(inner, 4000), metadata="caller=probe;callee=bob")
    equal(offer["result"], "ok", "offer")
    answer = ng.command("answer", call_id="x", from_tag="a", to_tag="b", sdp=sdp(net.bob_address, peer.port))
    equal(answer["result"], "ok", "answer")
    probe.wait_for_text(r'"event":"seed".*"epoch":2', 20)
    time.sleep(1)
    leg = next(x for m in gw.ctl.media() for x in m["legs"] if x["kind"] == "unit")
    check(leg["received"]["packets"] > 50 and leg["received"]["auth_failures"] == 0, f"both ends have the same keys: {leg['received']}")
    ng.command("delete", call_id="x", from_tag="a")
    time.sleep(0.5)
    frames = [f for c in captures for f in c.stop()]
    rows = [json.loads(x) for x in reveal.read_text().splitlines()]
    check({0, 1, 2} <= {r["epoch"] for r in rows}, f"seeds of epochs 0 to 2 are known: {sorted(r['epoch'] for r in rows)}")
    needles = {bytes.fromhex(r[k])[:16] for r in rows for k in ("seed", "up", "down")}
    needles |= {n.hex().encode() for n in needles}
    t.say(f"{len(needles)} needles in {len(frames)} frames of {len(captures)} interfaces")
    pattern = re.compile(b"|".join(re.escape(n) for n in needles))
    for f in frames:
        check(not pattern.search(f.data), f"no seed in clear: {f.src}:{f.sport} -> {f.dst}:{f.dport}")
    # The search can find: the phone's SDP is on the loopback in clear, as ng has it.
    check(any(b"m=audio" in f.data for f in frames), "the captures hold what is in clear")


main(test, "RIM-11 seeds travel in the primary only")
