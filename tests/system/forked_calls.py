#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 150
"""Forked calls (RFC 3261 16.6), with packets: each branch's phone gets media under the key that its own INVITE carried; the delete of a
branch that lost leaves the call; a call whose Call-ID is no UTF-8 goes on over a kill of the control plane."""
import base64
import hashlib
import hmac
import os
import re
import socket
import struct
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
import ng
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from harness import check, equal, main, wait_until

SUITE = "AES_CM_128_HMAC_SHA1_80"


def sdp(phone, proto="RTP/AVP", more=""):
    ip, port = phone.getsockname()
    return (f"v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} {proto} 0\r\na=rtpmap:0 PCMU/8000\r\n{more}")


def where(text):
    return re.search(r"c=IN IP4 (\S+)", text)[1], int(re.search(r"m=\w+ (\d+)", text)[1])


def offered(text):
    tag, key = re.search(rf"a=crypto:(\d+) {SUITE} inline:(\S+)", text).groups()
    return tag, base64.b64decode(key + "=" * (-len(key) % 4))


def taking(tag):
    return f"a=crypto:{tag} {SUITE} inline:{base64.b64encode(os.urandom(30)).decode()}\r\n"


def under(key, packet):
    """Whether an SRTP packet of the first 65,536 has a good tag under this master key and salt (RFC 3711 4.2, 4.3)."""
    iv = ((int.from_bytes(key[16:], "big") ^ (1 << 48)) << 16).to_bytes(16, "big")
    auth = Cipher(algorithms.AES(key[:16]), modes.CTR(iv)).encryptor().update(bytes(20))
    return hmac.new(auth, packet[:-10] + bytes(4), hashlib.sha1).digest()[:10] == packet[-10:]


class Lab:
    def __init__(self, t):
        net = t.network(ue2=False)
        self.gw = t.gateway(net, kamailio=False)
        net.meet()
        self.space = net.core
        self.address = net.bob_address
        self.client = netns.inside(net.gw.name, lambda: ng.Client("127.0.0.1", 2223, 4.0))
        self.sequence = 0

    def phone(self):
        s = netns.inside(self.space.name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        s.bind((self.address, 0))
        s.settimeout(0.6)
        return s

    def do(self, command, call, **keys):
        request = {"command": command, "call-id": call, "from-tag": "a", **{k.replace("_", "-"): v for k, v in keys.items()}}
        return self.client.request(request)

    def ok(self, command, call, **keys):
        reply = self.do(command, call, **keys)
        equal((reply["result"], reply.get("error-reason")), ("ok", None), f"{command} of {call!r}")
        return reply

    def passes(self, sender, to, hearer):
        """What of 5 packets comes through."""
        for _ in range(5):
            self.sequence += 1
            sender.sendto(struct.pack("!BBHII", 0x80, 0, self.sequence, self.sequence * 160, 0xa) + bytes(160), to)
        heard = []
        try:
            while len(heard) < 5:
                heard.append(hearer.recv(2048))
        except socket.timeout:
            pass
        return heard


def keys_of_branches(t, lab):
    for winner in ("br.0", "br.1"):
        a, b, call = lab.phone(), lab.phone(), f"keys-{winner}"
        sdps = {via: lab.ok("offer", call, via_branch=via, sdp=sdp(a), transport_protocol="RTP/SAVP")["sdp"] for via in ("br.0", "br.1")}
        tag, key = offered(sdps[winner])
        r = lab.ok("answer", call, via_branch=winner, to_tag="t", sdp=sdp(b, "RTP/SAVP", taking(tag)))
        heard = lab.passes(a, where(r["sdp"]), b)
        equal([under(key, w) for w in heard], [True] * 5, f"packets under the key of {winner}'s own INVITE")
        lab.ok("delete", call)
    t.say("either branch is heard under its own key")


def serial(t, lab):
    for named in (True, False):
        a, b, c, call = lab.phone(), lab.phone(), lab.phone(), f"serial-{named}"
        via = (lambda n: {"via_branch": f"br.{n}"}) if named else (lambda n: {})
        first = lab.ok("offer", call, sdp=sdp(a), transport_protocol="RTP/SAVP", **via(0))["sdp"]
        lab.ok("answer", call, to_tag="t0", sdp=sdp(b, "RTP/SAVP", taking(offered(first)[0])), **via(0))
        second = lab.ok("offer", call, sdp=sdp(a), transport_protocol="RTP/SAVP", **via(1))["sdp"]
        shared = set(re.findall(r"inline:(\S+)", first)) & set(re.findall(r"inline:(\S+)", second))
        check(not shared, "the next destination sees no key of the first one's")
        tag, key = offered(second)
        r = lab.ok("answer", call, to_tag="t1", sdp=sdp(c, "RTP/SAVP", taking(tag)), **via(1))
        heard = lab.passes(a, where(r["sdp"]), c)
        equal([under(key, w) for w in heard], [True] * 5, "packets to the next destination under its own key")
        lab.ok("delete", call, to_tag="t0")
        equal(len(lab.passes(a, where(r["sdp"]), c)), 5, "packets after the first one's delete")
        lab.ok("delete", call)
    t.say("the next destination has its own key, with via-branch and without")


def bytes_of_call_id(t, lab):
    call, a, b = b"\xff\xfe-\xc3(\x01", lab.phone(), lab.phone()
    lab.ok("offer", call, sdp=sdp(a), via_branch="br.0")
    lab.ok("offer", call, sdp=sdp(a), via_branch="br.1")
    r = lab.ok("answer", call, sdp=sdp(b), via_branch="br.0", to_tag=b"\x80t")
    lab.gw.controlplane.kill()
    lab.gw.start_controlplane()
    check(lab.client.await_pong(), "the control plane is back")
    equal(len(lab.passes(a, where(r["sdp"]), b)), 5, "packets over the kill")
    wait_until(lambda: lab.do("query", call)["result"] == "ok", "the call is known under its own bytes", 10)
    lab.ok("delete", call, via_branch="br.1")
    equal(len(lab.passes(a, where(r["sdp"]), b)), 5, "packets after the loser's delete")
    lab.ok("delete", call, to_tag=b"\x80t")
    wait_until(lambda: not lab.gw.ctl.media(), "the call ends whole", 5)
    equal(lab.do("delete", call, flags=["fatal"])["result"], "error", "delete of what is not there, fatal")


def test(t):
    lab = Lab(t)
    keys_of_branches(t, lab)
    serial(t, lab)
    bytes_of_call_id(t, lab)


main(test, "forked_calls: keys, ends, bytes")
