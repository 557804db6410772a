# SPDX-License-Identifier: Apache-2.0
"""A far end in the core without a phone: SDP text, and a UDP peer that sends back the RTP that it hears."""

import socket
import threading

import netns


def sdp(address, port, profile="RTP/AVP", more="", kind="audio", payload="0", session=1):
    family = "IP6" if ":" in address else "IP4"
    return (f"v=0\r\no=- {session} {session} IN {family} {address}\r\ns=-\r\nc=IN {family} {address}\r\nt=0 0\r\n"
            f"m={kind} {port} {profile} {payload}\r\na=rtpmap:0 PCMU/8000\r\n{more}a=sendrecv\r\n")


class CorePeer:
    """Listens on `port` (0 = any) in the namespace; echoes RTP, counts; .last is the last packet."""

    def __init__(self, space, port=0, echo=True):
        self.socket = netns.inside(space.name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.socket.bind(("0.0.0.0", port))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.port = self.socket.getsockname()[1]
        self.echo, self.received, self.last, self.source = echo, 0, b"", None
        self.sequences = {}  # SSRC -> [sequence, ...]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                data, source = self.socket.recvfrom(2048)
            except OSError:
                return
            if len(data) < 12 or 192 <= data[1] <= 223:
                continue
            self.received, self.last, self.source = self.received + 1, data, source
            self.sequences.setdefault(data[8:12], []).append(int.from_bytes(data[2:4], "big"))
            if self.echo:
                try:
                    self.socket.sendto(data, source)
                except OSError:
                    return

    def close(self):
        self.socket.close()
