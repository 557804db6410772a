#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
"""tandemctl worker, trace and capture on a data plane alone: verdicts, a pcapng file that tshark reads, no byte of clear media in it
unless root asks for it by --plaintext, which the audit log then says; others are refused; a killed tandemctl leaves nothing armed."""
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, sys.path[0] + "/../lib")
from flows import Dataplane, Peer, key_of
from harness import check, equal, main, wait_until
from programs import Ctl, program

SUITE = "AEAD_AES_128_GCM"
NOBODY = 65534


def read_pcapng(path, *fields):
    """One tuple of texts a packet."""
    words = ["tshark", "-r", str(path), "-T", "fields", "-E", "separator=|"]
    for f in fields:
        words += ["-e", f]
    out = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    return [tuple(line.split("|")) for line in out.splitlines()]


def datagrams(path):
    data, at, out = Path(path).read_bytes(), 0, []
    while at < len(data):
        n = int.from_bytes(data[at:at + 2], "little")
        out.append(data[at + 2:at + 2 + n])
        at += 2 + n
    return out


class Bench:
    """The data plane with one call, a unit that speaks SRTP and a phone in clear."""

    def __init__(self, t):
        self.t, self.net = t, t.network(ue2=False)
        self.dp = Dataplane(t, self.net).start()
        self.ctl = Ctl(self.dp.run_dir, self.dp.instance)
        self.contract = self.dp.contract()
        self.contract("hello")
        self.phone = f"{self.net.bob_address}:6000"
        self.keys = self.contract.add_call(self.phone)
        self.sent, self.next, self.runs = 0, 1, 0

    def unit(self, count=20, *more, keys=None, rate=400):
        self.runs += 1
        arguments = [*(keys or self.keys), "--first", self.next, "--count", count, "--rate", rate, "--linger", 0.3, *more]
        peer = Peer(self.t, self.net.ue, f"unit{self.runs}", "--bind", f"{self.net.ue_address}:7000", "--to",
                    f"{self.net.access}:4000", *arguments)
        self.sent += count
        if keys is None and "--replay" not in more:
            self.next += count
        return peer

    def listen(self, count=0, *more):
        """The phone: hears, and speaks where count is not 0."""
        self.runs += 1
        to = ["--to", f"{self.net.core_address}:5000", "--count", count, "--rate", 400, "--first", 100 * self.runs] if count else []
        self.sent += count
        return Peer(self.t, self.net.core, f"phone{self.runs}", "--bind", self.phone, *to, "--linger", 2, *more)

    def start(self, name, *arguments):
        """tandemctl in the background, armed when this returns."""
        verb = arguments[0]
        process = self.t.start(name, [program("tandemctl"), "--run-dir", self.dp.run_dir, "--json", *arguments])
        self.armed(verb)
        return process

    def armed(self, verb):
        """Asks for what is never granted: the answer tells whether one runs."""
        probe = ["trace", 1, "--flow", "192.0.2.99:1"] if verb == "trace" else ["capture", "-w", "/dev/null", "--port", "nosuch"]
        wait_until(lambda: f"another {verb} runs" in self.ctl.raw(*probe)[2], f"{verb} is armed")

    def end(self, process):
        process.popen.send_signal(signal.SIGINT)
        process.wait(20)
        return lines(process)[-1]

    def audit(self):
        return [json.loads(line) for line in (self.dp.run_dir / "audit.log").read_text().splitlines()]


def lines(process):
    return [json.loads(line) for line in process.log().splitlines() if line.startswith("{")]


