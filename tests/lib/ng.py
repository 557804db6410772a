# SPDX-License-Identifier: Apache-2.0
"""A small ng client: bencode and cookies over UDP, as Kamailio's rtpengine module sends them. For tests only."""

import itertools
import os
import socket
import time


def encode(value):
    """bencode; dictionaries keep their order, as rtpengine's own clients do."""
    if isinstance(value, bool):
        return encode(int(value))
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, (list, tuple)):
        return b"l" + b"".join(encode(v) for v in value) + b"e"
    if isinstance(value, dict):
        return b"d" + b"".join(encode(k) + encode(v) for k, v in value.items()) + b"e"
    raise TypeError(f"cannot bencode {type(value).__name__}")


def _decode(data, at):
    first = data[at:at + 1]
    if first == b"i":
        end = data.index(b"e", at)
        return int(data[at + 1:end]), end + 1
    if first == b"l":
        out, at = [], at + 1
        while data[at:at + 1] != b"e":
            item, at = _decode(data, at)
            out.append(item)
        return out, at + 1
    if first == b"d":
        out, at = {}, at + 1
        while data[at:at + 1] != b"e":
            key, at = _decode(data, at)
            out[key], at = _decode(data, at)
        return out, at + 1
    colon = data.index(b":", at)
    length = int(data[at:colon])
    text = data[colon + 1:colon + 1 + length]
    if len(text) != length:
        raise ValueError("bencode string is cut off")
    return text.decode("utf-8", "replace"), colon + 1 + length


def decode(data):
    value, end = _decode(data, 0)
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes after the bencode value")
    return value


class Client:
    """One UDP socket to one ng server. The dictionary's keys are given as they go on the wire."""

    _numbers = itertools.count()

    def __init__(self, host="127.0.0.1", port=2223, timeout=3.0):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.connect((host, port))
        self.socket.settimeout(timeout)

    def close(self):
        self.socket.close()

    def await_pong(self, tries=100):
        """Pings a server that has just been started until it answers; False where it never does."""
        for _ in range(tries):
            try:
                if self.request({"command": "ping"})["result"] == "pong":
                    return True
            except OSError:
                pass
            time.sleep(0.05)  # an error: the data plane has not said yet how it is
        return False

    def cookie(self):
        return f"{os.getpid()}_{next(self._numbers)}_{os.urandom(3).hex()}"

    def raw(self, datagram):
        """Sends bytes, returns the answer's bytes (socket.timeout where none comes)."""
        self.socket.send(datagram)
        return self.socket.recv(65535)

    def request(self, dictionary, cookie=None):
        cookie = cookie or self.cookie()
        wire = cookie.encode() + b" "
        answer = self.raw(wire + encode(dictionary))
        while not answer.startswith(wire):  # a late answer to an earlier request
            answer = self.socket.recv(65535)
        return decode(answer[len(wire):])

    def command(self, name, **keys):
        """command("offer", call_id="x", from_tag="y", sdp=...): underscores become hyphens."""
        return self.request({"command": name, **{k.replace("_", "-"): v for k, v in keys.items()}})


if __name__ == "__main__":
    import json
    import sys

    if len(sys.argv) < 3:
        sys.exit("usage: ng.py HOST:PORT COMMAND [key=value ...]")
    address, _, number = sys.argv[1].rpartition(":")
    reply = Client(address, int(number)).request(
        {"command": sys.argv[2], **dict(pair.split("=", 1) for pair in sys.argv[3:])})
    print(json.dumps(reply, indent=2))
