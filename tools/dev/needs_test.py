#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is built for one system test alone is what it runs, and no more than that."""

import tempfile
import unittest
from pathlib import Path

from parts import needs
from programs import ROOMS

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
        self.assertEqual(self.of("from flows import Peer\n"), set())

    def test_what_that_uses_in_turn(self):
        self.assertEqual(self.of("from flows import Dataplane\nDataplane(1)\n"), {"programs", "tests/tools/contract"})

    def test_what_the_harness_starts(self):
        self.assertEqual(self.of("def test(t):\n    t.gateway()\n"), {"programs"})

    def test_of_scripts_that_there_are(self):
        for script, wanted in (("dataplane_contract", "tests/tools/srtp_peer"), ("srtp_state", "tests/tools/oracle"),
                               ("clock_jumps", "tests/tools/wall_clock.so"), ("records_kill", "tests/tools/store_room"),
                               ("rim08_suites", "tests/tools/probe_unit"), ("punt", "bench/load/tandem-load")):
            self.assertIn(wanted, needs.targets(SYSTEM / f"{script}.py"), script)

    def test_every_program_has_a_room(self):
        for path in (*SYSTEM.glob("*.py"), *needs.LIB.glob("*.py")):
            for name in needs.NAMED.findall(path.read_text()):
                self.assertIn(name, ROOMS, path)


if __name__ == "__main__":
    unittest.main()
