#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""Programs on the gateway's own host, at addresses of its kernel, are peers like any other: a phone's call to a PBX there, one between
two of them, a unit's; and again after the data plane was killed."""
import os
import signal
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
from harness import check, main
from socket_phones import Lab, sdp, where


def call(lab, name, a, b, **keys):
    there = lab.ok("offer", name, sdp(*a.getsockname()[:2]), **keys)
    here = lab.ok("answer", name, sdp(*b.getsockname()[:2]), to_tag="b", **keys)
    lab.talk(a, where(here), b, where(there), f"packets of {name}")
    return a, where(here), b, where(there), f"packets of {name} after the data plane was killed"


def unit(t, lab, pbx):
    inner = t.agent(lab.net.ue, lab.gw, "alice").inner()
    return call(lab, "unit to PBX", lab.phone(lab.net.ue, inner), pbx, metadata="caller=alice;callee=pbx", received_from=["IP4", inner])


def without(t, lab):
    """Another gateway that may not: said at the offer, and where the callee is there, at its answer."""
    lab.gw.stop()
    check("xdp" not in lab.net.gw.ip("link"), "no program is left on an interface")
    lab = Lab(t, dataplane={"host_peers": False})
    pbx, phone, word = lab.phone(lab.net.gw, lab.gw.core), lab.phone(), "an address of the gateway's own host"
    check(word in lab.reason("offer", "out", sdp(*pbx.getsockname()[:2])), "the offer says why")
    lab.ok("offer", "in", sdp(*phone.getsockname()[:2]))
    check(word in lab.reason("answer", "in", sdp(*pbx.getsockname()[:2]), to_tag="b"), "the answer says why")


def test(t):
    lab = Lab(t)
    kernel = lab.gw.core
    calls = [call(lab, "phone to PBX", lab.phone(), lab.phone(lab.net.gw, kernel)),
             call(lab, "PBX to phone", lab.phone(lab.net.gw, kernel), lab.phone()),
             call(lab, "PBX to itself", lab.phone(lab.net.gw, kernel), lab.phone(lab.net.gw, kernel)),
             unit(t, lab, lab.phone(lab.net.gw, kernel))]
    check("for calls' media alone" in lab.reason("offer", "taken", sdp(lab.net.access, 5353)), "a place that only calls have is refused")
    t.say(f"{len(calls)} calls with programs on the gateway's host: all packets pass")
    os.kill(lab.gw.dataplane_pid(), signal.SIGKILL)
    lab.gw.dataplane.wait_for(lambda: lab.gw.dataplane.log().count(" ready: ") == 2, "the next data plane is in force")
    for a, to, b, back, what in calls:
        lab.talk(a, to, b, back, what)
    without(t, lab)


main(test, "host_peers: peers on the gateway's own host")
