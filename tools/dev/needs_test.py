#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is built for one system test alone is what it runs, and no more than that."""

import os
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from parts import needs
from programs import NotBuilt, ROOMS, program

SYSTEM = needs.ROOT / "tests/system"


class Needs(unittest.TestCase):
    def of(self, text):
        with tempfile.TemporaryDirectory() as top:
            script = Path(top, "script.py")
            script.write_text(text)
            return needs.targets(script)

    def test_what_it_runs_by_way_of_a_class(self):
        self.assertEqual(self.of("from flows import Peer\nPeer(1)\n"), {"tests/tools/srtp_peer"})
        self.assertEqual(self.of("import flows\nflows.Peer(1)\n"), {"tests/tools/srtp_peer"})

    def test_what_it_imports_and_does_not_use(self):
        self.assertEqual(self.of("from flows import Peer\nt.gateway()\n"), {"programs"})

    def test_what_that_uses_in_turn(self):
        self.assertEqual(self.of("from flows import Dataplane\nDataplane(1)\n"), {"programs", "tests/tools/contract"})

    def test_what_the_harness_starts(self):
        self.assertEqual(self.of("def test(t):\n    t.gateway()\n"), {"programs"})

    def test_of_a_name_that_is_not_written_out(self):
        self.assertEqual(self.of("from programs import program\nfor n in names:\n    program(n)\n"), {"tools"})
        self.assertEqual(self.of("print(1)\n"), {"tools"})

    def test_what_was_not_found_is_refused_though_it_is_there(self):
        with tempfile.TemporaryDirectory() as top, mock.patch.dict(os.environ, TANDEM_BUILD=top, TANDEM_NEEDS="programs tests/tools/contract"):
            for name in ("srtp_peer", "contract", "tandemctl"):
                Path(top, ROOMS[name]).mkdir(parents=True, exist_ok=True)
                Path(top, ROOMS[name], name).touch()
            self.assertTrue(program("contract") and program("tandemctl"))
            self.assertRaisesRegex(NotBuilt, "srtp_peer is not among", program, "srtp_peer")
            os.environ["TANDEM_NEEDS"] = "tools"
            self.assertTrue(program("srtp_peer"))

    def test_nothing_that_is_built_is_named_otherwise(self):
        for path in (*SYSTEM.glob("*.py"), *needs.LIB.glob("*.py")):
            if path.name != "programs.py":
                self.assertNotRegex(path.read_text(), r"build_dir\(\) */|NotBuilt as", f"{path}: program(NAME) is how it is found, missing or not")

    def test_of_scripts_that_there_are(self):
        for script, wanted in (("dataplane_contract", "tests/tools/srtp_peer"), ("srtp_state", "tests/tools/oracle"),
                               ("clock_jumps", "tests/tools/wall_clock.so"), ("records_kill", "tests/tools/store_room"),
                               ("rim08_suites", "tests/tools/probe_unit"), ("punt", "bench/load/tandem-load"),
                               ("capture_udp", "tests/tools/capture_direct"), ("kamailio_rate", "controlplane/callcontrol/ng_fake")):
            self.assertIn(wanted, needs.targets(SYSTEM / f"{script}.py"), script)

    def test_every_program_has_a_room(self):
        for path in (*SYSTEM.glob("*.py"), *needs.LIB.glob("*.py")):
            for name in needs.NAMED.findall(path.read_text()):
                self.assertIn(name, ROOMS, path)


if __name__ == "__main__":
    unittest.main()
