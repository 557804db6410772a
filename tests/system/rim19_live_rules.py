#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 90
"""RIM-18: one phone, three callees in three classes, three parameter sets. RIM-19: rows changed live (tandemctl, CSV, the sqlite3 shell's
way) count for the next call, a running one keeps its level; a broken CSV is refused whole; all is audited. RIM-20: either party's row
decides, of both the higher. RIM-21: nobody listed: the default. RIM-22: a row selects strength, too."""
import contextlib
import os
import pwd
import sqlite3
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
from harness import check, equal, main, wait_until
from media import Call

LEVELS = {"standard": {"suite": "AES_CM_128_HMAC_SHA1_80", "seed_bytes": 16, "rekey_s": 10, "overlap_s": 1},
          "elevated": {"suite": "AEAD_AES_128_GCM", "seed_bytes": 32, "rekey_s": 6, "overlap_s": 1},
          "high": {"suite": "AEAD_AES_256_GCM", "seed_bytes": 48, "rekey_s": 5, "overlap_s": 1}}


class Scene:
    def __init__(self, t):
        self.t, self.net = t, t.network(ue2=False)
        self.gw = t.gateway(self.net, kamailio=False, levels=LEVELS)
        self.ctl = self.gw.ctl
        self.alice = t.agent(self.net.ue, self.gw, "alice").inner()
        self.calls = 0

    def call(self, callee, caller="alice", keep=False):
        """The unit leg's and the level's values of a call made now."""
        self.calls += 1
        call = Call(self.gw, self.net.ue, self.alice, self.net.core, self.net.bob_address, call_id=f"c{self.calls}", caller=caller,
                    callee=callee, start=False)
        self.t.defer(call.close)
        m = call.media()
        result = (m["level"], m["decided_by"], call.leg()["suite"], m["seed_bytes"], m["interval_s"])
        if keep:
            return result, call
        call.hang_up()
        return result

    def is_level(self, callee, level, by, what, **more):
        table = LEVELS[level]
        equal(self.call(callee, **more), (level, by, table["suite"], table["seed_bytes"], table["rekey_s"]), what)


def test(t):
    s = Scene(t)
    caller, callee = "security database: caller", "security database: callee"
    s.is_level("+46701234567", "standard", "default", "RIM-21 nobody is listed")
    s.ctl("policy", "set", "+4670", "elevated", "--comment", "mobiles")
    running, call = s.call("+46701234567", keep=True)
    equal(running[:2], ("elevated", callee), "RIM-19 the next call after `policy set`")
    s.ctl("policy", "set", "+46701234567", "high")
    s.is_level("+46701234567", "high", callee, "RIM-19 RIM-22 the longest prefix decides, and the suite")
    equal(call.media()["level"], "elevated", "a running call keeps its level")
    call.hang_up()
    # RIM-18: three callees, three classes, nobody asked for anything.
    sets = [s.call(n)[2:] for n in ("+4680000", "+46709999999", "+46701234567")]
    equal(len(set(sets)), 3, f"RIM-18 parameter sets of three classes: {sets}")
    # RIM-20
    s.ctl("policy", "set", "alice", "elevated")
    s.is_level("+4680000", "elevated", caller, "RIM-20 only the caller is listed")
    s.is_level("+46701234567", "high", callee, "RIM-20 both: the higher wins")
    s.ctl("policy", "unset", "alice")
    # An id code, a domain, and who decides between two equal ones.
    s.ctl("policy", "set", "bob", "high")
    s.is_level("bob", "high", callee, "an id code")
    bad_input(t, s)
    live_file(t, s)
    explain(t, s)


def bad_input(t, s):
    before = s.ctl("policy", "list")
    csv = t.dir / "rules.csv"
    for text, where in (("address,level\n+4670,high\n+4671,hihg\n", ":3:7:"), ("address,level\n+46x,high\n", ":2:1:"),
                        ("address,level\n+4670,high\n\"+4671,high\n", ":3:1:"), ("address;level\n", ":1:")):
        csv.write_text(text)
        status, out, err = s.ctl.raw("policy", "import", csv)
        equal((status, out), (1, ""), f"import of {text!r}")
        check(f"{csv}{where}" in err, f"line and column are named ({where}): {err}")
    equal(s.ctl("policy", "list"), before, "rules after refused imports")
    for words in (["set", "+46x", "high"], ["set", "+4670", "hihg"], ["set", "+46701234567890123", "high"]):
        equal(s.ctl.raw("policy", *words)[0], 1, f"status of policy {' '.join(words)}")
    csv.write_text("address,level,keygen,path,comment\n+4671,high,,,\"one, two\"\n@example.com,elevated\n")
    equal(s.ctl("policy", "import", csv)["imported"], 2, "rows imported")
    s.is_level("+46711", "high", "security database: callee", "after an import")
    out = t.dir / "out.csv"
    s.ctl("policy", "export", out)
    lines = out.read_text().splitlines()
    equal(lines[0], "address,level,keygen,path,comment", "header of the export")
    check("+4671,high,,,\"one, two\"" in lines and len(lines) == 6, f"all rows are exported: {lines}")


def live_file(t, s):
    """Another program writes into the database's file: seen within a second, audited."""
    with contextlib.closing(sqlite3.connect(s.gw.dir / "tandem.db", timeout=10)) as db, db:
        db.execute("INSERT INTO rule(address, level) VALUES ('+4672', 'elevated')")
        db.execute("DELETE FROM rule WHERE address = 'bob'")
    wait_until(lambda: {"+4672", "bob"} & {r["address"] for r in s.ctl("policy", "list")["rules"]} == {"+4672"},
               "changes by another program are seen", 3)
    s.is_level("+46721", "elevated", "security database: callee", "a row written by another program")
    s.is_level("bob", "standard", "default", "a row removed by another program")
    log = s.ctl("policy", "log", "--limit", "1000")["changes"]
    me = pwd.getpwuid(os.getuid()).pw_name
    first = log[0]
    equal((first["address"], first["level"], first["removed"], first["who"]), ("+4670", "elevated", False, f"{me} (uid {os.getuid()}) by tandemctl"),
          "the audit's first line")
    equal([(c["address"], c["removed"], c["who"]) for c in log[-2:]], [("+4672", False, "directly"), ("bob", True, "directly")],
          "the audit of what another program did")
    equal([c["number"] for c in log], sorted(c["number"] for c in log), "numbers of the audit rise")


def explain(t, s):
    got = s.ctl("policy", "explain", "alice", "+46701234567", "--wish", "elevated")
    equal((got["level"], got["decided_by"]), ("high", "security database: callee"), "explained")
    said = {step["rule"]: step["level"] for step in got["why"]}
    equal((said["security database: callee"], said["caller's wish"]), ("high", "elevated"), "what each rule said")
    equal(sum(step["decided"] for step in got["why"]), 1, "one rule decided")
    status, out, _ = s.ctl.raw("policy", "explain", "alice", "+46701234567")
    equal(status, 0, "explain's status")
    check("security database: callee" in out and "AEAD_AES_256_GCM" in out, f"a person sees it: {out}")


main(test, "RIM-18 to RIM-22 rules of the security database, changed live")