def traces(b):
    recorded = b.t.dir / "sent"
    trace = b.start("trace", "trace", 50)
    b.unit(20, "--record-sent", recorded).result()
    b.unit(20, "--replay", recorded).result()
    wrong = key_of(SUITE, 99)
    b.unit(10, keys=["--suite", SUITE, "--mki", "4", "--send-key", "0:" + "".join(wrong)]).result()
    trace.wait(20)
    equal(trace.returncode, 0, "exit status of trace")
    got = lines(trace)
    equal(len(got), 50, "packets traced")
    equal([p["dropped"] for p in got], [None] * 20 + ["srtp_replay"] * 20 + ["srtp_auth"] * 10, "verdicts in their order")
    first = got[0]
    equal(first["stages"], {"receive": "received", "lookup": "flow_found", "unprotect": "authenticated", "protect": "clear",
                            "send": "sent"}, "stages of the first packet")
    equal((first["source"], first["destination"]), (f"{b.net.ue_address}:7000", f"{b.net.access}:4000"), "its addresses")
    equal((first["in_suite"], first["out_suite"], first["kind"]), (SUITE, "RTP", "RTP"), "its suites")
    equal((first["latched"], got[1]["latched"]), (True, False), "the first packet moves the leg, the second does not")
    equal([p["sequence"] for p in got[:20]], list(range(1, 21)), "sequence numbers")
    equal(first["in"], {"index": 1, "epoch": 0}, "SRTP index and epoch")
    equal(first["sent"]["destination"], b.phone, "where it went")
    equal((first["port"], first["sent"]["port"]), ("acc0", "core0"), "ports")
    check("send" not in got[20]["stages"], "a dropped packet has no verdict of later stages")
    status, out, err = b.ctl.raw("trace", 1, "--flow", "192.0.2.99:1")
    equal((status, out), (1, ""), "a trace of no flow")
    check("no flow" in err, f"and the error says so: {err}")
    for bad in (["trace"], ["trace", 0], ["trace", 1, "--flow", "nonsense"], ["capture"], ["capture", "-w", "x", "--drop", "bad_luck"],
                ["capture", "-w", "x", "--drop", "edge_bad_ip"], ["capture", "-w", "x", "--direction", "up"]):
        status, out, err = b.ctl.raw(*bad)
        check((status, out) == (2, "") and err, f"{bad} is wrong usage: {status} {err}")
    filtered = b.start("trace2", "trace", 5, "--flow", f"{b.net.core_address}:5000")
    b.unit(5).result()
    b.listen(5).result()
    filtered.wait(20)
    equal({(p["destination"], p["stages"].get("protect")) for p in lines(filtered)}, {(f"{b.net.core_address}:5000", "protected")},
          "what a trace of one flow saw")
    crowded = b.start("trace3", "trace", 5)
    b.dp.silent(40)  # who observes is not who makes room for them
    b.unit(5).result()
    crowded.wait(20)
    equal(len([p for p in lines(crowded) if "stages" in p]), 5, "packets traced beside silent connections")
    text = subprocess.Popen([program("tandemctl"), "--run-dir", str(b.dp.run_dir), "trace", "1"], stdout=subprocess.PIPE, text=True)
    b.armed("trace")
    b.unit(1).result()
    check("unprotect  authenticated  RTP SSRC" in text.communicate(timeout=20)[0], "the text form names the verdict")


def talk(b, heard):
    """20 packets each way; what the phone heard is in `heard`."""
    phone = b.listen(20, "--record", heard, "--ssrc", 77, "--record-sent", f"{heard}.sent")
    wait_until(lambda: b.net.core.run("ss", "-Hlun", "sport = :6000"), "the phone listens")
    b.unit(20).result()
    return phone.result()


