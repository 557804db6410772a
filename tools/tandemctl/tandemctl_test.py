#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tandemctl against a control plane of our own making: every verb, every exit status, and that no key is shown."""

import hashlib
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import unittest

TOOL = sys.argv.pop(1)
LEG = {"kind": "unit", "unit": "alice", "local_rtp": "192.0.2.1:20000", "local_rtcp": "192.0.2.1:20000", "remote": None,
       "suite": "AEAD_AES_128_GCM", "epoch": 3,
       "received": {"packets": 10, "bytes": 1000, "lost": 0, "auth_failures": 0, "replays": 0, "drops": 0, "sent_on": 10,
                    "seconds_since_packet": 0.02}}
MEDIA = {"id": 7, "call_id": "c1", "index": 0, "kind": "audio", "caller": "alice", "callee": "bob", "level": "standard",
         "mode": "hop", "active": True, "seconds": 12.5, "interval_s": 5, "rekeys": 2, "rekey_failures": 0, "legs": [LEG, LEG]}
SESSION = {"tsid": "00112233445566aa", "unit": "alice", "up": True, "inner": ["10.64.0.2"], "inner_gateway": "10.64.0.1",
           "inner_gateway_v6": None, "outer": "192.0.2.10", "outer_port": 40000, "transport": "tls",
           "cipher": "TLS_AES_256_GCM_SHA384", "lifetime_s": 86400, "since": "2024-01-01T00:00:00Z", "age_s": 3, "rx_bytes": 1,
           "tx_bytes": 2, "rx_packets": 1, "tx_packets": 1, "reconnects": 0}
UNIT = {"id": "alice", "comment": "", "created": "2024-01-01T00:00:00Z", "has_psk": True, "session": SESSION}
LEVEL = {"name": "high", "suite": "AEAD_AES_256_GCM", "tag_bits": 128, "seed_bytes": 32, "rekey_s": 5.0, "overlap_s": 2.0,
         "seed_is_key": False, "keygen": "both", "path": "wlan", "default": False}
LEVELS = {"levels": [LEVEL], "default": "standard", "floor": None, "ceiling": None, "prefixes": [{"prefix": "*77", "level": "high"}],
          "file": "/etc/tandem/levels.toml"}
RULE = {"address": "+4670", "level": "high", "keygen": None, "path": "wlan", "comment": "mobiles"}
CHANGE = {**RULE, "number": 12, "when": "2026-11-21T18:00:00.000Z", "who": "root (uid 0) by tandemctl", "removed": False}
WHY = [{"rule": "security database: callee", "level": "elevated", "text": "+4670", "decided": False},
       {"rule": "caller's wish", "level": "high", "text": "asked for by the dialled prefix *77", "decided": True}]
RECORD = {"id": "0123456789abcdef0123456789abcdef", "instance": "gw-1", "call_id": "c1", "caller": "alice", "callee": "+4670",
          "started": 1795284300000, "answered": 1795284302000, "ended": 1795284307250, "duration_ms": 5250, "seconds": 5.25,
          "level": "high", "decided_by": "caller's wish", "cause": "hung up", "why": WHY,
          "media": [{"kind": "audio", "seed_bytes": 32, "interval_s": 5, "key_source": "gateway", "rekeys": 1, "cause": "deleted",
                     "legs": [{"kind": "unit", "unit": "alice", "suite": "AEAD_AES_256_GCM", "packets": 262, "bytes": 45064, "lost": 0,
                               "auth_failures": 0, "reports": 1, "reported_lost": 0, "jitter_ms": 1.5, "max_jitter_ms": 2.5}]}]}
HANDOVER = {"number": 3, "time": "2026-11-21T18:00:00.000Z", "unit": "alice", "tsid": SESSION["tsid"], "from": "192.0.2.10:7", "to": "192.0.2.130:7",
            "ended": "silent for 3 s", "without_ms": 4, "streams": {"kind": "hard", "took_ms": 12, "sent_again_bytes": 8}}
