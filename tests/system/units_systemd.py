#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# alone
# timeout: 240
# count: 500 calls
"""The packages and their units under a systemd of their own (systemd-nspawn on an overlay of this system): installed, started (READY=1),
calls through them; data plane, control plane, agent and holder stopped (SIGSTOP) are each healed within 10 s; and an upgrade of the packages
under the calls loses none of them, and hands over within a second; the packets that it cost are said (3 a call are asked for)."""
import base64
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from container import Container, NoContainer
from harness import check, equal, main, skip, wait_until
from load import Load
from ng import Client
from peer import sdp
from programs import ROOT, build_dir

HEALED_S, MOST_LOST, SUITE, RATE = 10, 50, "AES_CM_128_HMAC_SHA1_80", 50
UNITS = {"data plane": "tandem-dataplane", "control plane": "tandem-controlplane", "agent": "tandem-agent"}
FIRST_PORT, HEARS = 30000, 29000


def packages(t):
    """The packages, and the same with a later version: files."""
    out = t.dir / "packages"
    made = subprocess.run([str(ROOT / "tools/package"), "--no-build", "--quick", "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, env={**os.environ, "TANDEM_BUILD": str(build_dir())}, check=False)
    equal(made.returncode, 0, f"tools/package: {made.stdout}")
    now, later = sorted(out.glob("*.deb")), []
    for deb in now:
        tree = t.dir / "later" / deb.stem
        tree.parent.mkdir(exist_ok=True)
        subprocess.run(["dpkg-deb", "--raw-extract", deb, tree], check=True)
        control = tree / "DEBIAN/control"
        control.write_text(re.sub(r"^(Version: .*)$", r"\1+later", control.read_text(), flags=re.M))
        later.append(t.dir / "later" / f"{deb.stem}-later.deb")
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, later[-1]], check=True, stdout=subprocess.DEVNULL)
    return now, later


def install(box, debs):
    for deb in debs:
        box.path("/srv/tandem").joinpath(deb.name).write_bytes(deb.read_bytes())
    done = box.run("dpkg", "-i", *(f"/srv/tandem/{d.name}" for d in debs), timeout=120)
    return done.stdout + done.stderr


def configure(box, net):
    examples = {"dataplane": "tandem-gatewayd", "controlplane": "tandem-gatewayd", "agent": "tandem-agent"}
    text = {name: box.path(f"/usr/share/{package}/examples/{name}.toml").read_text() for name, package in examples.items()}
    text["dataplane"] = text["dataplane"].replace('"eth0"', f'"{net.ports[0]}"').replace('"eth1"', f'"{net.ports[1]}"').replace('"auto"', '"never"')
    text["dataplane"] = re.sub(r"max_flows = \d+", "max_flows = 4096", text["dataplane"])
    text["agent"] += 'tun = "device0"\n'
    for name, words in text.items():
        box.path(f"/etc/tandem/{name}.toml").write_text(words)


def enrol(box):
    """alice, whose agent runs in the same system."""
    box.run("tandemctl", "unit", "add", "alice", "--psk-file", "/etc/tandem/alice.psk")


class Calls:
    """Calls between two ends in the core, clear in and SRTP out, set up by ng; .load is their media."""

    def __init__(self, net, count):
        client = netns.inside(net.gw.name, Client)
        ports, keys = [], []
        for i in range(count):
            common = {"call_id": f"call-{i}", "from_tag": "a"}
            offer = client.command("offer", **common, sdp=sdp(net.bob_address, FIRST_PORT + 2 * i), transport_protocol="RTP/SAVP")
            check(offer["result"] == "ok", f"offer: {offer}")
            tag, key = next((tag, key) for tag, suite, key in re.findall(r"a=crypto:(\d+) (\S+) inline:([A-Za-z0-9+/=]+)", offer["sdp"]) if suite == SUITE)
            own = base64.b64encode(os.urandom(30)).decode()
            answer = client.command("answer", **common, to_tag="b", sdp=sdp(net.bob_address, HEARS, profile="RTP/SAVP", more=f"a=crypto:{tag} {SUITE} inline:{own}\r\n"))
            check(answer["result"] == "ok", f"answer: {answer}")
            ports.append(re.search(r"m=audio (\d+)", answer["sdp"])[1])
            address = re.search(r"c=IN IP4 (\S+)", answer["sdp"])[1]
            keys.append(f"receive {i} {base64.b64decode(key + '==').hex()}\n")
        self.to, self.keys, self.count, self.net = f"{address}:{','.join(ports)}", "".join(keys), count, net

    def start(self, seconds):
        self.load = Load("--from-netns", self.net.core.name, "--from", f"{self.net.bob_address}:{FIRST_PORT}-{FIRST_PORT + 2 * self.count - 1}/2", "--receive",
                         f"{self.net.bob_address}:{HEARS}", "--to", self.to, "--streams", self.count, "--rate", self.count * RATE, "--seconds", seconds,
                         "--receive-suite", SUITE, "--gaps-ms", 35, "--linger", 1, keys=self.keys)


def in_force(box):
    data = box.path("/dev/shm/tandem-main.stats").read_bytes()[:24]
    return int.from_bytes(data[16:24], sys.byteorder)


def main_pid(box, unit):
    return int(box.show(unit, "MainPID")[0])


def stopped(box, name, pid, whose, healed):
    """Stops a process; returns the seconds until healed(pid), told through `whose` (a dict: threads)."""
    begin = time.monotonic()
    box.run("kill", "-STOP", pid)
    while not healed(pid):
        if time.monotonic() > begin + HEALED_S + 5:
            break
        time.sleep(0.1)
    whose[name] = (begin, time.monotonic())


