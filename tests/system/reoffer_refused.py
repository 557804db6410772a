#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A refused re-offer leaves the running call as it was (RFC 3261 14.1, RFC 3264 8), whatever it asked for: another address family,
core instead of a unit, SDES, hold, a second line that cannot be had; refused by the other end (no answer comes), by us in the offer,
or in the answer. Speech flows both ways meanwhile, and no port is kept."""
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from harness import check, equal, main
from media import Call
from peer import sdp

V6 = "2001:db8:2::10"
KEY = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\n"
VIDEO = "m=video 4100 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"


def on_hold(address, port):
    return sdp(address, port, more="a=sendonly\r\n").replace("a=sendrecv\r\n", "")


def test(t):
    net = t.network(ue2=False)
    net.core.address("core0", V6 + "/64")
    gw = t.gateway(net, kamailio=False, access_more=[("core", "2001:db8:2::2")], level={"rekey_s": 60})
    alice = t.agent(net.ue, gw, "alice")
    call = Call(gw, net.ue, alice.inner(), net.core, net.bob_address)
    t.defer(call.close)

    def ask(name, who, body, **more):
        tags = {"from_tag": who, "to_tag": "b" if who == "a" else "a"}
        return call.ng.command(name, call_id=call.call_id, sdp=body, **tags, **more)

    def as_before(what, begin):
        time.sleep(0.6)
        for side, phone, other in (("core", call.core, call.unit), ("unit", call.unit, call.core)):
            heard, sent = len(phone.heard_since(begin)), sum(when >= begin for when, _ in other.sent)
            check(heard >= sent - 5, f"{what}: {side} hears {heard} of {sent} packets")
        equal([leg["suite"] for leg in call.media()["legs"]], before, f"{what}: suites")

    time.sleep(0.5)
    before = [leg["suite"] for leg in call.media()["legs"]]
    a, b = (alice.inner(), call.unit.port), (net.bob_address, call.core.port)
    wishes = (("IPv6", "b", sdp(V6, 25000)), ("hold and IPv6", "b", on_hold(V6, 25000)),
              ("core instead of the unit", "a", sdp(net.bob_address, 26000)), ("SDES", "b", sdp(*b, profile="RTP/SAVP", more=KEY)),
              ("mux", "b", sdp(*b, more="a=rtcp-mux\r\n")), ("a second line", "a", sdp(*a) + VIDEO))
    for what, who, body in wishes:  # answered 488: no answer comes here
        begin = time.monotonic()
        equal(ask("offer", who, body)["result"], "ok", f"offer of {what}")
        as_before(f"{what}, refused by the other end", begin)
    bad = (("DTLS alone", "b", sdp(V6, 25000, profile="UDP/TLS/RTP/SAVP")),
           ("SAVP from behind the agent", "a", sdp(*a, profile="RTP/SAVP", more=KEY)),
           ("a second line without keys", "b", sdp(*b) + VIDEO.replace("RTP/AVP", "RTP/SAVP")))
    for what, who, body in bad:
        begin = time.monotonic()
        equal(ask("offer", who, body)["result"], "error", f"offer of {what}")
        as_before(f"{what}, refused in the offer", begin)
    begin = time.monotonic()
    equal(ask("offer", "a", on_hold(*a) + VIDEO)["result"], "ok", "offer of hold and a second line")
    refused = ask("answer", "a", sdp(*b) + VIDEO.replace("RTP/AVP", "RTP/SAVP"))
    equal(refused["result"], "error", "answer whose second line is in another profile")
    as_before("the second line refused in the answer", begin)

    begin = time.monotonic()  # and one that is accepted, after all that
    equal(ask("offer", "b", sdp(*b, more="a=rtcp-mux\r\n"), rtcp_mux=["accept"])["result"], "ok", "re-offer")
    equal(ask("answer", "b", sdp(*a))["result"], "ok", "its answer")
    as_before("a re-offer that is accepted", begin)
    equal(len(gw.ctl.media()), 1, "media of the call")
    call.hang_up()


main(test, "a refused re-offer leaves the call as it was")