ANSWERS = {
    "version": {"version": "0.1.0", "ops_protocol": 1, "contract_version": 5},
    "status": {"version": "0.1.0", "instance": "nosuch", "pid": 1, "uptime_s": 70, "dataplane": {"connected": True},
               "sessions": {"total": 1, "up": 1}, "levels": []},
    "unit add": UNIT, "unit list": {"units": [UNIT]}, "unit show": UNIT, "unit remove": {"id": "alice", "session_dropped": True},
    "unit name list": {"id": "alice", "names": ["+46701", "+46702"]}, "unit name add": {"id": "alice", "name": "+46701"},
    "unit name remove": {"id": "alice", "name": "+46701"},
    "handover list": {"handovers": [HANDOVER]}, "handover show": HANDOVER,
    "handover stats": {"moves": 3, "after_loss": 1, "longest_without_ms": 4, "streams_soft": 1, "streams_hard": 2, "longest_streams_ms": 12,
                       "sent_again_bytes": 8, "kept": 3},
    "session list": {"sessions": [SESSION]}, "session show": SESSION, "session drop": {"tsid": SESSION["tsid"], "unit": "alice"},
    "media list": {"media": [MEDIA]}, "media show": MEDIA, "media rekey": {"id": 7, "epochs": [4, None]},
    "call list": {"calls": [{"call_id": "c1", "caller": "alice", "callee": "bob", "level": "standard", "decided_by": "default",
                             "active": True, "seconds": 3, "media": [7]}]},
    "level list": LEVELS, "level reload": LEVELS, "level check": LEVELS, "level set": LEVELS,
    "policy list": {"rules": [RULE], "total": 7}, "policy show": RULE, "policy set": RULE, "policy unset": {"address": "+4670", "removed": True},
    "policy import": {"imported": 2, "total": 7},
    "policy explain": {"level": "high", "decided_by": "caller's wish", "values": LEVEL, "why": WHY},
    "policy log": {"changes": [CHANGE]}, "policy forget": {"forgotten": 3},
    "policy profile": {"a": "alice", "b": "bob", "calls": 5, "failures": 1, "mean_s": 880.5, "median_s": 900, "last_s": 860, "total": 9,
                       "last_calls": [{"ended": "2026-11-21T18:00:00.000Z", "duration_s": 860, "failed": False}]},
    "policy export": {"header": "address,level,keygen,path,comment\n", "csv": "+4670,high,,wlan,mobiles\n", "rows": 1, "next": None},
    "record list": {"records": [RECORD], "waiting": 4}, "record show": RECORD,
    "record export": {"records": [RECORD], "waiting": 0},
    "alarm list": {"alarms": [{"name": "store", "since": "2026-11-21T18:00:00.000Z", "text": "the store is away"}]},
    "port": {"ports": [{"name": "acc0", "ifindex": 2, "mtu": 1500, "mac": "02:00:00:00:00:01", "xdp_mode": "driver", "queues": 1}]},
}


class FakeControlPlane(threading.Thread):
    """Answers from ANSWERS; keeps what it was asked."""

    def __init__(self, directory):
        super().__init__(daemon=True)
        self.seen, self.override = [], None
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(os.path.join(directory, "controlplane.sock"))
        self.socket.listen()
        self.start()

    def close(self):
        # The thread leaves accept() before the descriptor's number can be another socket's.
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.join()
        self.socket.close()

    def run(self):
        while True:
            try:
                peer, _ = self.socket.accept()
            except OSError:
                return
            with peer, peer.makefile("rwb") as f:
                line = f.readline()
                if not line:
                    continue
                request = json.loads(line)
                self.seen.append(request)
                answer = self.override() if callable(self.override) else self.override
                if answer is None:
                    answer = {"ok": True, "result": ANSWERS[request["verb"]]}
                f.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode() + b"\n")