def heal(t, box, subjects):
    """Stops several at once; all must be healed in time."""
    took = {}
    threads = [threading.Thread(target=stopped, args=(box, name, pid, took, healed)) for name, (pid, healed) in subjects.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, (begin, end) in took.items():
        t.say(f"{name} stopped: healed after {end - begin:.1f} s")
        check(end - begin <= HEALED_S, f"a stopped {name} is healed within {HEALED_S} s: {end - begin:.1f} s")
    return took


def restarted(box, unit):
    return lambda old: box.show(unit, "MainPID", "ActiveState", "SubState") not in ([str(old), "active", "running"],) and \
        box.show(unit, "ActiveState", "SubState") == ["active", "running"] and main_pid(box, unit) not in (0, old)


def missing(gaps, begin, end):
    """(packets, ms) of the call that missed most between two moments."""
    met = [g for g in gaps if g["since_s"] < end and g["since_s"] + g["ms"] / 1000 > begin]
    return max((g["missing"] for g in met), default=0), max((g["ms"] for g in met), default=0)


class Switch:
    """Was /sys/kernel/rcu_expedited on meanwhile?"""

    def __init__(self):
        self.seen, self.over = False, threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self):
        while not self.over.wait(0.002):
            self.seen = self.seen or self.value() == "1"

    @staticmethod
    def value():
        return Path("/sys/kernel/rcu_expedited").read_text().strip()

    def __enter__(self):
        self.before = self.value()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def test(t):
    net = t.network(ue2=False)
    try:
        box = Container(t, net.gw, f"{t.prefix}-box")
    except NoContainer as why:
        skip(str(why))
    t.defer(lambda: (t.dir / "journal.log").write_text(box.run("journalctl", "--no-pager", "-o", "short-precise", check=False).stdout))
    now, later = packages(t)
    install(box, now)
    equal(box.run("systemctl", "is-active", *UNITS.values(), check=False).stdout.split(), ["inactive"] * 3, "units before they are configured")
    configure(box, net)
    box.run("systemctl", "start", "tandem-dataplane", "tandem-controlplane")
    enrol(box)
    box.run("systemctl", "start", "tandem-agent")
    for unit in UNITS.values():
        equal(box.show(unit, "ActiveState", "NotifyAccess"), ["active", "main"], f"{unit} is up by its own word")
    equal(box.show("tandem-dataplane", "NFileDescriptorStore")[0] != "0", True, "the state memory is in systemd's store")

    calls = Calls(net, t.count)
    calls.start(42)
    time.sleep(1.5)
    dataplane, holder = in_force(box), main_pid(box, "tandem-dataplane")
    took = heal(t, box, {"data plane": (dataplane, lambda old: in_force(box) != old),
                         **{name: (main_pid(box, UNITS[name]), restarted(box, UNITS[name])) for name in ("control plane", "agent")}})
    equal(main_pid(box, "tandem-dataplane"), holder, "the holder, which healed it")
    time.sleep(1)
    dataplane, begin = in_force(box), time.monotonic()
    took.update(heal(t, box, {"holder": (holder, restarted(box, "tandem-dataplane"))}))
    equal(in_force(box), dataplane, "the data plane under a stopped holder")
    time.sleep(1)
    held = (begin, time.monotonic())

    wait_until(lambda: "2 ready" in box.show("tandem-dataplane", "StatusText")[0], "two data planes ready", 20)
    begin = time.monotonic()
    with Switch() as expedited:
        said = install(box, later)
    upgraded = (begin, time.monotonic() + 0.5)
    check("goes on" not in said, f"dpkg: {said}")
    check(expedited.seen, "the holder may shorten the kernel's grace periods under its unit")
    equal((expedited.value(), box.path("/run/tandem/tandem-holder.rcu_expedited").exists()), (expedited.before, False), "the switch behind the upgrade, its note")
    check(in_force(box) != dataplane, "another data plane forwards after the upgrade")
    for name in ("holder", "dataplane"):
        pid = main_pid(box, "tandem-dataplane") if name == "holder" else in_force(box)
        exe = box.run("readlink", f"/proc/{pid}/exe").stdout.strip()
        equal(exe, f"/usr/bin/tandem-{name}", f"the {name}'s program after the upgrade")
    wait_until(lambda: box.show("tandem-controlplane", "ActiveState") == ["active"], "the control plane is up again", 10)
    wait_until(lambda: len(netns.inside(net.gw.name, Client).command("list", limit="100000")["calls"]) == t.count, "the control plane knows all calls", 10)
    time.sleep(1)
    check(calls.load.popen.poll() is None, "media went on until the upgrade was over")
    result = calls.load.result(120)

    lost = {name: missing(result["gaps"], *between) for name, between in {"data plane stopped": took["data plane"], "holder stopped": held, "upgrade": upgraded}.items()}
    for name, (packets, ms) in lost.items():
        t.say(f"{name}: at most {packets} packets of a call lost, {ms:.0f} ms of silence")
    equal((result["bad_tags"], result["bad_content"], result["duplicates"]), (0, 0, 0), "wrong tags, wrong contents, duplicates")
    equal(lost["holder stopped"][0], 0, "packets of a call lost while the holder was stopped and replaced")
    check(lost["upgrade"][0] <= MOST_LOST, f"packets of a call lost in the upgrade: {lost['upgrade'][0]}")
    box.run("systemctl", "stop", *UNITS.values())
    check(not box.run("pgrep", "-f", "tandem-dataplane", check=False).stdout.strip(), "no data plane is left behind its stopped unit")


main(test, "units and packages under systemd")
