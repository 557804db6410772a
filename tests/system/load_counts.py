#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tandem-load counts exactly what a relay did wrong: a relay that loses, doubles, swaps, spoils and invents packets in known numbers.
And it refuses what it must refuse."""
import os
import socket
import subprocess
import sys
import threading

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
from flows import SUITES
from harness import check, equal, main
from load import LoadError, load
from programs import program

RELAY, SENDER, RECEIVER, PACKETS = 30000, 30002, 30004, 1000


class BadRelay:
    """Forwards; of its packets, by number: 100, 200, .. lost; 150, 250, .. doubled; 333, 533, .. swapped with the next; 777, 877 spoilt."""

    def __init__(self, space, spoil):
        self.done = {"lost": 0, "duplicates": 0, "reordered": 0, "spoilt": 0, "foreign": 0}
        self.spoil, self.stop = spoil, threading.Event()
        self.socket = netns.inside(space.name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)
        self.socket.bind(("127.0.0.1", RELAY))
        self.socket.settimeout(0.1)
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def send(self, data):
        self.socket.sendto(data, ("127.0.0.1", RECEIVER))

    def serve(self):
        number, held = 0, None
        while not self.stop.is_set():
            try:
                data = self.socket.recv(2048)
            except OSError:
                continue
            number += 1
            if number % 100 == 0:
                self.done["lost"] += 1
                continue
            if number in (333, 533):
                held = data
                continue
            if number in (777, 877):
                data = data[:self.spoil] + bytes([data[self.spoil] ^ 1]) + data[self.spoil + 1:]
                self.done["spoilt"] += 1
            self.send(data)
            if held:
                self.send(held)
                held = None
                self.done["reordered"] += 1
            if number % 100 == 50:
                self.send(data)
                self.done["duplicates"] += 1
            if number == 410:
                self.send(b"\x80\x08" + bytes(200))
                self.send(b"hello")
                self.done["foreign"] += 2

    def close(self):
        self.stop.set()
        self.thread.join()
        self.socket.close()


def counts(t, space, suite, spoil, wrong):
    key = f"send * {'11' * sum(SUITES[suite])}\nreceive * {'11' * sum(SUITES[suite])}\n" if suite != "clear" else ""
    relay = BadRelay(space, spoil)
    try:
        r = load("--from-netns", space.name, "--from", f"127.0.0.1:{SENDER}", "--to", f"127.0.0.1:{RELAY}", "--receive",
                 f"127.0.0.1:{RECEIVER}", "--suite", suite, "--receive-suite", suite, "--streams", 1, "--rate", 1000, "--seconds", 1.5,
                 "--first-sequence", 65000, keys=key)
    finally:
        relay.close()
    done = relay.done
    t.say(f"{suite}: {r['sent']} sent; {done}")
    check(r["sent"] >= 900 and min(done.values()) > 0, f"the relay did each of its wrongs: {done}")
    equal(r["lost"], done["lost"] + done["spoilt"], "lost (a spoilt packet never arrives)")
    for name in ("duplicates", "reordered", "foreign"):
        equal(r[name], done[name], name)
    equal({n: r[n] for n in ("bad_tags", "bad_content")}, {"bad_tags": 0, "bad_content": 0, wrong: done["spoilt"]}, "what was spoilt")
    equal(r["received"] + r["lost"], r["sent"], "received and lost")


def refused(words, arguments, status, **more):
    try:
        load(*arguments, **more)
    except LoadError as e:
        check(f"ended with {status}" in str(e) and words in str(e), f"status {status} and '{words}': {e}")
        return
    check(False, f"refused: {arguments}")


def test(t):
    space = netns.Namespace(f"{t.prefix}-load")
    t.defer(space.delete)
    counts(t, space, "clear", 60, "bad_content")
    for suite in SUITES:
        counts(t, space, suite, 60, "bad_tags")
    ends = ["--from", "127.0.0.1:30010", "--to", "127.0.0.1:30012", "--seconds", "0.1"]
    refused("--to and --from are needed", [], 2)
    refused("no suite is called \"rot13\"", [*ends, "--suite", "rot13"], 2)
    refused("need --keys-file", [*ends, "--suite", "AEAD_AES_128_GCM"], 2)
    refused("is not a number from 1 to 65535", [*ends[:2], "--to", "127.0.0.1:70000"], 2)
    refused("the send key of stream 0 has 3 bytes, AEAD_AES_128_GCM needs 28", [*ends, "--suite", "AEAD_AES_128_GCM", "--no-receive"], 1,
            keys="send * aabbcc\n")
    refused("cannot bind", ["--from", "192.0.2.77:30010", *ends[2:]], 1)
    open_file = t.dir / "keys"
    open_file.write_text("send * 00\n")
    os.chmod(open_file, 0o644)
    done = subprocess.run([program("tandem-load"), *ends, "--suite", "AEAD_AES_128_GCM", "--keys-file", str(open_file)], capture_output=True,
                          text=True, check=False)
    check(done.returncode == 1 and "chmod 600" in done.stderr, f"a key file that others can read is refused: {done.stderr}")


main(test, "tandem-load: counts are exact, wrong usage is refused")
