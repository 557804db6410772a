# SPDX-License-Identifier: Apache-2.0
"""Programs under test: started in a namespace, output in a file, ended by pid at the end whatever happens."""

import ctypes
import os
import re
import signal
import subprocess
import threading
import time

_libc = ctypes.CDLL(None, use_errno=True)


class ProcessError(Exception):
    pass


def _die_with_parent():
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a killed test leaves nothing running


class Process:
    def __init__(self, name, argv, log_dir, netns=None, env=None, cwd=None, survive=False, stdin=False):
        self.name, self.argv = name, [str(a) for a in argv]
        os.makedirs(log_dir, exist_ok=True)
        self.log_path = os.path.join(str(log_dir), f"{name}.log")
        command = self.argv if netns is None else ["ip", "netns", "exec", getattr(netns, "name", netns), *self.argv]
        # The death signal follows the thread that forked: only the main thread's is the test's.
        bound = not survive and threading.current_thread() is threading.main_thread()
        self._log = open(self.log_path, "ab", buffering=0)
        self._log.write(f"# {' '.join(command)}\n".encode())
        self._from = self._log.tell()
        self.popen = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT,
                                      stdin=subprocess.PIPE if stdin else subprocess.DEVNULL, cwd=cwd,
                                      env={**os.environ, **env} if env else None, start_new_session=True,
                                      preexec_fn=_die_with_parent if bound else None)

    @property
    def pid(self):
        return self.popen.pid  # `ip netns exec` becomes the program

    def alive(self):
        return self.popen.poll() is None

    @property
    def returncode(self):
        return self.popen.poll()

    def log(self, everything=False):
        with open(self.log_path, "r", errors="replace") as f:
            f.seek(0 if everything else self._from)
            return f.read()

    def tail(self, lines=15):
        return "\n".join(self.log().splitlines()[-lines:])

    def wait_for(self, condition, what, timeout=10.0, interval=0.05):
        """condition() is called until it is true; an end of the program or of the time is an error with its last words."""
        end = time.monotonic() + timeout
        while True:
            value = condition()
            if value:
                return value
            if not self.alive():
                raise ProcessError(f"{self.name} ended with {self.returncode} before {what}:\n{self.tail()}")
            if time.monotonic() > end:
                raise ProcessError(f"{self.name}: no {what} within {timeout:g} s:\n{self.tail()}")
            time.sleep(interval)

    def wait_for_text(self, pattern, timeout=10.0):
        return self.wait_for(lambda: re.search(pattern, self.log()), f"'{pattern}' in its output", timeout)

    def wait_for_path(self, path, timeout=10.0):
        return self.wait_for(lambda: os.path.exists(path), f"{path}", timeout)

    def wait(self, timeout=10.0):
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ProcessError(f"{self.name} still runs after {timeout:g} s:\n{self.tail()}") from None

    def signal(self, number):
        if self.alive():
            self.popen.send_signal(number)

    def kill(self):
        """kill -9, and gone."""
        self.signal(signal.SIGKILL)
        self.wait(5)

    def stop(self, timeout=5.0):
        """SIGTERM; returns the exit status. One that does not end is killed, and that is an error of its own (status None)."""
        if self.alive():
            self.popen.terminate()
            try:
                self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait(5)
                self._log.close()
                return None
        self._log.close()
        return self.returncode
