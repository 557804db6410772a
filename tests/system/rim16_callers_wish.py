#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 90
"""RIM-16: the caller asks for a level when the call is placed, by header X-Sec-Level or by a dial prefix, through Kamailio as packaged.
It may raise, never lower; what names no level is refused, counted, and the call goes on; the callee sees neither header nor prefix.
Seven calls by SIPp from behind an agent at the same time, each with its own wish."""
import re
import shutil
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import sipp
from harness import check, equal, main, skip, wait_until

LEVELS = {"standard": {"suite": "AEAD_AES_128_GCM", "seed_bytes": 16, "rekey_s": 10, "overlap_s": 1},
          "elevated": {"suite": "AEAD_AES_128_GCM", "seed_bytes": 32, "rekey_s": 6, "overlap_s": 1},
          "high": {"suite": "AEAD_AES_256_GCM", "seed_bytes": 48, "rekey_s": 5, "overlap_s": 1}}
# name: (header, dialled, level, decided by)
CALLS = {"plain": ("", "bob", "standard", "default"),
         "header": ("X-Sec-Level: high", "bob", "high", "caller's wish"),
         "prefix": ("", "*77bob", "high", "caller's wish"),
         "both": ("X-Sec-Level: elevated", "*77bob", "high", "caller's wish"),
         "lower": ("X-Sec-Level: standard", "+46701234567", "elevated", "security database: callee"),
         "unknown": ("X-Sec-Level: utmost", "bob", "standard", "default"),
         "malformed": ("X-Sec-Level: high;level=high", "bob", "standard", "default")}


def test(t):
    for program in ("sipp", "kamailio"):
        if not shutil.which(program):
            skip(f"{program} is not installed: run tools/dev/install-deps")
    net = t.network(ue2=False)
    gw = t.gateway(net, levels=LEVELS, tables=[("[wish.prefixes]", {'"*77"': "high"})])
    alice = t.agent(net.ue, gw, "alice").inner()
    gw.ctl("policy", "set", "+4670", "elevated")
    seen = t.dir / "callee.log"
    (t.dir / "callee.xml").write_text(sipp.callee("bob"))
    t.start("callee", ["sipp", "-sf", t.dir / "callee.xml", "-i", net.bob_address, "-p", "5070", "-trace_msg", "-message_file", seen, "-nostdin"], net.core)
    time.sleep(0.5)
    calls = {}
    for i, (name, (header, dialled, _, _)) in enumerate(CALLS.items()):
        scenario = t.dir / f"{name}.xml"
        scenario.write_text(sipp.caller(f"{dialled}@{net.bob_address}:5070", "alice@example.com", 7000 + 2 * i, header, pause_ms=4000))
        calls[name] = t.start(f"caller-{name}", ["sipp", "-sf", scenario, "-i", alice, "-p", str(5080 + i), "-m", "1", "-timeout", "20",
                                                 "-cid_str", name, "-nostdin", f"{gw.inner}:5060"], net.ue)
    try:
        media = wait_until(lambda: {m["call_id"]: m for m in gw.ctl.media() if m["active"]} if
                           sum(m["active"] for m in gw.ctl.media()) == len(CALLS) else None, "all calls have media", 10)
    except BaseException:
        t.say(f"media: {[(m['call_id'], m['active']) for m in gw.ctl.media()]}")
        raise
    for name, (_, _, level, decided_by) in CALLS.items():
        m = media[name]
        equal((m["level"], m["decided_by"], m["interval_s"], m["seed_bytes"]),
              (level, decided_by, LEVELS[level]["rekey_s"], LEVELS[level]["seed_bytes"]), f"call {name}")
        equal(next(leg["suite"] for leg in m["legs"] if leg["kind"] == "unit"), LEVELS[level]["suite"], f"suite of call {name}")
        check(any(step["decided"] and step["rule"] == decided_by for step in m["why"]), f"call {name}: why says so: {m['why']}")
    control = {c["name"]: c["total"] for c in gw.ctl.ops("counters")["control"]}
    equal([control[f"policy_{k}"] for k in ("wish_honoured", "wish_unknown", "wish_below")], [3, 1, 1], "wishes honoured, unknown, below")
    for name, caller in calls.items():
        equal(caller.wait(20), 0, f"sipp's status of call {name}")
    text = seen.read_text()
    equal(len(re.findall(r"^INVITE ", text, re.M)), len(CALLS), "INVITEs at the callee")
    check("X-Sec-Level" not in text, "the header does not reach the callee")
    equal(sorted(set(re.findall(r"^INVITE sip:([^@]+)@", text, re.M))), ["+46701234567", "bob"], "who is called, without prefix")
    explained = gw.ctl("policy", "explain", "alice", "bob", "--dialled", "*77bob")
    equal((explained["level"], explained["decided_by"]), ("high", "caller's wish"), "explained before the call")


main(test, "RIM-16 the caller's wish: header and prefix")
