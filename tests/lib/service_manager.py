#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""service_manager.py [--watchdog S] [--restart-after S] [--events FILE] -- COMMAND: a service manager of one service, the part of
systemd that Tandem's programs count on where there is no systemd: NOTIFY_SOCKET from the main process alone (NotifyAccess=main),
WatchdogSec (killed by SIGKILL, started again), Restart=always, a descriptor store (FDSTORE, FDNAME, FDSTOREREMOVE; given back by
LISTEN_FDS, dropped when the service is stopped), KillMode=process. SIGTERM stops the service; its exit status is this one's.
What happens is written to --events, a JSON object a line: {"at": monotonic s, "what": "started", "pid": N} ...

As a library: Service, the same as a started program of a test."""

import argparse
import array
import ctypes
import json
import os
import select
import signal
import socket
import struct
import sys
import tempfile
import time
from pathlib import Path

SO_PASSCRED, SCM_CREDENTIALS, FIRST_FD = 16, 2, 3


class Manager:
    def __init__(self, command, watchdog, restart_after, events):
        self.command, self.watchdog, self.restart_after = command, watchdog, restart_after
        self.events = open(events, "a", buffering=1) if events else None
        self.dir = tempfile.mkdtemp(prefix="tandem-notify-")
        self.path = os.path.join(self.dir, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_PASSCRED, 1)
        self.socket.bind(self.path)
        os.chmod(self.path, 0o777)
        self.store = []  # (name, descriptor)
        self.pid, self.ready, self.heard, self.stopping = None, False, 0.0, False

    def say(self, what, **more):
        if self.events:
            self.events.write(json.dumps({"at": time.monotonic(), "what": what, **more}) + "\n")

    def start(self):
        given = list(self.store)
        self.ready, parent = False, os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            high = [os.dup(fd) for _, fd in given]  # out of the way of where they go
            high = [fd if fd >= FIRST_FD + len(given) else _dup_above(fd, FIRST_FD + len(given)) for fd in high]
            for i, fd in enumerate(high):
                os.dup2(fd, FIRST_FD + i, inheritable=True)
            env = {**os.environ, "NOTIFY_SOCKET": self.path}
            if self.watchdog:
                env.update(WATCHDOG_USEC=str(int(self.watchdog * 1e6)), WATCHDOG_PID=str(os.getpid()))
            if given:
                env.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(given)), LISTEN_FDNAMES=":".join(n for n, _ in given))
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            os.closerange(FIRST_FD + len(given), 256)
            os.execvpe(self.command[0], self.command, env)
        self.say("started", pid=self.pid, given=[n for n, _ in given])

    def notified(self):
        data, ancillary, _, _ = self.socket.recvmsg(4096, 1024)
        sender, fds = None, []
        for level, kind, body in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(body[:len(body) - len(body) % numbers.itemsize])
                fds = list(numbers)
            elif level == socket.SOL_SOCKET and kind == SCM_CREDENTIALS:
                sender = struct.unpack("iII", body[:12])[0]
        words = dict(line.partition("=")[::2] for line in data.decode(errors="replace").splitlines())
        if sender != self.pid:
            self.say("refused", sender=sender, words=words)
        elif words.get("FDSTORE") == "1" and fds:
            self.store += [(words.get("FDNAME", "stored"), fd) for fd in fds]
            self.say("stored", name=words.get("FDNAME"))
            return
        elif words.get("FDSTOREREMOVE") == "1":
            self.drop(lambda name, _: name == words.get("FDNAME"))
            self.say("removed", name=words.get("FDNAME"))
        else:
            self.heard = time.monotonic() if "WATCHDOG" in words or "READY" in words else self.heard
            if "READY" in words:
                self.ready = True
            if set(words) - {"WATCHDOG"}:
                self.say("told", **{k.lower(): v for k, v in words.items()})
        for fd in fds:
            os.close(fd)

    def drop(self, chosen):
        for name, fd in [one for one in self.store if chosen(*one)]:
            self.store.remove((name, fd))
            os.close(fd)

    def hung_up(self):
        """As systemd does: a descriptor whose other end has gone leaves the store."""
        poll = select.poll()
        for _, fd in self.store:
            poll.register(fd, 0)
        gone = {fd for fd, events in poll.poll(0) if events & (select.POLLHUP | select.POLLERR)} if self.store else set()
        self.drop(lambda _, fd: fd in gone)

    def run(self):
        def stop(*_):
            self.stopping = True
            os.kill(self.pid, signal.SIGTERM)
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        wake = os.pipe()
        os.set_blocking(wake[1], False)
        signal.set_wakeup_fd(wake[1])
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.start()
        while True:
            ready = select.select([self.socket, wake[0]], [], [], 0.1)[0]
            if self.socket in ready:
                self.notified()
            if wake[0] in ready:
                os.read(wake[0], 64)
            self.hung_up()
            if self.watchdog and self.ready and time.monotonic() - self.heard > self.watchdog:
                self.say("watchdog", pid=self.pid)
                self.heard = time.monotonic()
                os.kill(self.pid, signal.SIGKILL)
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done == 0:
                continue
            self.say("ended", pid=done, status=status)
            if self.stopping:
                return os.waitstatus_to_exitcode(status) & 0xff
            time.sleep(self.restart_after)
            self.start()

    def close(self):
        self.drop(lambda *_: True)
        self.socket.close()
        os.unlink(self.path)
        os.rmdir(self.dir)


def _dup_above(fd, least):
    import fcntl
    return fcntl.fcntl(fd, fcntl.F_DUPFD, least)


class Service:
    """A program of a test under this service manager, in a namespace."""

    def __init__(self, t, name, command, netns=None, watchdog=6.0, restart_after=0.2):
        self.events_file = Path(t.log_dir) / f"{name}.events"
        self.process = t.start(name, [sys.executable, __file__, "--watchdog", watchdog, "--restart-after", restart_after, "--events",
                                      self.events_file, "--", *command], netns)

    def events(self, what=None):
        if not self.events_file.exists():
            return []
        lines = [json.loads(line) for line in self.events_file.read_text().splitlines()]
        return [e for e in lines if what in (None, e["what"])]

    def pid(self):
        """The main process that was started last."""
        return self.events("started")[-1]["pid"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--watchdog", type=float, default=0)
    parser.add_argument("--restart-after", type=float, default=0.2)
    parser.add_argument("--events")
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    manager = Manager(args.command, args.watchdog, args.restart_after, args.events)
    try:
        return manager.run()
    finally:
        manager.close()


if __name__ == "__main__":
    sys.exit(main())
