# SPDX-License-Identifier: Apache-2.0
"""Baresip 1.0 as a phone without a screen: plays a WAV (16 bit, mono, 8 kHz), records what it hears into another, is told
what to do and says what happens over its ctrl_tcp module.

    alice = Baresip("alice", directory, netns, address="10.64.0.2", registrar="10.64.0.1", play=wav)
    alice.start(); alice.wait_registered()
    alice.dial("sip:bob@10.64.0.1"); alice.wait_established()
    ...
    alice.hang_up(); alice.stop(); alice.heard  # Path of the recording

Answers by itself (answer=False: rings until .answer()). srtp=True asks for SRTP with SDES keys (module srtp)."""

import json
import os
import re
import socket
import threading
import time
from pathlib import Path

import netns as _netns
from process import Process, ProcessError
from sip_gateway import enrol, password_of

MODULES = "/usr/lib/baresip/modules"

# The jitter buffer of baresip 1.0 counts frames; audio_player aubridge is a sound card that needs no hardware and keeps
# time; sndfile writes dump-<time>-{enc,dec}.wav into snd_path.
_CONFIG = """\
poll_method             epoll
sip_listen              {address}:{port}
{interface}
call_local_timeout      120
call_max_calls          4
audio_path              /usr/share/baresip
audio_player            aubridge,{user}
audio_source            aufile,{play}
audio_alert             aubridge,alert
ausrc_srate             8000
auplay_srate            8000
ausrc_channels          1
auplay_channels         1
audio_level             no
ausrc_format            s16
auplay_format           s16
auenc_format            s16
audec_format            s16
audio_buffer            20-160
rtp_tos                 184
rtp_stats               yes
rtp_timeout             0
rtcp_mux                {rtcp_mux}
jitter_buffer_delay     {jitter}
module_path             {modules}
module                  g711.so
module                  aufile.so
module                  aubridge.so
{srtp_module}
module_tmp              uuid.so
module_tmp              account.so
{sndfile_module}
module_app              menu.so
module_app              ctrl_tcp.so
ctrl_tcp_listen         127.0.0.1:{control}
snd_path                {record}
statmode_default        off
"""


class BaresipError(Exception):
    pass


