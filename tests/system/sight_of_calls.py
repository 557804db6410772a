#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 90
"""tandemctl trace and capture of a call and of a unit: beside a unit's call that is spoken in and a core call that a stranger sends to,
each shows its own packets and no other's; what has no media, or no control plane to ask, is said."""
import json
import subprocess
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
from core_calls import Caller
from harness import check, equal, main
from media import Call


def places_of(gw, call_id):
    """Local addresses of a call's legs, as packets name them."""
    return {leg[key] for m in gw.ctl.media() if m["call_id"] == call_id for leg in m["legs"] for key in ("outer_rtp", "outer_rtcp")}


def traced(gw, *whose):
    """Where the next packets of somebody went, ADDRESS:PORT."""
    status, out, err = gw.ctl.raw("trace", 20, "--seconds", 3, *whose, json_output=True)
    equal((status, err), (0, ""), f"trace {whose}")
    return [json.loads(line)["destination"] for line in out.splitlines()]


def captured(t, gw, *whose):
    """The same of a capture of 40 packets, in and out: both ends of each packet."""
    path = t.dir / "of.pcapng"
    status, _, err = gw.ctl.raw("capture", "-w", path, "--count", 40, "--seconds", 5, *whose)
    equal((status, err), (0, ""), f"capture {whose}")
    out = subprocess.run(["tshark", "-r", str(path), "-T", "fields", "-e", "ip.src", "-e", "udp.srcport", "-e", "ip.dst", "-e", "udp.dstport"],
                         capture_output=True, text=True, timeout=60, check=True).stdout
    return [(f"{a}:{b}", f"{c}:{d}") for a, b, c, d in (line.split("\t") for line in out.splitlines())]


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False)
    alice = t.agent(net.ue, gw, "alice")
    call = Call(gw, net.ue, alice.inner(), net.core, net.bob_address)
    t.defer(call.close)
    calls = Caller(gw, net.bob_address)
    calls.begin("other@call")
    mine, other = places_of(gw, call.call_id), places_of(gw, "other@call")
    noise = t.start("noise", [sys.executable, "-c", f"""
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    for address, port in {sorted(p.rsplit(":", 1) for p in other)}:
        s.sendto(b"\\x80" + bytes(60), (address, int(port)))
    time.sleep(0.02)
"""], net.core)

    for whose in (("--call", call.call_id), ("--unit", "alice")):
        to = traced(gw, *whose)
        equal(len(to), 20, f"packets of {whose}")
        check(set(to) <= mine and len(set(to)) >= 2, f"{whose}: {set(to)} of {mine}")
        ends = captured(t, gw, *whose)
        check(len(ends) == 40 and all({a, b} & mine and not {a, b} & other for a, b in ends), f"capture {whose}: {set(ends)}")
        check({a in mine for a, _ in ends} == {True, False}, f"capture {whose}: in and out: {set(ends)}")
    to = traced(gw, "--call", "other@call")
    check(len(to) == 20 and set(to) <= other, f"of the other call: {set(to)} of {other}")

    for words, text, status in ((("--call", "none@call"), "call none@call has no media now", 1), (("--unit", "bob"), "unit bob has no media now", 1),
                                (("--call", "a", "--unit", "b"), "excludes", 2), (("--flow", "192.0.2.1:1", "--call", "a"), "excludes", 2)):
        for verb in (("trace", 1), ("capture", "-w", "/dev/null")):
            got, _, err = gw.ctl.raw(*verb, *words)
            check(got == status and text in err, f"{verb[0]} {words}: {got}, {err}")
    noise.stop()
    audit = [json.loads(line) for line in (gw.run_dir / "audit.log").read_text().splitlines()]
    equal({frozenset(line["places"]) for line in audit if line["event"] == "capture_start" and line["places"]}, {frozenset(mine)}, "places in the audit log")
    gw.controlplane.stop()
    got, _, err = gw.ctl.raw("trace", 1, "--call", call.call_id)
    equal(got, 3, f"without a control plane: {err}")


main(test, "tandemctl: trace and capture of a call and of a unit")
