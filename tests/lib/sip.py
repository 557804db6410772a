# SPDX-License-Identifier: Apache-2.0
"""A SIP user agent of a page, for tests that look at what a proxy does with calls: one UDP socket, one call at a time. What the
peer sends is answered by a thread (200 to an INVITE with `sdp`, 200 to all else); what it was asked is kept in `requests`.

    bob = Agent("bob", net.core, "198.51.100.10", 5070, proxy="198.51.100.1"); bob.register()
    call = alice.invite("bob", call_id="x1"); call.bye()"""

import hashlib
import re
import socket
import threading
import time

import netns as _netns
from sip_gateway import enrol


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
    def __init__(self, user, space, address, port, proxy, media_port=7000, enrolled=True):
        self.user, self.address, self.port, self.proxy = user, address, port, proxy
        self.password = enrol(user, proxy, address) if enrolled else None
        self.sdp, self.requests, self._replies = sdp(address, media_port), [], {}
        self._news, self._branches = threading.Condition(), 0
        self._registers = 0

        def bound():
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.bind((address, port))
            return s

        self.socket = _netns.inside(space.name, bound)
        self._closed, self.on_request = False, None  # on_request(agent, request): True where it has answered
        self.seen_as = (address, port)  # what it says of itself, in Via and Contact
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
        if method == "ACK" or (self.on_request and self.on_request(self, text)):
            return
        self.respond(text, "200 OK", body=self.sdp if method == "INVITE" else "")

    def respond(self, request, status, extra=(), body=""):
        vias = re.findall(r"^(?:Via|Record-Route):.*?\r?$", request, re.M | re.I)
        to = header(request, "To")
        lines = [f"SIP/2.0 {status}", *[v.rstrip("\r") for v in vias], f"From: {header(request, 'From')}",
                 f"To: {to}{'' if 'tag=' in to else f';tag={self.user}'}", f"Call-ID: {header(request, 'Call-ID')}",
                 f"CSeq: {header(request, 'CSeq')}", f"Contact: <sip:{self.user}@{self.seen_as[0]}:{self.seen_as[1]}>", *extra]
        self._send(lines, body)

    def _send(self, lines, body=""):
        if body and not any(line.lower().startswith("content-type:") for line in lines):
            lines = [*lines, "Content-Type: application/sdp"]
        text = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", body])
        self.socket.sendto(text.encode(), (self.proxy, 5060))

    def request(self, method, uri, to, call_id, cseq, routes=(), body="", timeout=10.0, extra=(), sender=None):
        """Sends it (again each second), with a digest where one is asked for, returns the final reply; None after an ACK. `extra`:
        more header lines, `sender`: another From's user."""
        reply = self._request(method, uri, to, call_id, cseq, routes, body, timeout, extra, sender)
        asked = re.match(r"SIP/2.0 (401|407) ", reply or "")
        if not asked or self.password is None:
            return reply
        if method == "INVITE":
            self._request("ACK", uri, header(reply, "To"), call_id, cseq, routes, "", timeout, (), sender, again=True)
        return self._request(method, uri, to, call_id, cseq, routes, body, timeout, (*extra, self._digest(method, uri, reply)), sender)

    def _digest(self, method, uri, reply):
        answer, question = ("Authorization", "WWW-Authenticate") if " 401 " in reply[:12] else ("Proxy-Authorization", "Proxy-Authenticate")
        asked = dict(re.findall(r'(\w+)="?([^",]+)"?', header(reply, question)))

        def md5(text):
            return hashlib.md5(text.encode()).hexdigest()

        ha1, ha2 = md5(f"{self.user}:{asked['realm']}:{self.password}"), md5(f"{method}:{uri}")
        response = md5(f"{ha1}:{asked['nonce']}:00000001:c0ffee:auth:{ha2}")
        return (f'{answer}: Digest username="{self.user}", realm="{asked["realm"]}", nonce="{asked["nonce"]}", uri="{uri}", '
                f'response="{response}", algorithm=MD5, qop=auth, nc=00000001, cnonce="c0ffee"')

    def _request(self, method, uri, to, call_id, cseq, routes, body, timeout, extra, sender, again=False):
        self._branches += 0 if again else 1
        lines = [f"{method} {uri} SIP/2.0", f"Via: SIP/2.0/UDP {self.seen_as[0]}:{self.seen_as[1]};branch=z9hG4bK{self.port}x{self._branches}",
                 "Max-Forwards: 70", *[f"Route: {r}" for r in routes], f"From: <sip:{sender or self.user}@{self.proxy}>;tag={self.user}",
                 f"To: {to}", f"Call-ID: {call_id}", f"CSeq: {cseq} {method}", *extra]
        if not any(line.startswith("Contact:") for line in extra):
            lines.append(f"Contact: <sip:{self.user}@{self.seen_as[0]}:{self.seen_as[1]}>")
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
        reply = self.try_register()
        if " 200 " not in reply:
            raise SipError(f"REGISTER: {reply}")
        return self

    def try_register(self, user=None, extra=(), sender=None):
        """The reply's status line; user: To, sender: From, extra: more header lines, such as another Contact."""
        self._registers += 1
        to = f"<sip:{user or self.user}@{self.proxy}>"
        return self.request("REGISTER", f"sip:{self.proxy}", to, f"reg-{self.user}-{self.port}", self._registers, extra=extra,
                            sender=sender).splitlines()[0]

    def invite(self, user, call_id, sender=None):
        """The call, up; SipError with the status line where it is refused."""
        to = f"<sip:{user}@{self.proxy}>"
        reply = self.request("INVITE", f"sip:{user}@{self.proxy}", to, call_id, 1, body=self.sdp, sender=sender)
        call = Call(self, call_id, reply, 1)
        if " 200 " not in reply.splitlines()[0]:
            self.request("ACK", f"sip:{user}@{self.proxy}", header(reply, "To"), call_id, 1)
            raise SipError(reply.splitlines()[0])
        call.ack()
        return call

    def replies(self, call_id, cseq):
        with self._news:
            return [r for r in self._replies.get(cseq, []) if header(r, "Call-ID") == call_id]

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
