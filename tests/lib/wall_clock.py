# SPDX-License-Identifier: Apache-2.0
"""A process whose wall clock is wrong (tests/tools/wall_clock.c): environment for it, and the clock to be set at any moment."""

import mmap
import struct
import time

from programs import program


class WallClock:
    def __init__(self, directory):
        self.path = directory / "wall_clock"
        self.path.write_bytes(bytes(8))
        with open(self.path, "r+b") as f:
            self.shared = mmap.mmap(f.fileno(), 8)
        self.environment = {"LD_PRELOAD": program("wall_clock.so"), "TANDEM_WALL_CLOCK": str(self.path)}

    def ahead(self, seconds):
        """So much later than it is (earlier: below 0)."""
        self.shared[:] = struct.pack("=q", int(seconds * 1_000_000))

    def show(self, seconds_since_1970):
        self.ahead(seconds_since_1970 - time.time())