class Baresip:
    def __init__(self, user, directory, netns=None, address="127.0.0.1", registrar=None, play=None, port=5060, answer=True,
                 srtp=False, rtcp_mux=False, record=True, control=4444, interface=None, jitter="1-4", codecs="pcma,pcmu",
                 register=True, survive=False, log_dir=None):
        self.user, self.netns, self.address, self.port = user, netns, address, port
        self.dir = Path(directory)
        self.record_dir = self.dir / "heard"
        self.record_dir.mkdir(parents=True, exist_ok=True)
        self.log_dir = log_dir or self.dir
        self.registrar, self.control_port, self.survive = registrar, control, survive
        self.events, self.process, self.socket = [], None, None
        self._lock, self._replies, self._token = threading.Condition(), {}, 0
        # Without it baresip puts the address of the default route into SDP: wrong behind an agent's TUN.
        interface = interface or self._interface_of(address)
        host = f"[{address}]" if ":" in address else address
        (self.dir / "config").write_text(_CONFIG.format(
            address=host, port=port, user=user, play=play or "/dev/null", modules=MODULES, control=control, jitter=jitter,
            record=self.record_dir, rtcp_mux="yes" if rtcp_mux else "no",
            interface=f"net_interface           {interface}" if interface else "",
            srtp_module="module                  srtp.so" if srtp else "",
            sndfile_module="module                  sndfile.so" if record else ""))
        (self.dir / "contacts").write_text("")
        domain = registrar or f"{host}:{port}"
        parameters = [f"answermode={'auto' if answer else 'manual'}", f"audio_codecs={codecs}", f"auth_pass={password_of(user)}", "ptime=20",
                      f"regint={60 if register and registrar else 0}"]
        if srtp:
            parameters.append("mediaenc=srtp-mand")
        (self.dir / "accounts").write_text(f"<sip:{user}@{domain};transport=udp>;{';'.join(parameters)}\n")

    # -- the program ----------------------------------------------------------

    def start(self, timeout=10.0):
        if self.registrar:
            enrol(self.user, self.registrar, self.address)
        self.process = Process(f"baresip-{self.user}", ["baresip", "-f", self.dir], self.log_dir, self.netns,
                               env={"HOME": str(self.dir)}, survive=self.survive)
        end = time.monotonic() + timeout
        while True:
            try:
                self.socket = self._inside(lambda: socket.create_connection(("127.0.0.1", self.control_port), 2))
                break
            except OSError:
                if not self.process.alive() or time.monotonic() > end:
                    raise BaresipError(f"baresip of {self.user} does not come up:\n{self.process.tail()}") from None
                time.sleep(0.1)
        self.socket.settimeout(None)
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def stop(self):
        """Ends it; a call that is up is hung up first."""
        if self.process is None:
            return
        if self.process.alive():
            self.process.stop(5)
        if self.socket:
            self.socket.close()
            self.socket = None

    def alive(self):
        return self.process is not None and self.process.alive()

    # -- commands -------------------------------------------------------------

    def dial(self, uri):
        """uri: sip:bob@192.0.2.1, or a name at the registrar."""
        return self.command("dial", uri if ":" in uri else f"sip:{uri}@{self.registrar}")

    def answer(self):
        return self.command("accept")

    def hang_up(self):
        return self.command("hangup")

    def hold(self):
        return self.command("hold")

    def resume(self):
        return self.command("resume")

    def command(self, name, parameters="", timeout=5.0):
        """Any of baresip's long commands; returns its answer's text."""
        with self._lock:
            self._token += 1
            token = f"t{self._token}"
        text = json.dumps({"command": name, "params": parameters, "token": token}).encode()
        self.socket.sendall(b"%d:%s," % (len(text), text))
        answer = self._wait(lambda: self._replies.pop(token, None), f"answer to '{name}'", timeout)
        if not answer.get("ok"):
            raise BaresipError(f"{self.user}: '{name} {parameters}' refused: {answer.get('data')}")
        return answer.get("data", "")

    # -- what happened ----------------------------------------------------------

    def wait_registered(self, timeout=10.0):
        """Looks into its output: it may have registered before anybody listened to its events."""
        self.process.wait_for(lambda: re.search(r"200 OK .*\[\d+ binding", self.process.log()),
                              f"registration of {self.user}", timeout)

    def wait_established(self, timeout=15.0):
        self.wait_event("CALL_ESTABLISHED", timeout)

    def wait_closed(self, timeout=10.0):
        self.wait_event("CALL_CLOSED", timeout)

    def wait_closed_reason(self, timeout=10.0):
        """Why the call ended, in the SIP reply's words ("404 Not Found")."""
        return self.wait_event("CALL_CLOSED", timeout).get("param", "")

    def wait_event(self, kind, timeout=10.0):
        """The first event of this type since clear_events()."""
        return self._wait(lambda: next((e for e in self.events if e.get("type") == kind), None), kind, timeout)

    def clear_events(self):
        with self._lock:
            self.events.clear()

    def seen(self, kind):
        with self._lock:
            return any(e.get("type") == kind for e in self.events)

    @property
    def recordings(self):
        """What it heard: one WAV per call, oldest first. Complete when the call has ended."""
        return sorted(self.record_dir.glob("dump-*dec.wav"), key=lambda p: p.stat().st_mtime)

    @property
    def heard(self):
        return self.recordings[-1] if self.recordings else None

    def _interface_of(self, address):
        for line in self._ip("-o", "address", "show").splitlines():
            if f" {address}/" in line or f" {address} " in line:
                return line.split()[1]
        return None

    def _ip(self, *arguments):
        name = getattr(self.netns, "name", self.netns)
        return _netns.run("ip", *(["-n", name] if name else []), *arguments, check=False)

    # -- inside -----------------------------------------------------------------

    def _inside(self, function):
        return function() if self.netns is None else _netns.inside(getattr(self.netns, "name", self.netns), function)

    def _wait(self, condition, what, timeout):
        end = time.monotonic() + timeout
        with self._lock:
            while True:
                value = condition()
                if value:
                    return value
                left = end - time.monotonic()
                if left <= 0 or not self.process.alive():
                    break
                self._lock.wait(min(left, 0.2))
        kinds = [f"{e.get('type')}{' ' + e['param'] if e.get('param') else ''}" for e in self.events]
        raise BaresipError(f"{self.user}: no {what} within {timeout:g} s; events: {kinds}\n{self.process.tail()}")

    def _read(self):
        data = b""
        while True:
            try:
                more = self.socket.recv(65536)
            except (OSError, AttributeError):
                return
            if not more:
                return
            data += more
            while b":" in data:
                length, _, rest = data.partition(b":")
                if not length.isdigit():
                    return
                if len(rest) <= int(length):
                    break
                self._take(json.loads(rest[:int(length)]))
                data = rest[int(length) + 1:]

    def _take(self, message):
        with self._lock:
            if message.get("response"):
                self._replies[message.get("token")] = message
            elif message.get("event"):
                self.events.append(message)
            self._lock.notify_all()
