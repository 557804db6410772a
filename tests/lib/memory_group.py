# SPDX-License-Identifier: Apache-2.0
"""A control group with a limit of memory, for one process and those that it starts: version 1 or 2, whichever has the controller."""

import os
from pathlib import Path


class NoGroup(Exception):
    pass


def _mount(second):
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split()[:3]
        point = Path(left.split()[4])
        if second and kind == "cgroup2" and "memory" in (point / "cgroup.controllers").read_text().split():
            return point
        if not second and kind == "cgroup" and "memory" in options.split(","):
            return point
    return None


class MemoryGroup:
    def __init__(self, mib):
        self.second = _mount(True) is not None
        root = _mount(self.second)
        if root is None:
            raise NoGroup("no control group has the memory controller here")
        self.path = root / f"tandem-test-{os.getpid()}"
        try:
            if self.second:
                (root / "cgroup.subtree_control").write_text("+memory")
            self.path.mkdir()
            self._write("memory.max" if self.second else "memory.limit_in_bytes", mib << 20)
        except OSError as e:
            raise NoGroup(f"a control group cannot be made here: {e}") from None
        if self.second:
            (self.path / "memory.swap.max").write_text("0")

    def _write(self, name, value):
        (self.path / name).write_text(str(value))

    def prefix(self):
        """Before a program's arguments: in the group from its first byte on, with this process's view of /sys (`ip netns exec` hides
        control groups)."""
        return ["nsenter", f"--mount=/proc/{os.getpid()}/ns/mnt", "sh", "-c", f'echo $$ > {self.path}/cgroup.procs; exec "$@"', "sh"]

    def kills(self):
        """How many processes the kernel killed for want of memory."""
        text = (self.path / ("memory.events" if self.second else "memory.oom_control")).read_text()
        return int(next(line.split()[1] for line in text.splitlines() if line.startswith("oom_kill ")))

    def most_mib(self):
        return int((self.path / ("memory.peak" if self.second else "memory.max_usage_in_bytes")).read_text()) / (1 << 20)

    def remove(self):
        self.path.rmdir()
