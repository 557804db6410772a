#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Where a core leg's clear media come from is learned as [media] endpoint_learning and the flags say: a phone behind NAT, an SBC's sibling,
a carrier's NAT are heard; whoever came first gives way to the right party and comes back by no packet; a re-offer brings a lost leg back;
`media show` and `drops wrong_source` tell it."""
import os
import re
import select
import socket
import struct
import sys
import time
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT + "/tests/lib")
import netns
import ng
from harness import Network, check, equal, main, wait_until

PEER, PHONE, SIBLING, THIEF, CARRIER = "198.51.100.10", "198.51.100.11", "198.51.100.12", "203.0.113.66", "100.64.0.9"


class Lab:
    def __init__(self, t):
        self.net = Network(t.prefix, ue2=False)
        t.defer(self.net.delete)
        self.net.core.address("core0", *(f"{ip}/24" for ip in (PHONE, SIBLING)), f"{THIEF}/32", f"{CARRIER}/32")
        for ip in (THIEF, CARRIER):
            self.net.gw.run("ip", "route", "add", f"{ip}/32", "dev", "core0")
        self.gateway = t.gateway(self.net, kamailio=False)
        self.net.meet(PEER, PHONE, SIBLING, THIEF, CARRIER)
        self.client = netns.inside(self.net.gw.name, lambda: ng.Client("127.0.0.1", 2223, 4.0))
        self.number = 0

    def socket(self, ip):
        s = netns.inside(self.net.core.name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        s.bind((ip, 0))
        return s

    def do(self, command, **keys):
        reply = self.client.request({"command": command, "call-id": self.call, "from-tag": "a", **{k.replace("_", "-"): v for k, v in keys.items()}})
        equal(reply["result"], "ok", f"{command}: {reply}")
        return where(reply["sdp"])

    # A call of a peer that is where it says, and of a phone whose SDP and SIP message say so.
    def talk(self, sdp_address, received_from, port=4444, flags=()):
        self.number += 1
        self.call = f"learn{self.number}"
        self.peer = self.socket(PEER)
        self.to_phone = self.do("offer", sdp=sdp(*self.peer.getsockname()))
        self.answer = {"sdp": sdp(sdp_address, port), "received_from": ["IP4", received_from], "to_tag": "b", "flags": list(flags)}
        self.to_peer = self.do("answer", **self.answer)

    def heard(self, s, ssrc=7):  # by the peer, when this one speaks
        return len(pass_on(s, self.to_phone, self.peer, ssrc))

    def reached(self, s):  # when the peer speaks
        return len(pass_on(self.peer, self.to_peer, s, 0x1234))

    def media(self):
        return next(m for m in self.gateway.ctl("media", "list")["media"] if m["call_id"] == self.call)


def sdp(ip, port):
    return (f"v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n")


def where(text):
    return re.search(r"c=IN IP4 (\S+)", text)[1], int(re.search(r"m=\w+ (\d+)", text)[1])


SEQUENCE = [100]


def pass_on(sender, to, receiver, ssrc):
    while select.select([receiver], [], [], 0)[0]:
        receiver.recv(2048)
    for _ in range(5):
        SEQUENCE[0] += 1
        sender.sendto(struct.pack("!BBHII", 0x80, 0, SEQUENCE[0], SEQUENCE[0] * 160, ssrc) + bytes(160), to)
    out = []
    while len(out) < 5 and select.select([receiver], [], [], 0.4)[0]:
        out.append(receiver.recv(2048))
    return out


def test(t):
    lab = Lab(t)
    thief, phone = lab.socket(THIEF), lab.socket(PHONE)

    for what, speaker, said, sip in (("the port in the SDP is not the mapped one", phone, PHONE, PHONE), ("an SBC's sibling", lab.socket(SIBLING), PHONE, PHONE),
                                     ("received-from behind a carrier's NAT", lab.socket(CARRIER), "10.1.1.5", CARRIER)):
        lab.talk(said, sip)
        equal((lab.heard(speaker), lab.reached(speaker)), (5, 5), f"{what}: heard, and reached")

    # Whoever comes first has the leg until the right party speaks; then it is deaf to him.
    lab.talk(PHONE, PHONE)
    equal((lab.heard(thief), lab.reached(thief)), (5, 5), "nobody else speaks")
    equal((lab.heard(phone, 8), lab.reached(phone)), (5, 5), "the right party takes its leg")
    equal((lab.heard(thief), lab.reached(thief)), (0, 0), "and keeps it")
    leg = lab.media()["legs"][1]
    equal((leg["remote"].split(":")[0], leg["source_rule"], leg["learning"]), (PHONE, "address", "once"), f"what is shown: {leg}")
    check(0 <= leg["source_seconds"] < 10, f"since when: {leg['source_seconds']}")
    equal(leg["received"]["wrong_source"], 5, "packets from somebody else")
    rows = lab.gateway.ctl("drops", "wrong_source")["calls"]
    equal([(r["call_id"], r["leg"], r["packets"]) for r in rows], [(lab.call, 1, 5)], "the calls that strangers sent to")

    # The window is over: the thief that nobody contradicted has the leg, until signalling.
    lab.talk(PHONE, PHONE)
    equal(lab.heard(thief), 5, "nobody else speaks")
    time.sleep(3.1)
    equal(lab.heard(phone, 8), 0, "too late")
    lab.do("offer", sdp=sdp(*lab.peer.getsockname()), to_tag="b")
    lab.to_peer = lab.do("answer", **lab.answer)
    equal((lab.heard(phone, 8), lab.heard(thief), lab.reached(phone)), (5, 0, 5), "a re-offer brings it back")
    time.sleep(3.1)
    equal(lab.heard(lab.socket(PHONE), 9), 5, "another port and SSRC of the address that was learned")

    # What the callee sends before its answer is here.
    lab.call = "early"
    lab.to_phone = lab.do("offer", sdp=sdp(*lab.peer.getsockname()))
    equal(lab.heard(phone), 5, "early media")
    lab.to_peer = lab.do("answer", sdp=sdp(PHONE, 4444), to_tag="b")
    equal((lab.heard(phone), lab.reached(phone), lab.heard(thief)), (5, 5, 0), "and after the answer")

    lab.talk(PHONE, PHONE, flags=["asymmetric"])
    equal((lab.heard(phone), lab.heard(thief), lab.heard(lab.socket(SIBLING))), (5, 0, 0), "asymmetric: the signalled address alone")
    lab.talk(PHONE, PHONE, flags=["endpoint-learning-off", "strict-source"])
    equal(lab.heard(phone), 0, "strict: another port")
    lab.talk(PHONE, PHONE, port=phone.getsockname()[1], flags=["endpoint-learning-off", "strict-source"])
    equal((lab.heard(phone), lab.reached(phone)), (5, 5), "strict: its port")
    lab.talk(PHONE, PHONE, flags=["media-handover"])
    equal((lab.heard(phone), lab.reached(phone)), (5, 5), "media-handover")
    time.sleep(0.2)
    equal((lab.heard(thief), lab.reached(thief)), (5, 5), "media-handover: whoever speaks")


main(test, "the source of clear media is learned")
