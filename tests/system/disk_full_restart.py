#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 150
"""The disk of the control plane's database is full and stays so: calls go on, the process is killed (kill -9) and starts again on the
full disk, twice, calls that were up go on; when there is room again every one of 240 calls has its record, once. Full for long: new
calls are refused with the cause before anything that was acknowledged could be lost, running ones end in order. No room for a first
start: a sentence that says what it needs."""
import os
import subprocess
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
from core_calls import Caller, alarms
from harness import check, equal, main, wait_until
from netns import run
from programs import program, write_toml

LOG_MIB, DISK_MIB = 2, 16


class Disk:
    """A small file system of its own."""

    def __init__(self, t, name, mib):
        self.path = t.dir / name
        self.path.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=700", "tandem-test", self.path)
        t.defer(lambda: run("umount", "-l", self.path))
        self.fill = self.path / "others"

    def fill_up(self):
        """To the last byte, by another program's file."""
        with open(self.fill, "ab", buffering=0) as f:
            for size in (1 << 20, 4096, 1):
                try:
                    while True:
                        f.write(bytes(size))
                except OSError:
                    pass
        equal(os.statvfs(self.path).f_bavail, 0, "blocks that are free")

    def make_room(self):
        self.fill.unlink()


def test(t):
    net = t.network(ue2=False)
    first_start(t)
    disk = Disk(t, "state", DISK_MIB)
    gw = t.gateway(net, kamailio=False, dataplane={"max_flows": 16384}, controlplane={"database": disk.path / "tandem.db"},
                   tables=[("[store]", {"log_mib": LOG_MIB})])
    calls = Caller(gw, net.bob_address)
    names = [f"call{n}" for n in range(240)]
    for name in names[:40]:
        calls.whole(name)
    disk.fill_up()
    for name in names[40:120]:
        calls.whole(name)
    for name in names[120:130]:
        calls.begin(name)
    wait_until(lambda: "database" in alarms(gw), "the alarm of the database stands", 5)
    again(t, gw, calls, set(names[120:130]))
    text = alarms(gw)["database"]
    check("make room" in text and "wait on disk" in text, f"the alarm says what to do and where the calls are: {text}")
    for name in names[130:200]:
        calls.whole(name)
    for name in names[120:125]:
        calls.end(name)
    # Not even what SQLite needs beside its file has room now.
    gw.controlplane.kill()
    os.truncate(disk.path / "tandem.db-shm", 0)
    disk.fill_up()
    again(t, gw, calls, set(names[125:130]))
    for name in names[200:240]:
        calls.whole(name)
    disk.make_room()
    wait_until(lambda: "database" not in alarms(gw), "the alarm is over", 10)
    for name in names[125:130]:
        calls.end(name)
    recorded(gw, names)
    full_for_long(t, gw, calls, disk, names)


def again(t, gw, calls, up):
    """kill -9 and a start on the full disk: what was up is known."""
    gw.controlplane.kill()
    gw.start_controlplane()
    equal(calls.known(), up, "the calls that go on over the start")
    equal(len(gw.ctl.media()), len(up), "their media")


def records(gw):
    return sorted(r["call_id"] for r in gw.ctl("record", "list", "--limit", "10000")["records"])


def recorded(gw, names):
    wait_until(lambda: len(records(gw)) >= len(names), f"a record for each of {len(names)} calls; there are {len(records(gw))}", 15)
    equal(records(gw), sorted(names), "the records, each once")
    equal(gw.ctl("record", "list", "--call-id", names[0])["records"][0]["cause"], "hung up", "how it ended")


def full_for_long(t, gw, calls, disk, names):
    disk.fill_up()
    up = []
    for n in range(3000):
        reply = calls.offer(f"more{n}")
        if reply["result"] != "ok":
            break
        calls.answer(f"more{n}")
        up.append(f"more{n}")
    check(10 < len(up) < 2900, f"the log is full after some calls: {len(up)}")
    equal(reply["result"], "load limit", "what the proxy is told")
    check("make room" in reply["message"], f"why: {reply['message']}")
    equal(calls.ask("ping")["result"], "pong", "ping")
    t.say(f"{len(up)} calls up, then refused: {reply['message']}")
    for name in up[:len(up) // 2]:
        calls.end(name)
    gw.controlplane.kill()
    gw.start_controlplane()
    equal(calls.known(), set(up[len(up) // 2:]), "the calls that go on")
    for name in up[len(up) // 2:]:
        calls.end(name)
    disk.make_room()
    recorded(gw, names + up)
    calls.whole("last")


def first_start(t):
    disk = Disk(t, "small", 1)
    config = write_toml(t.dir / "small.toml", {"run_dir": t.dir / "run-small", "database": disk.path / "tandem.db",
                                               "master_key_file": t.dir / "small.key"},
                        [("[tunnel]", {"listen": ["127.0.0.1:4433"], "inner4": "10.64.0.0/16"}), ("[store]", {"log_mib": LOG_MIB})])
    done = subprocess.run([program("tandem-controlplane"), "--config", config], capture_output=True, text=True, timeout=20, check=False)
    equal(done.returncode, 1, "exit status where there is no room for a first start")
    check("log_mib" in done.stderr and "make room" in done.stderr, f"it says what it needs: {done.stderr}")


main(test, "a full disk and a restart together")
