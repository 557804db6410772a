# SPDX-License-Identifier: Apache-2.0
"""An ng server that anchors media nowhere: it keeps what it was asked, and puts its own address and port into each SDP.

    fake = FakeNg(space, anchor="198.51.100.2"); fake.asked("offer"); fake.mode = "silent"; fake.calls"""

import re
import socket
import threading

import netns as _netns
from ng import decode, encode


FULL = ("Parallel session limit reached", "Ran out of ports")


class FakeNg:
    def __init__(self, space, anchor, port=2223):
        self.anchor, self.mode = anchor, "ok"  # "silent", or an error-reason
        self.requests, self.calls, self._cookies, self._lock = [], set(), {}, threading.Lock()

        def bound():
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.bind(("127.0.0.1", port))
            return s

        self.socket = _netns.inside(space.name, bound)
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self.socket.close()

    def asked(self, command, call_id=None):
        with self._lock:
            return [r for r in self.requests if r["command"] == command and call_id in (None, r.get("call-id"))]

    def _serve(self):
        while True:
            try:
                data, where = self.socket.recvfrom(65535)
            except OSError:
                return
            cookie, _, body = data.partition(b" ")
            if self.mode == "silent":
                continue
            if cookie not in self._cookies:
                self._cookies[cookie] = encode(self._reply(decode(body)))
            self.socket.sendto(cookie + b" " + self._cookies[cookie], where)

    def _reply(self, request):
        with self._lock:
            self.requests.append(request)
            command = request["command"]
            if command == "ping":
                return {"result": "pong"}
            if self.mode in FULL and command == "delete":
                return {"result": "ok"}  # it was turned away for want of room
            if self.mode != "ok":
                return {"result": "error", "error-reason": self.mode}
            if command == "offer":
                self.calls.add(request["call-id"])
            elif command == "delete":
                self.calls.discard(request["call-id"])
            if "sdp" not in request:
                return {"result": "ok"}
        sdp = re.sub(r"^(c=IN IP4 |o=.* IP4 )\S+", rf"\g<1>{self.anchor}", request["sdp"], flags=re.M)
        return {"result": "ok", "sdp": re.sub(r"^(m=\w+ )[1-9]\d*", r"\g<1>20000", sdp, flags=re.M)}
