#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 90
"""RIM-04: one flipped bit in the key, or an id code that nobody enrolled: the handshake ends with an alert, the agent says so in words,
the gateway writes an audit line, no session and no media; the right key then works. A key file that others may read is refused.
No key is in an argument, the environment or a log."""
import re
import subprocess
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from harness import check, equal, main, wait_until
from ng import Client
from peer import sdp
from programs import program


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False)
    right = gw.unit_add("alice")
    key = right.read_text().strip()
    wrong = t.dir / "wrong.psk"
    wrong.touch(mode=0o600)
    wrong.write_text(f"{int(key[0], 16) ^ 1:x}{key[1:]}\n")

    for unit, file in (("alice", wrong), ("mallory", right)):
        capture = t.capture(net.ue, "ue0", f"refused-{unit}")
        agent = t.agent(net.ue, gw, unit, file, start=False).start()
        agent.process.wait_for_text(f"gateway refused the key of id '{unit}'.*check id and psk_file", 15)
        time.sleep(1)
        equal(agent.inner(), None, f"inner address of {unit}")
        equal(gw.ctl.sessions(), [], f"sessions after {unit}")
        check(not agent.status()["primary"]["up"], "the agent's status says down")
        equal(agent.stop(), 0, "the agent ends in order")
        frames = capture.stop()
        alerts = [f for f in frames if f.is_tcp and f.sport == 4433 and f.payload[:1] == b"\x15"]
        check(alerts, "the gateway ends the handshake with a TLS alert in clear (RFC 8446 6.2)")
        data = [f for f in frames if f.is_tcp and f.payload[:1] == b"\x17"]
        equal(len(data), 0, "application data before anybody is authenticated")
        wait_until(lambda u=unit: re.search(rf"(?i)(refus|fail|audit|denied|wrong|unknown).*{u}|{u}.*(?i:refus|fail|denied|wrong|unknown)",
                                            gw.controlplane.log()), f"the gateway's log names {unit} and the refusal", 5)
    ng = netns.inside(net.gw.name, Client)
    reply = ng.command("offer", call_id="none", from_tag="a", sdp=sdp("10.64.0.2", 4000), metadata="caller=alice;callee=bob")
    t.say(f"ng offer from an address without a session: {reply.get('error-reason', reply['result'])}")
    equal([m for m in gw.ctl.media() if any(leg["kind"] == "unit" for leg in m["legs"])], [], "secondaries")

    readable = t.dir / "readable.psk"
    readable.write_text(key + "\n")
    readable.chmod(0o644)
    agent = t.agent(net.ue, gw, "alice", readable, start=False).start()
    equal(agent.process.wait(10), 1, "exit status with a key file that others may read")
    check(re.search(r"mode 0644 lets others read the key; run chmod 600", agent.process.log()), "it says what to do")

    alice = t.agent(net.ue, gw, "alice", right)
    pid = alice.process.pid
    for file in ("cmdline", "environ"):
        with open(f"/proc/{pid}/{file}", "rb") as f:
            check(key.encode() not in f.read(), f"no key in {file}")
    status = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status").read().splitlines() if ":" in line)
    equal((status["CapPrm"].strip(), status["CapBnd"].strip()), ("0" * 16, "0" * 16), "capabilities left")
    check(status["Uid"].split()[0] != "0", "the agent is not root any more")
    limits = open(f"/proc/{pid}/limits").read()
    check(re.search(r"Max core file size\s+0\s+0", limits), "no core dumps")
    shown = subprocess.run([program("tandem-agent"), "status", "--run-dir", str(alice.run_dir)], capture_output=True, text=True, check=False)
    equal(shown.returncode, 0, "exit status of tandem-agent status")
    for text in (shown.stdout, alice.process.log(), gw.controlplane.log()):
        check(key not in text and key.upper() not in text, "no key in status or logs")


main(test, "RIM-04 the primary is for who has the key")