def captures(b):
    file, heard = b.t.dir / "all.pcapng", b.t.dir / "heard"
    capture = b.start("capture", "capture", "-w", file)
    talk(b, heard)
    said = b.end(capture)
    equal((said["packets"], said["withheld"], said["lost"]), (80, 40, 0), "packets in the capture, withheld, lost")
    equal(stat.S_IMODE(os.stat(file).st_mode), 0o600, "mode of the file")
    rows = read_pcapng(file, "frame.interface_name", "frame.packet_flags_direction", "frame.comment", "frame.len", "frame.cap_len",
                       "udp.dstport")
    withheld = "payload withheld: not known to be ciphertext"
    ways = {}
    for interface, way, comment, length, kept, port in rows:
        full = length == kept
        ways.setdefault((interface, int(way, 0), port, comment, full), []).append(int(length))
    equal({k: len(v) for k, v in ways.items()},
          {("acc0", 1, "4000", "", True): 20, ("core0", 2, "6000", withheld, False): 20, ("core0", 1, "5000", withheld, False): 20,
           ("acc0", 2, "7000", "", True): 20}, "packets by interface, direction, port, comment and whether they are whole")
    info = subprocess.run(["capinfos", "-M", str(file)], capture_output=True, text=True, timeout=60, check=True).stdout
    check("pcapng" in info and "Time precision = nanoseconds (9)" in info, f"capinfos reads it: {info}")
    media = [d[12:] for d in datagrams(heard)] + [d[12:] for d in datagrams(f"{heard}.sent")]
    equal(len(media), 40, "media in clear that the phone heard and said")
    data = file.read_bytes()
    check(not any(m[:8] in data for m in media), "no clear payload is in the capture")

    # By reason.
    drops = b.start("drops", "capture", "-w", b.t.dir / "drops.pcapng", "--drop", "srtp_replay", "--count", 15)
    b.unit(20, "--record-sent", b.t.dir / "again").result()
    b.unit(20, "--replay", b.t.dir / "again").result()
    drops.wait(20)
    equal(lines(drops)[-1]["ended"], "complete", "how it ended")
    rows = read_pcapng(b.t.dir / "drops.pcapng", "frame.packet_flags_direction", "frame.comment")
    equal(len(rows), 15, "dropped packets in the capture")
    check(all(r[1].startswith("dropped: srtp_replay (") for r in rows), f"every one says why: {rows[:2]}")


def plaintext(b):
    check(all(not e["plaintext"] for e in b.audit()), "no plaintext so far")
    before, file, heard = len(b.audit()), b.t.dir / "plain.pcapng", b.t.dir / "heard2"
    capture = b.start("plain", "capture", "-w", file, "--plaintext", "--port", "core0")
    start = b.audit()[before]
    equal((start["event"], start["plaintext"], start["uid"], start["pid"], start["port"]),
          ("capture_start", True, 0, capture.pid, "core0"), "the audit log when it has begun")
    talk(b, heard)
    equal(b.end(capture)["withheld"], 0, "packets withheld")
    media = [d[12:] for d in datagrams(heard)] + [d[12:] for d in datagrams(f"{heard}.sent")]
    data = file.read_bytes()
    check(all(m in data for m in media), "with --plaintext the media is in the capture")
    wait_until(lambda: b.audit()[-1]["event"] == "capture_end", "the end is in the audit log")
    end = b.audit()[-1]
    equal((end["plaintext"], end["pid"], end["records"], end["cause"]), (True, capture.pid, 40, "closed"), "the end in the audit log")
    equal(stat.S_IMODE(os.stat(b.dp.run_dir / "audit.log").st_mode), 0o600, "mode of the audit log")


def killed(b):
    capture = b.start("killed", "capture", "-w", b.t.dir / "killed.pcapng")
    trace = b.start("killed-trace", "trace", 1000)
    speaking = b.unit(200)
    for p in (capture, trace):
        p.popen.kill()
        p.popen.wait()
    speaking.result()
    wait_until(lambda: b.audit()[-1]["event"] == "capture_end" and b.audit()[-1]["pid"] == capture.pid, "the data plane noticed")
    fresh = b.start("fresh", "capture", "-w", b.t.dir / "fresh.pcapng", "--count", 10)
    b.unit(10).result()
    fresh.wait(20)
    equal(lines(fresh)[-1]["packets"], 10, "packets of the next capture")
    equal(b.contract("hello")["restarts"], 0, "restarts of the data plane")


