#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# alone
"""tandem-holder as a service (tests/lib/service_manager.py in systemd's place, a script as data plane): READY=1 and WATCHDOG=1 come from
the main process; killed or stopped, it is started again and goes on with the data plane and the memory of before, within 10 s; asked to
take over, it becomes what is installed now, and its data plane too: first the new one is ready, then the old one leaves, then the
new one forwards. A new program that cannot start changes nothing; one with another layout of the memory gets a fresh one."""
import os
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from fake_dataplane import Fake
from harness import check, equal, main, wait_until
from programs import program
from service_manager import Service

HEALED_S, PATIENCE = 10, 15


def alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def memory_of(pid):
    """Device and inode of the state memory that a holder has."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        if "tandem-state" in os.readlink(f"/proc/{pid}/fd/{fd}"):
            return os.stat(f"/proc/{pid}/fd/{fd}").st_ino
    return None


def ready_again(service, fake, alive_before, after):
    """Waits until the holder that was started after a moment serves, with the same data plane and two behind it."""
    wait_until(lambda: [e for e in service.events("told") if e["at"] > after and "ready" in e and "2 ready" in e["status"]], "READY=1 of a new holder", HEALED_S)
    check(all(alive(pid) for pid in alive_before), "all data planes of before live")
    equal(len(fake.lines("forwards")), 1, "the one in force went on")
    check(not fake.lines("orphaned", "ends"), "none was told to end")


def take_over(holder, pid):
    return subprocess.run([holder, "--take-over", str(pid)], capture_output=True, text=True, timeout=60, check=False)


def between(fake, *what):
    """The processes and what they did, in order, of the lines of these kinds."""
    return [(pid, did) for _, pid, did in fake.lines(*what)]


def end_left(fake):
    """Data planes outlive their holder."""
    for pid in set(fake.pids("starts")):
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def test(t):
    installed = t.dir / "installed"
    installed.mkdir()
    holder = shutil.copy(program("tandem-holder"), installed / "tandem-holder")
    fake = Fake(installed, "dataplane")
    t.defer(lambda: end_left(fake))
    service = Service(t, "service", [holder, "--", fake.script])
    wait_until(lambda: [e for e in service.events("told") if "2 ready" in e.get("status", "")], "one in force, two behind it", PATIENCE)
    first, pids, memory = service.pid(), set(fake.pids("starts")), memory_of(service.pid())
    equal(sorted(e["name"] for e in service.events("stored")), sorted(["state", *(f"dataplane-{p}" for p in pids)]), "what the service manager keeps")
    check(not service.events("refused"), "nobody but the main process speaks to the service manager")

    # Killed; then stopped.
    at = time.monotonic()
    os.kill(first, signal.SIGKILL)
    ready_again(service, fake, pids, at)
    second, at = service.pid(), time.monotonic()
    check(second != first, "another holder")
    equal(memory_of(second), memory, "the memory")
    os.kill(second, signal.SIGSTOP)
    wait_until(lambda: service.events("watchdog"), "the watchdog sees a stopped holder", HEALED_S)
    ready_again(service, fake, pids, at)
    t.say(f"a stopped holder is replaced after {service.events('started')[-1]['at'] - at:.1f} s")
    equal(memory_of(service.pid()), memory, "the memory")

    # It supervises what it found: none of them is its child.
    os.kill(fake.pids("forwards")[-1], signal.SIGKILL)
    wait_until(lambda: len(fake.lines("forwards")) == 2, "a standby of the first holder takes over", 5)
    wait_until(lambda: "2 ready" in service.events("told")[-1].get("status", ""), "two behind it again", PATIENCE)

    # Holder and data plane at once: the memory is there, and a standby of before goes on with it.
    old = fake.pids("forwards")[-1]
    os.kill(service.pid(), signal.SIGKILL)
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: len(fake.lines("forwards")) == 3, "a standby takes over from both", HEALED_S)
    equal(memory_of(service.pid()), memory, "the memory")
    wait_until(lambda: "2 ready" in service.events("told")[-1].get("status", ""), "two behind it again", PATIENCE)

    # The upgrade: other files in the same place. A process that runs keeps the file that it was started from.
    new = shutil.copy(holder, installed / "new")
    os.rename(new, holder)
    old, holder_pid, before = fake.pids("forwards")[-1], service.pid(), set(fake.pids("starts"))
    done = take_over(holder, holder_pid)
    equal(done.returncode, 0, f"--take-over ({done.stderr}; {service.process.tail()})")
    equal(service.pid(), holder_pid, "the holder's process")
    equal(os.stat(f"/proc/{holder_pid}/exe").st_ino, os.stat(holder).st_ino, "the program that it is now")
    heir = fake.pids("forwards")[-1]
    check(heir not in before, "a new data plane forwards")
    equal(between(fake, "leaves", "told", "forwards")[-3:], [(old, "leaves"), (heir, "told"), (heir, "forwards")], "order of the hand-over")
    equal(memory_of(holder_pid), memory, "the memory")
    wait_until(lambda: not any(alive(p) for p in before), "those of before have ended", PATIENCE)

    # One that cannot start.
    wait_until(lambda: "2 ready" in service.events("told")[-1].get("status", ""), "two behind it again", PATIENCE)
    fake.mode("refuses")
    done = take_over(holder, holder_pid)
    equal(done.returncode, 1, "--take-over with a data plane that does not start")
    check("did not hand over" in done.stderr and "no hand-over" in service.process.log(), "it is said")
    equal(fake.pids("forwards")[-1], heir, "the data plane in force")
    check(alive(heir), "it lives")

    # One that knows another layout.
    fake.mode("layout")
    equal(take_over(holder, holder_pid).returncode, 0, "--take-over with another layout")
    other = memory_of(holder_pid)
    check(other != memory and fake.pids("forwards")[-1] != heir, "a fresh memory and a new data plane")
    wait_until(lambda: len([e for e in service.events("stored") if e["name"] == "state"]) == 2, "two memories were given to the service manager", 5)
    wait_until(lambda: "2 ready" in service.events("told")[-1].get("status", ""), "two behind it again", PATIENCE)

    equal(service.process.stop(10), 0, "exit status, told to end")
    check(not any(alive(p) for p in fake.pids("starts")), "no data plane is left")
    equal(len(service.events("started")), 4, "starts of the holder")


main(test, "holder: killed, stopped, upgraded under a service manager")
