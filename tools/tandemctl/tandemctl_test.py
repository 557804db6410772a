#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tandemctl against a control plane of our own making: every verb, every exit status, and that no key is shown."""

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
ANSWERS = {
    "version": {"version": "0.1.0", "ops_protocol": 1, "contract_version": 2},
    "status": {"version": "0.1.0", "instance": "nosuch", "pid": 1, "uptime_s": 70, "dataplane": {"connected": True},
               "sessions": {"total": 1, "up": 1}, "levels": []},
    "unit add": UNIT, "unit list": {"units": [UNIT]}, "unit show": UNIT, "unit remove": {"id": "alice", "session_dropped": True},
    "session list": {"sessions": [SESSION]}, "session show": SESSION, "session drop": {"tsid": SESSION["tsid"], "unit": "alice"},
    "media list": {"media": [MEDIA]}, "media show": MEDIA, "media rekey": {"id": 7, "epochs": [4, None]},
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
                answer = self.override if self.override is not None else {"ok": True, "result": ANSWERS[request["verb"]]}
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
                 (["session", "list"], "session list", {}, "TLS_AES_256_GCM_SHA384"),
                 (["session", "show", "alice"], "session show", {"unit": "alice"}, "10.64.0.1"),
                 (["session", "show", "00112233445566aa"], "session show", {"tsid": "00112233445566aa"}, "alice"),
                 (["session", "drop", "alice", "--reason", "test"], "session drop", {"unit": "alice", "reason": "test"}, "ended"),
                 (["media", "list"], "media list", {}, "AEAD_AES_128_GCM"),
                 (["media", "list", "--call-id", "c1"], "media list", {"call_id": "c1"}, "bob"),
                 (["media", "show", "7"], "media show", {"id": 7}, "192.0.2.1:20000"),
                 (["media", "rekey", "7"], "media rekey", {"id": 7}, "epochs 4 -"), (["port"], "port", {}, "driver"),
                 (["version"], "version", {}, "0.1.0")]
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
                     ["capture", "-w", "f", "--snaplen", "0"], ["worker", "--interval", "0"]):
            status, out, err = self.ctl(*argv)
            self.assertEqual((status, out), (2, ""), argv)
            self.assertTrue(err.strip(), argv)
        self.gateway.override = {"ok": False, "code": "usage", "error": "id is too long"}
        self.assertEqual(self.ctl("unit", "show", "x" * 100)[0], 2)

    def test_exit_3_unreachable(self):
        with tempfile.TemporaryDirectory() as empty:
            status, out, err = self.ctl("status", run_dir=empty)
            self.assertEqual((status, out), (3, ""))
            self.assertIn("is tandem-controlplane running", err)
            status, _, err = self.ctl("status", "--json", run_dir=empty)
            self.assertEqual((status, json.loads(err)["code"]), (3, "unreachable"))
        status, _, err = self.ctl("counters", "--instance", "no-such-instance")
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
