# SPDX-License-Identifier: Apache-2.0
"""The oracle (tests/tools/oracle) from Python: all peers of many calls, and SDP as they write and read it."""

import base64
import collections
import concurrent.futures
import json
import subprocess
import threading

import netns
from flows import SUITES
from programs import program


class OracleError(Exception):
    pass


class Oracle:
    """oracle("send", number=1, ...) gives a command and returns its answer; any thread. Commands of many threads are under way at once and
    are served in their order: none waits for more than its turn."""

    def __init__(self, t, space, seed):
        self._lock = threading.Lock()
        self._asked = collections.deque()
        log = open(t.log_dir / "oracle.log", "wb") if t.log_dir.mkdir(exist_ok=True) is None else None
        self.process = subprocess.Popen(["ip", "netns", "exec", space.name, program("oracle"), "--seed", str(seed & 0x7fffffff)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                                        restore_signals=False)  # SIGPIPE stays ignored: a unit's primary may go at any moment
        log.close()
        threading.Thread(target=self._read, daemon=True).start()
        t.defer(self.close)

    def _read(self):
        for line in self.process.stdout:
            self._asked.popleft().set_result(line)
        self.process.wait()
        with self._lock:
            for answer in self._asked:
                answer.set_result("")
            self._asked = None

    def __call__(self, do, **arguments):
        answered = concurrent.futures.Future()
        with self._lock:
            if self._asked is None:
                raise OracleError(f"oracle: {do}: it has ended with {self.process.poll()}")
            self._asked.append(answered)
            try:
                self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
                self.process.stdin.flush()
            except BrokenPipeError:
                pass  # _read() says so to all
        line = answered.result()
        answer = json.loads(line) if line else {"error": f"ended with {self.process.poll()}"}
        if "error" in answer:
            raise OracleError(f"oracle: {do}{f' of end {end}' if (end := arguments.get('number')) else ''}: {answer['error']}")
        return answer

    def close(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()


def space_of(namespace):
    return f"/run/netns/{namespace.name}"


def make_key(chance, suite):
    return {"suite": suite, "hex": chance.randbytes(sum(SUITES[suite])).hex()}


class Sdp:
    """What matters of the first media line."""

    def __init__(self, text):
        lines = text.splitlines()
        media = next(line for line in lines if line.startswith("m="))
        after = lines[lines.index(media):]
        connections = [line.split()[-1] for line in lines if line.startswith("c=")]
        inner = [line.split()[-1] for line in after if line.startswith("c=")]
        self.address = (inner or connections)[0]
        self.port, self.profile = int(media.split()[1]), media.split()[2]
        self.secure, self.mux = "SAVP" in self.profile, "a=rtcp-mux" in after
        self.rtcp = next((int(line[7:].split()[0]) for line in after if line.startswith("a=rtcp:")), self.port + 1)
        self.direction = next((line[2:] for line in after if line[2:] in DIRECTIONS), "sendrecv")
        self.cryptos = []  # (tag, key)
        for line in after:
            if line.startswith("a=crypto:"):
                tag, suite, inline = line[9:].split()[:3]
                self.cryptos.append((int(tag), {"suite": suite, "hex": base64.b64decode(inline.split(":", 1)[1]).hex()}))


DIRECTIONS = {"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}  # -> its answer


def write_sdp(address, port, cryptos=(), profile=None, mux=False, direction="sendrecv", held=False, version=1):
    family = "IP6" if ":" in address else "IP4"
    shown = ("::" if family == "IP6" else "0.0.0.0") if held else address
    lines = ["v=0", f"o=- 7 {version} IN {family} {address}", "s=-", f"c=IN {family} {shown}", "t=0 0",
             f"m=audio {port} {profile or ('RTP/SAVP' if cryptos else 'RTP/AVP')} 0", "a=rtpmap:0 PCMU/8000"]
    if mux:
        lines.append("a=rtcp-mux")
    for tag, key in cryptos:
        lines.append(f"a=crypto:{tag} {key['suite']} inline:{base64.b64encode(bytes.fromhex(key['hex'])).decode()}")
    return "\r\n".join([*lines, f"a={direction}", ""])