class Tandemctl(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.dir = self.directory.name
        self.gateway = FakeControlPlane(self.dir)

    def tearDown(self):
        self.gateway.close()
        self.directory.cleanup()

    def ctl(self, *arguments, run_dir=None):
        done = subprocess.run([TOOL, "--run-dir", run_dir or self.dir, *arguments], capture_output=True, text=True, timeout=30,
                              check=False)
        return done.returncode, done.stdout, done.stderr

    def test_every_verb_asks_and_shows(self):
        cases = [(["status"], "status", {}, "70"), (["unit", "list"], "unit list", {}, "alice"),
                 (["unit", "show", "alice"], "unit show", {"id": "alice"}, "192.0.2.10"),
                 (["unit", "remove", "alice"], "unit remove", {"id": "alice"}, "session ended"),
                 (["unit", "name", "list", "alice"], "unit name list", {"id": "alice"}, "+46702"),
                 (["unit", "name", "add", "alice", "+46701"], "unit name add", {"id": "alice", "name": "+46701"}, "of unit alice"),
                 (["unit", "name", "remove", "alice", "+46701"], "unit name remove", {"id": "alice", "name": "+46701"}, "no longer"),
                 (["session", "list"], "session list", {}, "TLS_AES_256_GCM_SHA384"),
                 (["session", "show", "alice"], "session show", {"unit": "alice"}, "10.64.0.1"),
                 (["session", "show", "00112233445566aa"], "session show", {"tsid": "00112233445566aa"}, "alice"),
                 (["session", "drop", "alice", "--reason", "test"], "session drop", {"unit": "alice", "reason": "test"}, "ended"),
                 (["handover", "list", "--unit", "alice", "--limit", "5"], "handover list", {"unit": "alice", "limit": 5}, "192.0.2.130:7"),
                 (["handover", "show", "3"], "handover show", {"number": 3}, "silent"), (["handover", "stats"], "handover stats", {}, "after a loss"),
                 (["media", "list"], "media list", {}, "AEAD_AES_128_GCM"),
                 (["media", "list", "--call-id", "c1"], "media list", {"call_id": "c1"}, "bob"),
                 (["media", "show", "7"], "media show", {"id": 7}, "192.0.2.1:20000"),
                 (["media", "rekey", "7"], "media rekey", {"id": 7}, "epochs 4 -"), (["port"], "port", {}, "driver"),
                 (["version"], "version", {}, "0.1.0"), (["call", "list"], "call list", {}, "default"),
                 (["level", "list"], "level list", {}, "*77"), (["level", "reload"], "level reload", {}, "AEAD_AES_256_GCM"),
                 (["level", "set", "high", "rekey_s=5", "seed_bytes=32"], "level set",
                  {"name": "high", "values": {"rekey_s": "5", "seed_bytes": "32"}}, "levels.toml"),
                 (["policy", "list", "+46", "--limit", "5"], "policy list", {"prefix": "+46", "limit": 5}, "1 of 7 rules"),
                 (["policy", "show", "+4670"], "policy show", {"address": "+4670"}, "mobiles"),
                 (["policy", "set", "+4670", "high", "--path", "wlan", "--comment", "mobiles"], "policy set",
                  {"address": "+4670", "level": "high", "path": "wlan", "comment": "mobiles"}, "+4670 has level high"),
                 (["policy", "unset", "+4670"], "policy unset", {"address": "+4670"}, "no row of its own"),
                 (["policy", "explain", "alice", "+4670", "--wish", "high", "--dialled", "*77+4670"], "policy explain",
                  {"caller": "alice", "callee": "+4670", "wish": "high", "dialled": "*77+4670"}, "asked for by the dialled prefix"),
                 (["policy", "log", "--limit", "3"], "policy log", {"limit": 3}, "root (uid 0) by tandemctl"),
                 (["policy", "profile", "alice", "bob"], "policy profile", {"a": "alice", "b": "bob"}, "15m 00s"),
                 (["policy", "forget", "alice", "bob"], "policy forget", {"a": "alice", "b": "bob"}, "3 call profiles"),
                 (["policy", "forget", "--all"], "policy forget", {"all": True}, "3 call profiles"),
                 (["record", "list", "--party", "alice", "--since", "2026-11-21", "--limit", "9"], "record list",
                  {"since": "2026-11-21", "party": "alice", "limit": 9}, "4 records wait"),
                 (["record", "show", RECORD["id"]], "record show", {"id": RECORD["id"]}, "2026-11-21 18:05:07"),
                 (["alarm", "list"], "alarm list", {}, "the store is away")]
        for argv, verb, arguments, shown in cases:
            with self.subTest(verb=" ".join(argv)):
                status, out, err = self.ctl(*argv)
                self.assertEqual((status, err), (0, ""))
                if shown != "70":
                    self.assertIn(shown, out)
                self.assertEqual(self.gateway.seen[-1], {"version": 1, "verb": verb, "args": arguments})
                status, out, err = self.ctl(*argv, "--json")
                self.assertEqual((status, err), (0, ""))
                if verb != "version":
                    self.assertEqual(json.loads(out), ANSWERS[verb])

    def test_files_in_and_out(self):
        levels, csv, out = (os.path.join(self.dir, n) for n in ("levels.toml", "rules.csv", "out"))
        for path, text in ((levels, "version = 1\n"), (csv, "address,level\n+4670,high\n")):
            with open(path, "w") as f:
                f.write(text)
        self.assertEqual(self.ctl("level", "check", levels)[0], 0)
        self.assertEqual(self.gateway.seen[-1]["args"], {"text": "version = 1\n", "file": levels})
        status, shown, _ = self.ctl("policy", "import", csv)
        self.assertEqual((status, shown), (0, "2 rules imported, 7 are there now\n"))
        self.assertEqual(self.gateway.seen[-1]["args"], {"csv": "address,level\n+4670,high\n", "file": csv})
        self.assertEqual(self.ctl("policy", "import", os.path.join(self.dir, "none"))[0], 1)
        exported = "address,level,keygen,path,comment\n+4670,high,,wlan,mobiles\n"
        self.assertEqual(self.ctl("policy", "export")[:2], (0, exported))
        self.assertEqual(self.ctl("policy", "export", out)[0], 0)
        with open(out) as f:
            self.assertEqual(f.read(), exported)
        self.assertEqual(self.ctl("policy", "export", os.path.join(self.dir, "no/such"))[0], 1)
        status, text, err = self.ctl("record", "export", "--json")
        self.assertEqual((status, err, json.loads(text)), (0, "", [RECORD]))
        self.gateway.override = {"ok": True, "result": {"header": "id,cause", "records": [{"id": "a", "ended": 1, "line": "a,hung up"}]}}
        self.assertEqual(self.ctl("record", "export", "--csv")[:2], (0, "id,cause\na,hung up\n"))  # CRLF as text

    def test_watch_shows_what_is_new(self):
        answers = [{"changes": [CHANGE]}, {"changes": [CHANGE, {**CHANGE, "number": 13, "address": "bob", "removed": True}]}]
        self.gateway.override = lambda: {"ok": True, "result": answers.pop(0)}
        status, out, err = self.ctl("policy", "watch", "--count", "1")
        self.assertEqual((status, err), (0, ""))
        self.assertIn("bob removed", out)
        self.assertNotIn("+4670", out)

    def test_unit_add_makes_a_key_and_never_shows_it(self):
        path = os.path.join(self.dir, "alice.psk")
        for argv in ([], ["--json"]):
            status, out, err = self.ctl("unit", "add", "alice", "--psk-file", path, "--comment", "a phone", *argv)
            self.assertEqual((status, err), (0, ""))
            with open(path) as f:
                key = f.read().strip()
            self.assertEqual(len(key), 64)
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
            self.assertNotIn(key, out)
            self.assertEqual(self.gateway.seen[-1]["args"], {"id": "alice", "comment": "a phone", "psk": key})
        self.assertEqual(self.ctl("unit", "add", "carol", "--certificate")[0], 0)
        self.assertEqual(self.gateway.seen[-1]["args"], {"id": "carol"})

    def test_a_refused_unit_leaves_no_new_key(self):
        path = os.path.join(self.dir, "new.psk")
        self.gateway.override = {"ok": False, "code": "failed", "error": "unit alice exists; remove it first"}
        status, out, err = self.ctl("unit", "add", "alice", "--psk-file", path)
        self.assertEqual((status, out), (1, ""))
        self.assertIn("remove it first", err)
        self.assertFalse(os.path.exists(path))

    def sip(self, *arguments, text=""):
        done = subprocess.run([TOOL, "sip", *arguments, "--dir", os.path.join(self.dir, "sip")], input=text, capture_output=True, text=True,
                              timeout=30, check=False)
        return done.returncode, done.stdout + done.stderr

    def test_sip_users_are_enrolled_without_a_secret_shown(self):
        self.assertIn("run `tandemctl sip prepare`", self.sip("user", "list")[1])
        status, said = self.sip("user", "add", "bob", text="hush\n")
        self.assertEqual(status, 1)
        self.assertIn("sip prepare", said)
        self.assertEqual(self.sip("prepare")[0], 0)
        table = os.path.join(self.dir, "sip", "subscriber")
        times = []
        for realm, password in (("tandem", "hush"), ("example.com", "psst"), ("tandem", "other")):
            status, said = self.sip("user", "add", "bob", "--realm", realm, text=password + "\n")
            self.assertEqual(status, 0, said)
            self.assertNotIn(password, said)
            times.append(int(os.stat(table).st_mtime))
        self.assertEqual(times, sorted(set(times)), "the table's time rises by whole seconds")
        with open(table) as f:
            rows = f.read().splitlines()[1:]
        expected = [f"bob:{realm}:{hashlib.md5(f'bob:{realm}:{password}'.encode()).hexdigest()}"
                    for realm, password in (("example.com", "psst"), ("tandem", "other"))]
        self.assertEqual(rows, expected)
        self.assertEqual(stat.S_IMODE(os.stat(table).st_mode), 0o640)
        status, said = self.sip("user", "list")
        self.assertIn("example.com", said)
        self.assertNotIn(expected[0][-32:], said)
        self.assertEqual(self.sip("user", "remove", "bob", "--realm", "example.com")[0], 0)
        self.assertEqual(self.sip("user", "remove", "bob", "--realm", "example.com")[0], 1)
        for wrong in (("user", "add", "b:b"), ("user", "add", "bob", "--realm", 'a"'), ("peer", "add", "198.51.100.0/33"), ("peer", "add", "pbx")):
            self.assertEqual(self.sip(*wrong, text="x\n")[0], 2, wrong)
        self.assertEqual(self.sip("user", "add", "carol", text="\n")[0], 1, "no password")

    def test_sip_prepare_keeps_what_is_there_and_puts_a_damaged_table_aside(self):
        self.assertEqual(self.sip("prepare")[0], 0)
        self.assertEqual(self.sip("peer", "add", "2001:db8::/64")[0], 0)
        where = os.path.join(self.dir, "sip")
        with open(os.path.join(where, "route_key")) as f:
            key = f.read()
        with open(os.path.join(where, "location"), "w"):
            pass  # a kill while Kamailio wrote it
        self.assertEqual(self.sip("prepare")[0], 0)
        with open(os.path.join(where, "route_key")) as f:
            self.assertEqual(f.read(), key)
        with open(os.path.join(where, "location")) as f:
            self.assertTrue(f.read().startswith("id(int,auto) ruid"))
        self.assertTrue(os.path.exists(os.path.join(where, "location.bad")))
        self.assertIn("2001:db8::/64", self.sip("peer", "list")[1])

    def test_exit_1_failed(self):
        self.gateway.override = {"ok": False, "code": "failed", "error": "no unit bob; `tandemctl unit list` tells which there are"}
        status, out, err = self.ctl("unit", "show", "bob")
        self.assertEqual((status, out), (1, ""))
        self.assertIn("unit list", err)
        for broken in (b"not json\n", b"[]\n", b'{"ok":"maybe"}\n'):
            self.gateway.override = broken
            self.assertEqual(self.ctl("status")[0], 1, broken)

    def test_exit_2_usage(self):
        for argv in ([], ["nonsense"], ["unit"], ["unit", "add"], ["unit", "add", "x"], ["media", "show", "abc"], ["status", "--no"],
                     ["unit", "add", "x", "--psk-file", "f", "--certificate"], ["counters", "--interval", "0"],
                     ["trace"], ["trace", "0"], ["trace", "1", "--flow", "here"], ["capture"], ["capture", "-w", "f", "--drop", "x"],
                     ["capture", "-w", "f", "--snaplen", "0"], ["worker", "--interval", "0"], ["level", "set", "high"],
                     ["level", "set", "high", "rekey_s"], ["policy", "set", "+4670"], ["policy", "set", "+4670", "high", "--keygen", "me"],
                     ["policy", "forget"], ["policy", "forget", "alice"], ["policy", "forget", "a", "b", "--all"],
                     ["policy", "explain", "alice"], ["record", "export"], ["record", "export", "--csv", "--json"]):
            status, out, err = self.ctl(*argv)
            self.assertEqual((status, out), (2, ""), argv)
            self.assertTrue(err.strip(), argv)
        for argv, words in ((["unit"], "choose one of add, list, show, remove, name (see tandemctl unit --help)"),
                            (["unit", "name", "give"], "no verb give: choose one of list, add, remove (see tandemctl unit name --help)"),
                            (["nonsense"], "no verb nonsense: choose one of status,"), (["media", "show", "x"], "ID = x is no number"),
                            (["unit", "add"], "ID is required (see tandemctl unit add --help)")):
            self.assertIn(words, self.ctl(*argv)[2], argv)
        self.gateway.override = {"ok": False, "code": "usage", "error": "id is too long"}
        self.assertEqual(self.ctl("unit", "show", "x" * 100)[0], 2)

    def test_exit_3_unreachable(self):
        with tempfile.TemporaryDirectory() as empty:
            status, out, err = self.ctl("status", run_dir=empty)
            self.assertEqual((status, out), (3, ""))
            self.assertIn("is tandem-controlplane running", err)
            status, _, err = self.ctl("status", "--json", run_dir=empty)
            self.assertEqual((status, json.loads(err)["code"]), (3, "unreachable"))
        there = f"test-{os.getpid()}"
        with open(f"/dev/shm/tandem-{there}.stats", "wb"):
            self.addCleanup(os.unlink, f"/dev/shm/tandem-{there}.stats")
        status, _, err = self.ctl("counters", "--instance", "no-such-instance")
        self.assertRegex(err, f"There is:.* {there}")
        self.assertEqual(status, 3)
        self.assertIn("tandem-dataplane running", err)
        for verb in (["trace", "1"], ["capture", "-w", "/dev/null"]):
            status, out, err = self.ctl(*verb)
            self.assertEqual((status, out), (3, ""), verb)
            self.assertIn("is tandem-dataplane running", err)
        self.gateway.override = b""  # closes without an answer
        status, _, err = self.ctl("status")
        self.assertEqual(status, 3, err)
        self.gateway.close()
        status, _, err = self.ctl("status")
        self.assertEqual(status, 3, err)
        self.assertEqual(self.ctl("version")[0], 0)

    def test_help_is_no_error(self):
        status, out, _ = self.ctl("--help")
        self.assertEqual(status, 0)
        self.assertIn("exit status", out)


unittest.main(verbosity=0)
