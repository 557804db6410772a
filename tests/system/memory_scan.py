#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""After a call its seeds and keys are nowhere in the memory of any gateway process, and core dumps are off.

A unit that tells what it learned (probe_unit) is in a call with an SDES peer in the core, through several epochs, each seed made by
both (so the unit's half, the gateway's and their sum are looked for). While the
call is up the scan must find the newest key in the data plane (so the scan can find); after the call it must find none."""
import base64
import json
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import check, main, wait_until
from netns import run
from ng import Client
from peer import CorePeer, sdp
from programs import program

SALT = {"AEAD_AES_128_GCM": 12, "AEAD_AES_256_GCM": 12}


def session_keys(master, suite):
    """RFC 3711 4.3 with kdr 0, labels 0 to 5, by the openssl program."""
    salt_length = SALT.get(suite, 14)
    key, salt = master[:-salt_length], master[-salt_length:].ljust(14, b"\0")
    out = []
    for label in range(6):
        iv = bytearray(salt + b"\0\0")
        iv[7] ^= label
        stream = subprocess.run(["openssl", "enc", f"-aes-{8 * len(key)}-ctr", "-K", key.hex(), "-iv", bytes(iv).hex()],
                                input=bytes(32), capture_output=True, check=True).stdout
        out.append(stream[:20 if label in (1, 4) else len(key) if label in (0, 3) else salt_length])
    return [k for i, k in enumerate(out) if salt_length == 14 or i not in (1, 4)]


def scan(pid, needles):
    """Names of the needles found in the process's memory."""
    found = set()
    pattern = re.compile(b"|".join(re.escape(n) for n in sorted(set(needles.values()))))
    names = {}
    for name, value in needles.items():
        names.setdefault(value, []).append(name)
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            area, permissions = line.split()[:2]
            if "r" not in permissions or "[vsyscall]" in line or "[vvar" in line:
                continue
            begin, end = (int(x, 16) for x in area.split("-"))
            carry, at = b"", begin
            while at < end:
                try:
                    mem.seek(at)
                    data = mem.read(min(1 << 24, end - at))
                except (OSError, ValueError, OverflowError):
                    break
                if not data:
                    break
                at += len(data)
                for hit in pattern.finditer(carry + data):
                    found.update(f"{n} at {at - len(data) - len(carry) + hit.start():#x} in {line.split()[-1]}"
                                 for n in names[hit.group()])
                carry = data[-63:]
    return found


def learned(path):
    """{what: bytes} of everything that the probe wrote down."""
    needles = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        where = f"media {row['media']} epoch {row['epoch']}"
        for half in ("made", "half"):
            if half in row:
                needles[f"{half} seed of {where}"] = bytes.fromhex(row[half])
        if "seed" not in row:
            continue
        needles[f"seed of {where}"] = bytes.fromhex(row["seed"])
        for way in ("up", "down"):
            master = bytes.fromhex(row[way])
            salt = SALT.get(row["suite"], 14)
            needles[f"master key {way} of {where}"] = master[:-salt]
            for number, key in enumerate(session_keys(master, row["suite"])):
                if len(key) >= 16:
                    needles[f"session key {number} {way} of {where}"] = key
    return needles


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False, level={"rekey_s": 2, "overlap_s": 1, "keygen": "both"})
    gw.unit_add("probe")
    reveal = t.dir / "revealed"
    probe = t.start("probe", [program("probe_unit"), "--gateway", gw.server, "--keys", gw.dir, "--units", "probe",
                              "--reveal", reveal], net.ue)
    inner = probe.wait_for_text(r'"configured".*"inner":"([0-9.]+):')[1]
    peer = CorePeer(net.core)
    t.defer(peer.close)
    ng = netns.inside(net.gw.name, Client)
    offer = ng.command("offer", call_id="scan", from_tag="a", sdp=sdp(inner, 4000), metadata="caller=probe;callee=bob",
                       transport_protocol="RTP/SAVP")
    check(offer["result"] == "ok", f"offer is accepted: {offer}")
    lines = re.findall(r"a=crypto:(\d+) (\S+) inline:([A-Za-z0-9+/=]+)", offer["sdp"])
    check(lines, "the offer towards the core carries SDES keys")
    tag, suite, _ = next(x for x in lines if x[1] == "AES_CM_128_HMAC_SHA1_80")
    own = os.urandom(30)
    answer = ng.command("answer", call_id="scan", from_tag="a", to_tag="b",
                        sdp=sdp(net.bob_address, peer.port, profile="RTP/SAVP",
                                more=f"a=crypto:{tag} {suite} inline:{base64.b64encode(own).decode()}\r\n"))
    check(answer["result"] == "ok", f"answer is accepted: {answer}")
    probe.wait_for_text(r'"event":"seed".*"epoch":3', 20)

    pids = {"data plane": gw.dataplane_pid(), "holder": gw.dataplane.pid, "control plane": gw.controlplane.pid}
    # No re-key meanwhile, however long the scan takes: the key that is looked for would be gone. The last epoch stands twice.
    os.kill(pids["control plane"], signal.SIGSTOP)
    newest = {k: v for k, v in learned(reveal).items() if "session key 0" in k}
    found = scan(pids["data plane"], newest)
    os.kill(pids["control plane"], signal.SIGCONT)
    check(found, "during the call the scan finds a session key in the data plane")

    check(ng.command("delete", call_id="scan", from_tag="a")["result"] == "ok", "the call is deleted")
    probe.wait_for_text("media_close", 5)
    wait_until(lambda: not gw.ctl.media(), "no media in force")
    time.sleep(1)
    needles = learned(reveal)
    for number, (_, name, text) in enumerate(lines):
        key = base64.b64decode(text + "==")
        needles[f"our SDES line {number} in base64"] = text.encode()[:24]
        needles[f"our SDES key {number} ({name})"] = key[:16]
    needles["the peer's SDES line"] = base64.b64encode(own)[:24]
    needles["the peer's SDES key"] = own[:16]
    needles["the peer's SDES session key"] = session_keys(own, suite)[0]
    epochs = reveal.read_text().count('"seed"')
    t.say(f"{len(needles)} secrets of {epochs} epochs looked for in {len(pids)} processes")
    for name, pid in pids.items():
        left = scan(pid, needles)
        check(not left, f"no secret is left in the {name}: {sorted(left)[:8]}")
        limits = open(f"/proc/{pid}/limits").read()
        check(re.search(r"Max core file size\s+0\s+0", limits), f"core dumps of the {name} are off")
    log = "".join(p.read_text(errors="replace") for p in gw.log_dir.glob("*.log"))
    for name, value in needles.items():
        check(value.hex() not in log and (not name.endswith("base64") or value.decode() not in log),
              f"{name} is in no log")
    database = b"".join(p.read_bytes() for p in gw.dir.glob("tandem.db*"))
    for name, value in needles.items():
        check(value not in database and value.hex().encode() not in database, f"{name} is not in the database")
    psk = bytes.fromhex((gw.dir / "probe.psk").read_text().strip())
    check(psk not in database and psk.hex().encode() not in database, "the unit's key is not in the database in clear")


main(test, "memory_scan: keys and seeds are gone after the call")
