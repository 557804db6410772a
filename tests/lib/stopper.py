# SPDX-License-Identifier: Apache-2.0
"""Stops one thread of a process, where SIGSTOP would stop them all: ptrace(2), as a debugger does it. Needs root.

    with Stopped(thread_named(pid, "worker")):
        ...                       # it does not run
"""

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_DETACH, _SEIZE, _INTERRUPT, _WALL = 17, 0x4206, 0x4207, 0x40000000


def threads(pid):
    """{thread id: its name}"""
    found = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/comm") as f:
            found[int(tid)] = f.read().strip()
    return found


def thread_named(pid, part):
    """The first thread whose name has this part (DPDK calls a worker's so)."""
    for tid, name in sorted(threads(pid).items()):
        if part in name:
            return tid
    raise LookupError(f"no thread with \"{part}\" in its name: {threads(pid)}")


class Stopped:
    """While it lives, the thread stands still. Enter and leave on the same thread of the test."""

    def __init__(self, tid):
        self.tid = tid

    def __enter__(self):
        self._do(_SEIZE)
        self._do(_INTERRUPT)
        os.waitpid(self.tid, _WALL)
        return self

    def __exit__(self, *_):
        self._do(_DETACH)

    def _do(self, request):
        if _libc.ptrace(request, self.tid, None, None) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"ptrace of thread {self.tid}: {os.strerror(code)}")
