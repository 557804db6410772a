#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 150
"""Interoperability on the core leg: bob's baresip asks for SRTP with SDES (libsrtp behind it); alice behind her agent speaks plain RTP
to it. Our SRTP towards the core is judged by a third party: speech in both recordings, no plain RTP on the core's wire."""
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
sys.path.insert(0, sys.path[0] + "/../../tools/dev/demo")
import speech
from baresip import Baresip
from capture import Rtp
from harness import check, equal, main

SECONDS = 12


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net)
    alice = t.agent(net.ue, gw, "alice")
    core = t.capture(net.core, "core0")
    phones, said = {}, {}
    for name, space, address, registrar, srtp in (("alice", net.ue, alice.inner(), gw.inner, False),
                                                  ("bob", net.core, net.bob_address, gw.core, True)):
        said[name] = speech.make(t.dir / f"{name}.wav", 60, len(phones) + 5)
        phones[name] = Baresip(name, t.dir / name, space, address=address, registrar=registrar, play=said[name], srtp=srtp,
                               log_dir=t.log_dir)
        t.defer(phones[name].stop)
        phones[name].start()
    for phone in phones.values():
        phone.wait_registered(15)
    # bob offers RTP/SAVP with his keys; the gateway ends them and offers plain RTP to alice's phone.
    phones["bob"].dial("alice")
    phones["bob"].wait_established(20)
    time.sleep(SECONDS)
    legs = gw.ctl.media()[0]["legs"]
    outer = next(x for x in legs if x["kind"] == "core")
    check(outer["suite"].startswith(("AES_CM_128", "AEAD_AES")), f"the core leg is SRTP: {outer['suite']}")
    equal([x["received"]["auth_failures"] for x in legs], [0, 0], "authentication failures")
    phones["bob"].hang_up()
    phones["alice"].wait_closed(10)
    time.sleep(1)
    rtp = [f for f in core.stop() if f.is_udp and f.sport != 5060 and f.dport != 5060 and Rtp(f.payload)]
    check(len(rtp) > 80 * SECONDS, f"media cross the core: {len(rtp)} packets")
    plain = [f for f in rtp if len(f.payload) == 172]  # 12 + 160: no room for a tag
    equal(len(plain), 0, "packets on the core's wire without a tag")
    for listener, speaker in (("alice", "bob"), ("bob", "alice")):
        peak, _ = speech.correlation(phones[listener].heard, said[speaker])
        t.say(f"{listener} heard {speaker}: correlation {peak:.4f}")
        check(peak >= 0.95, f"{listener} hears {speaker}'s speech: {peak:.3f}")


main(test, "SDES on the core leg, against another SRTP")
