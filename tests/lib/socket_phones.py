# SPDX-License-Identifier: Apache-2.0
"""Phones that are sockets, and an ng client: calls whose packets are counted one by one.

    lab = Lab(t)
    a, b = lab.phone(), lab.phone()
    offer = lab.ok("offer", "call", sdp(*a.getsockname()[:2]))
    answer = lab.ok("answer", "call", sdp(*b.getsockname()), to_tag="b")
    lab.talk(a, where(answer), b, where(offer), "packets both ways")"""

import re
import socket
import struct

import netns
import ng
from harness import equal

COUNT = 20


def sdp(ip, port, way="sendrecv"):
    family = "IP6" if ":" in ip else "IP4"
    return (f"v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
            f"a={way}\r\n")


def where(text):
    return re.search(r"c=IN IP[46] (\S+)", text)[1], int(re.search(r"m=\w+ (\d+)", text)[1])


def rtp(n, ssrc):
    return struct.pack("!BBHII", 0x80, 0, n, n * 160, ssrc) + bytes(160)


class Lab:
    def __init__(self, t, **gateway):
        self.net = t.network(ue2=False)
        self.gw = t.gateway(self.net, kamailio=False, **gateway)
        self.net.meet()
        self.client = netns.inside(self.net.gw.name, lambda: ng.Client("127.0.0.1", 2223, 4.0))
        self.sequence = 0

    def phone(self, space=None, address=None):
        address = address or self.net.bob_address
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        s = netns.inside((space or self.net.core).name, lambda: socket.socket(family, socket.SOCK_DGRAM))
        s.bind((address, 0))
        s.settimeout(0.6)
        return s

    def ask(self, command, call, text, **keys):
        return self.client.request({"command": command, "call-id": call, "from-tag": "a", "sdp": text,
                                    **{k.replace("_", "-"): v for k, v in keys.items()}})

    def ok(self, command, call, text, **keys):
        reply = self.ask(command, call, text, **keys)
        equal((reply["result"], reply.get("error-reason")), ("ok", None), f"{command} of {call}")
        return reply["sdp"]

    def reason(self, command, call, text, **keys):
        return self.ask(command, call, text, **keys).get("error-reason", "(none)")

    def talk(self, a, to_a_port, b, to_b_port, what, expected=COUNT):
        counts = []
        for sender, to, hearer, ssrc in ((a, to_a_port, b, 0xa), (b, to_b_port, a, 0xb)):
            for _ in range(COUNT):
                self.sequence += 1
                sender.sendto(rtp(self.sequence & 0xffff, ssrc), to)
            heard = 0
            try:
                while heard < COUNT:
                    hearer.recv(2048)
                    heard += 1
            except socket.timeout:
                pass
            counts.append(heard)
        equal(counts, [expected, expected] if isinstance(expected, int) else expected, what)
