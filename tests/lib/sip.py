# SPDX-License-Identifier: Apache-2.0
"""A SIP user agent of a page, for tests that look at what a proxy does with calls: one UDP socket, one call at a time. What the
peer sends is answered by a thread (200 to an INVITE with `sdp`, 200 to all else); what it was asked is kept in `requests`.

    bob = Agent("bob", net.core, "198.51.100.10", 5070, proxy="198.51.100.1"); bob.register()
    call = alice.invite("bob", call_id="x1"); call.bye()"""

import re
import socket
import threading
import time

import netns as _netns


def sdp(address, port):
    return (f"v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\nm=audio {port} RTP/AVP 8\r\n"
            "a=rtpmap:8 PCMA/8000\r\n")


def media_of(text):
    """(address, port) of a message's SDP, None where it has none."""
    address, port = re.search(r"^c=IN IP4 (\S+)", text, re.M), re.search(r"^m=audio (\d+)", text, re.M)
    return (address[1], int(port[1])) if address and port else None


def header(text, name):
    found = re.search(rf"^{name}\s*:\s*(.*?)\r?$", text, re.M | re.I)
    return found[1] if found else ""


class SipError(Exception):
    pass


class Agent:
    def __init__(self, user, space, address, port, proxy, media_port=7000):
        self.user, self.address, self.port, self.proxy = user, address, port, proxy
        self.sdp, self.requests, self._replies = sdp(address, media_port), [], {}
        self._news, self._branches = threading.Condition(), 0

        def bound():
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.bind((address, port))
            return s

        self.socket = _netns.inside(space.name, bound)
        self._closed = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def close(self):
        self._closed = True
        self.socket.close()

    def _listen(self):
        self.socket.settimeout(0.2)
        while not self._closed:
            try:
                text = self.socket.recv(65535).decode("utf-8", "replace")
            except socket.timeout:
                continue
            except OSError:
                return
            with self._news:
                if text.startswith("SIP/2.0"):
                    self._replies.setdefault(header(text, "CSeq"), []).append(text)
                else:
                    self.requests.append(text)
                    self._answer(text)
                self._news.notify_all()

    def _answer(self, text):
        method = text.split(" ", 1)[0]
        if method == "ACK":
            return
        vias = re.findall(r"^(?:Via|Record-Route):.*?\r?$", text, re.M | re.I)
        to = header(text, "To")
        lines = ["SIP/2.0 200 OK", *[v.rstrip("\r") for v in vias], f"From: {header(text, 'From')}",
                 f"To: {to}{'' if 'tag=' in to else f';tag={self.user}'}", f"Call-ID: {header(text, 'Call-ID')}",
                 f"CSeq: {header(text, 'CSeq')}", f"Contact: <sip:{self.user}@{self.address}:{self.port}>"]
        body = self.sdp if method == "INVITE" else ""
        self._send(lines, body)

    def _send(self, lines, body=""):
        if body:
            lines = [*lines, "Content-Type: application/sdp"]
        text = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", body])
        self.socket.sendto(text.encode(), (self.proxy, 5060))

    def request(self, method, uri, to, call_id, cseq, routes=(), body="", timeout=10.0):
        """Sends it (again each second), returns the final reply; None after an ACK."""
        self._branches += 1
        lines = [f"{method} {uri} SIP/2.0", f"Via: SIP/2.0/UDP {self.address}:{self.port};branch=z9hG4bK{self.port}x{self._branches}",
                 "Max-Forwards: 70", *[f"Route: {r}" for r in routes], f"From: <sip:{self.user}@{self.proxy}>;tag={self.user}",
                 f"To: {to}", f"Call-ID: {call_id}", f"CSeq: {cseq} {method}", f"Contact: <sip:{self.user}@{self.address}:{self.port}>"]
        if method == "ACK":
            return self._send(lines, body)
        end, again = time.monotonic() + timeout, 0.0
        with self._news:
            self._replies.pop(f"{cseq} {method}", None)
            while time.monotonic() < end:
                for reply in self._replies.get(f"{cseq} {method}", []):
                    if not reply.startswith("SIP/2.0 1") and header(reply, "Call-ID") == call_id:
                        return reply
                if time.monotonic() >= again:
                    self._send(lines, body)
                    again = time.monotonic() + 1.0
                self._news.wait(0.1)
        raise SipError(f"no final reply to {method} {uri} within {timeout:g} s")

    def register(self):
        me = f"sip:{self.user}@{self.proxy}"
        reply = self.request("REGISTER", f"sip:{self.proxy}", f"<{me}>", f"reg-{self.user}", 1)
        if " 200 " not in reply.splitlines()[0]:
            raise SipError(f"REGISTER: {reply.splitlines()[0]}")
        return self

    def invite(self, user, call_id):
        """The call, up; SipError with the status line where it is refused."""
        to = f"<sip:{user}@{self.proxy}>"
        reply = self.request("INVITE", f"sip:{user}@{self.proxy}", to, call_id, 1, body=self.sdp)
        call = Call(self, call_id, reply, 1)
        if " 200 " not in reply.splitlines()[0]:
            self.request("ACK", f"sip:{user}@{self.proxy}", header(reply, "To"), call_id, 1)
            raise SipError(reply.splitlines()[0])
        call.ack()
        return call

    def asked(self, method, call_id):
        with self._news:
            return [r for r in self.requests if r.startswith(method + " ") and header(r, "Call-ID") == call_id]


class Call:
    def __init__(self, agent, call_id, reply, cseq):
        self.agent, self.call_id, self.cseq, self.reply = agent, call_id, cseq, reply
        self.to = header(reply, "To")
        self.target = re.sub(r"[<>]", "", header(reply, "Contact"))
        self.routes = [r.strip() for line in re.findall(r"^Record-Route:\s*(.*?)\r?$", reply, re.M | re.I) for r in line.split(",")][::-1]

    @property
    def media(self):
        return media_of(self.reply)

    def ack(self):
        self.agent.request("ACK", self.target, self.to, self.call_id, self.cseq, self.routes)

    def again(self):
        """A re-INVITE; its final reply's status line."""
        self.cseq += 1
        self.reply = self.agent.request("INVITE", self.target, self.to, self.call_id, self.cseq, self.routes, self.agent.sdp)
        self.ack()
        return self.reply.splitlines()[0]

    def bye(self):
        self.cseq += 1
        return self.agent.request("BYE", self.target, self.to, self.call_id, self.cseq, self.routes).splitlines()[0]
