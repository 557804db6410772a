# SPDX-License-Identifier: Apache-2.0
"""A throw-away PostgreSQL server on a local socket in the test's directory, for the tests of the shared store.

    server = Postgres(t.dir / "pg").start();  t.defer(server.remove)
    Gateway(..., tables=[("[store]", {"kind": "postgresql", "conninfo": server.conninfo})])
    server.psql("SELECT count(*) FROM tandem.call_record")

No TCP port, no cluster of the machine's own is touched. The server refuses to be root: it runs as `postgres`, or as nobody where
that user is missing. fsync is off: the tests kill the server, never the machine."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from process import Process, ProcessError


class NoServer(Exception):
    """PostgreSQL's programs are not installed: skip."""


def binaries():
    """The newest installed version's directory of programs (Debian keeps them off PATH)."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parent.parent.name))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    if initdb and shutil.which("postgres"):
        return Path(initdb).resolve().parent
    raise NoServer("PostgreSQL's server is not installed: run tools/dev/install-deps")


def server_user():
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            pass
    raise NoServer("there is no user postgres and no user nobody")


class Postgres:
    def __init__(self, directory, settings=None):
        self.dir, self.bin, self.user = Path(directory), binaries(), server_user()
        self.data, self.process, self.starts, self._frozen = self.dir / "data", None, 0, []
        # The socket's path must be short (107 bytes), and others than the server's user must reach it.
        self.socket_dir = Path(tempfile.mkdtemp(prefix="tandem-pg-"))
        os.chown(self.socket_dir, self.user.pw_uid, self.user.pw_gid)
        os.chmod(self.socket_dir, 0o755)
        self.dir.mkdir(parents=True, exist_ok=True)
        os.chown(self.dir, self.user.pw_uid, self.user.pw_gid)
        self._run(self.bin / "initdb", "-D", self.data, "-U", "tandem", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        wanted = {"listen_addresses": "''", "unix_socket_directories": f"'{self.socket_dir}'", "fsync": "off", "max_connections": 40,
                  "shared_buffers": "'64MB'", "logging_collector": "off", "log_min_messages": "warning", **(settings or {})}
        with open(self.data / "postgresql.auto.conf", "a") as f:
            f.writelines(f"{k} = {v}\n" for k, v in wanted.items())
        self.conninfo = f"host={self.socket_dir} user=tandem dbname=postgres"

    def _as_user(self, argv):
        return ["setpriv", f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}", "--clear-groups", *map(str, argv)]

    def _run(self, *argv, stdin=None, timeout=60):
        done = subprocess.run(self._as_user(argv), capture_output=True, text=True, timeout=timeout, input=stdin, cwd="/", check=False)
        if done.returncode != 0:
            raise ProcessError(f"`{' '.join(map(str, argv))}` ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def start(self, timeout=30):
        self.starts += 1
        (self.data / "postmaster.pid").unlink(missing_ok=True)  # of one that was killed
        # A killed test takes it along: setpriv asks for that after the change of the user, which undoes an earlier wish.
        command = self._as_user([self.bin / "postgres", "-D", self.data])
        self.process = Process(f"postgres-{self.starts}", [command[0], "--pdeathsig=INT", *command[1:]], self.dir.parent / "log", cwd="/")
        self.process.wait_for(self.answers, "answer of the PostgreSQL server", timeout)
        return self

    def answers(self):
        return subprocess.run([self.bin / "pg_isready", "-q", "-h", self.socket_dir, "-U", "tandem", "-t", "1"], check=False).returncode == 0

    def psql(self, sql, timeout=30):
        """Runs statements, returns the rows as lines, columns by |."""
        return self._run(self.bin / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.conninfo, stdin=sql, timeout=timeout).strip()

    def number(self, sql):
        return int(self.psql(sql))

    # -- what befalls a server ------------------------------------------------------------

    def pids(self):
        """The postmaster and its children, whom it would not take along when it is killed or stopped."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def freeze(self):
        """SIGSTOP to all of them: connections stand and nothing answers."""
        self._frozen = self.pids()
        for pid in self._frozen:
            os.kill(pid, signal.SIGSTOP)

    def thaw(self):
        for pid in self._frozen:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
        self._frozen = []

    def kill(self):
        """kill -9 of all, as a crash: the next start recovers."""
        pids, self._frozen = self.pids(), []
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait(10)
        end = time.monotonic() + 10
        while any(os.path.exists(f"/proc/{pid}") for pid in pids[1:]) and time.monotonic() < end:
            time.sleep(0.05)

    def stop(self):
        """A fast shutdown: connections are ended in order."""
        if self.process and self.process.alive():
            self.process.signal(signal.SIGINT)
            self.process.wait(20)

    def remove(self):
        if self.process and self.process.alive():
            self.thaw()
            try:
                self.stop()
            except ProcessError:
                self.kill()
        shutil.rmtree(self.socket_dir, ignore_errors=True)
