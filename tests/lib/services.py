# SPDX-License-Identifier: Apache-2.0
"""Services in the core and programs of a device that ask them, over connections that are to outlive the device's network."""

import hashlib
import socket
import threading
import time

import captured
import netns
from media import longest_gap

PIECE, PACE_S = 65536, 0.008
DOWNLOAD, ECHO, CLOSED, FORBIDDEN, REPORT = 8080, 7000, 7009, 7010, 7020


def piece(number):
    return hashlib.sha256(str(number).encode()).digest() * (PIECE // 32)


class Service:
    """In the core: serve(socket) in a thread of its own for each connection."""

    def __init__(self, net, port, serve):
        self.listener = netns.inside(net.core.name, lambda: socket.create_server((net.bob_address, port)))
        self.serve = serve
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.one, args=(connection,), daemon=True).start()

    def one(self, connection):
        with connection:
            try:
                self.serve(connection)
            except ConnectionResetError:
                pass  # one of the test's own

    def close(self):
        self.listener.close()


def send_pieces(connection, count):
    for number in range(count):
        connection.sendall(piece(number))
        time.sleep(PACE_S)


def send_back(connection):
    while octets := connection.recv(65536):
        connection.sendall(octets)


def send_hash(connection):
    """Of all that comes until the other side has closed its half."""
    whole = hashlib.sha256()
    while octets := connection.recv(65536):
        whole.update(octets)
    connection.sendall(whole.hexdigest().encode())


class Download(threading.Thread):
    def __init__(self, dial):
        super().__init__(daemon=True)
        self.connection, self.hash, self.octets, self.came = dial(DOWNLOAD), hashlib.sha256(), 0, []
        self.start()

    def run(self):
        while octets := self.connection.recv(65536):
            self.came.append((time.monotonic(), len(octets)))
            self.hash.update(octets)
            self.octets += len(octets)
        self.connection.close()

    def stall(self, begin, end):
        """The longest time in seconds without an octet between two moments."""
        return longest_gap(self.came, begin, end)


# Knows nothing of a tunnel; asks its socket who the peer is for each piece.
ASK = """
import hashlib, json, socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)
whole, octets, peers = hashlib.sha256(), 0, set()
while part := s.recv(65536):
    whole.update(part)
    octets += len(part)
    peers.add(s.getpeername())
print(json.dumps({"peers": sorted(peers), "octets": octets, "sha256": whole.hexdigest()}))
"""


class Program(threading.Thread):
    """In the captured cgroup: the same download."""

    def __init__(self, net, group, most_s=60):
        super().__init__(daemon=True)
        self.asks, self.most_s, self.said = (net.ue, group, ASK, net.bob_address, DOWNLOAD), most_s, None
        self.start()

    def run(self):
        self.said = captured.python(*self.asks, timeout=self.most_s)

    def end(self):
        self.join(60)
        return self.said


class Typist(threading.Thread):
    """A line each 20 ms; each must come back, in order."""

    def __init__(self, dial):
        super().__init__(daemon=True)
        self.connection, self.typed, self.back, self.stopping, self.wrong = dial(ECHO), 0, 0, False, ""
        self.came = []
        self.start()

    def run(self):
        with self.connection, self.connection.makefile("rb") as lines:
            while not self.stopping:
                self.connection.sendall(b"line %d\n" % self.typed)
                self.typed += 1
                if (got := lines.readline()) != b"line %d\n" % self.back:
                    self.wrong = repr(got)
                    return
                self.back += 1
                self.came.append((time.monotonic(), 1))
                time.sleep(0.02)