def worker(b):
    r = b.ctl("--instance", b.dp.instance, "worker")
    equal(len(r["workers"]), 1, "workers")
    w = r["workers"][0]
    equal(w["total"]["packets"], b.sent, "packets that the worker took")
    check(0 < w["total"]["busy_percent"] < 100 and w["total"]["tsc_per_packet"] > 0, f"busy share and cycles: {w['total']}")
    check(all(v > 0 for v in w["total"]["stages"].values()) and len(w["total"]["stages"]) == 5, f"cycles of every stage: {w['total']}")
    check(sum(w["total"]["bursts"].values()) * w["total"]["mean_burst"] - b.sent < 0.5, f"bursts: {w['total']}")
    check(w["longest_gap_us"] > 0 and w["cpu"] in os.sched_getaffinity(0), f"gap and CPU: {w}")
    status, out, err = b.ctl.raw("--instance", b.dp.instance, "worker", "--watch", "--count", 2, "--interval", 0.2)
    equal((status, err, out.count("BUSY %")), (0, "", 2), "two looks of --watch")


def refused(b):
    """Another user; a controller that is not root asks for plaintext."""
    b.dp.process.stop()
    dp = Dataplane(b.t, b.net, "second", controller_uid=NOBODY).start()
    for d in (dp.run_dir, *dp.run_dir.parents):
        if b.t.dir in (d, *d.parents):
            os.chmod(d, 0o755)
    os.chmod(dp.run_dir / "dataplane.sock", 0o666)

    def by(uid, *arguments):
        done = subprocess.run(["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", program("tandemctl"), "--run-dir",
                               str(dp.run_dir), *arguments], capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, done.stderr

    for verb in (["trace", "1", "--seconds", "0.1"], ["capture", "-w", "/dev/null", "--seconds", "1"]):
        status, err = by(1234, *verb)
        equal(status, 1, f"exit status of {verb[0]} as a stranger ({err})")
        check("this user may not" in err, f"the reason: {err}")
    audit = dp.run_dir / "audit.log"
    check(not audit.exists(), "a refused capture begins nothing")
    status, err = by(NOBODY, "capture", "-w", "/dev/null", "--plaintext", "--seconds", "1")
    check(status == 1 and "root's alone" in err, f"plaintext for a controller that is not root: {status} {err}")
    check(not audit.exists(), "and it is not in force")
    equal(by(NOBODY, "capture", "-w", "/dev/null", "--seconds", "1"), (0, ""), "a capture of ciphertext by the controller's user")
    equal([json.loads(line)["uid"] for line in audit.read_text().splitlines()], [NOBODY, NOBODY], "users in the audit log")
    audit.unlink()
    audit.mkdir()  # nothing can be written there
    status, err = by(0, "capture", "-w", "/dev/null", "--plaintext", "--seconds", "1")
    check(status == 1 and "audit log cannot be written" in err, f"plaintext where the audit log is out of order: {status} {err}")
    equal(by(0, "capture", "-w", "/dev/null", "--seconds", "1"), (0, ""), "a capture of ciphertext then")
    os.chmod(dp.run_dir / "dataplane.sock", 0o600)
    equal(by(1234, "trace", "1")[0], 3, "exit status where the socket itself cannot be reached")


def probes():
    notes = subprocess.run(["readelf", "-n", program("tandem-dataplane")], capture_output=True, text=True, timeout=60, check=True).stdout
    names = {notes.splitlines()[i + 1].split()[-1] for i, line in enumerate(notes.splitlines()) if line.strip() == "Provider: tandem"}
    equal(names, {"flow_create", "flow_remove", "rekey", "drop"}, "USDT probes")


def test(t):
    probes()
    b = Bench(t)
    traces(b)
    captures(b)
    plaintext(b)
    killed(b)
    worker(b)
    equal(b.dp.drops(), {"srtp_replay": 40, "srtp_auth": 10}, "drops")
    refused(b)


main(test, "tandemctl: worker, trace and capture")
