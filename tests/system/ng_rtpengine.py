#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# ng beside the original: the same requests to rtpengine and to our server (over a relay that moves no media). Error replies
# must be the same words; SDP must have the same lines, but for numbers of ports, keys, and what each documents otherwise.
import re
import shutil
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
import ng
from harness import check, equal, main, skip
from programs import program

LOCAL = "127.0.0.1"


def sdp(address="10.1.1.1", port=4000, more="", proto="RTP/AVP", way="sendrecv", tail=""):
    return (f"v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\nm=audio {port} {proto} 8 0\r\n"
            f"a=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n{more}a={way}\r\n{tail}")


B = dict(address="10.1.1.2", port=5000)
ERRORS = [b"", b"i5e", b"l7:commande", b"d7:comm", b"d1:x1:ye", b"d7:commandi5ee", b"d7:command3:fooe", b"d7:command5:offere",
          b"d7:command5:offer3:sdp3:v=0e", b"d7:command5:offer3:sdp3:v=07:call-id1:xe",
          b"d7:command6:answer3:sdp3:v=07:call-id1:x8:from-tag1:fe", b"d7:command6:deletee", b"d7:command5:querye",
          b"d7:command5:query7:call-id4:nopee", b"d7:command6:delete7:call-id4:nope8:from-tag1:fe", b"d7:command4:pinge",
          b"d7:command4:pingexxx", b"d7:command4:liste"]

# name: steps of (command, keys, SDP)
SCENARIOS = {
    "audio": [("offer", {}, sdp()), ("answer", {}, sdp(**B))],
    "origin": [("offer", {"replace": ["origin"]}, sdp()), ("answer", {"replace": ["origin"]}, sdp(**B))],
    "hold": [("offer", {}, sdp()), ("answer", {}, sdp(**B)), ("offer", {"to-tag": "b"}, sdp(way="sendonly")),
             ("answer", {}, sdp(**B, way="recvonly")), ("offer", {"from-tag": "b", "to-tag": "a"}, sdp(**B, way="inactive")),
             ("answer", {"from-tag": "b", "to-tag": "a"}, sdp(way="inactive"))],
    "hold-address": [("offer", {}, sdp()), ("answer", {}, sdp(**B)), ("offer", {"to-tag": "b"}, sdp("0.0.0.0", way="sendonly")),
                     ("answer", {}, sdp(**B, way="recvonly"))],
    "mux-both": [("offer", {}, sdp(more="a=rtcp-mux\r\n")), ("answer", {}, sdp(**B, more="a=rtcp-mux\r\n"))],
    "mux-demux": [("offer", {"rtcp-mux": ["demux"]}, sdp(more="a=rtcp-mux\r\n")), ("answer", {}, sdp(**B))],
    "mux-offer": [("offer", {"rtcp-mux": ["offer"]}, sdp()), ("answer", {}, sdp(**B, more="a=rtcp-mux\r\n"))],
    "mux-refused": [("offer", {}, sdp(more="a=rtcp-mux\r\n")), ("answer", {}, sdp(**B))],
    "rejected": [("offer", {}, sdp(tail="m=video 0 RTP/AVP 96\r\n")), ("answer", {}, sdp(**B, tail="m=video 0 RTP/AVP 96\r\n"))],
    "to-savp": [("offer", {"transport-protocol": "RTP/SAVP", "DTLS": "off"}, sdp()),
                ("answer", {}, sdp(**B, proto="RTP/SAVP", more="a=crypto:1 AEAD_AES_256_GCM inline:"
                                   "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKis=\r\n"))],
    "from-savp": [("offer", {"transport-protocol": "RTP/AVP", "DTLS": "off"},
                   sdp(proto="RTP/SAVP", more="a=crypto:4 AES_CM_128_HMAC_SHA1_32 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\n")),
                  ("answer", {}, sdp(**B))],
    "ice": [("offer", {"ICE": "remove"}, sdp(more="a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n"
                                             "a=candidate:1 1 UDP 1 10.1.1.1 4000 typ host\r\n")), ("answer", {"ICE": "remove"}, sdp(**B))],
}


def shape(text):
    """Lines of an SDP with ports by their place: P (RTP), P or P+1 (RTCP); keys are keys; of ours and theirs only what both know."""
    lines, port = [], 0
    for line in text.replace("\r", "").strip().split("\n"):
        media = re.match(r"m=(\w+) (\d+) (.*)", line)
        if media:
            port = int(media[2])
            line = f"m={media[1]} {'P' if port else 0} {media[3]}"
        elif line.startswith("a=rtcp:"):
            line = f"a=rtcp:P+{int(line.split(':')[1].split()[0]) - port}"
        elif line.startswith("a=crypto:"):
            tag, suite = re.match(r"a=crypto:(\d+) (\S+)", line).groups()
            if suite not in ("AEAD_AES_256_GCM", "AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"):
                continue  # suites that we do not have
            line = f"a=crypto {suite}"
        lines.append(line)
    return lines


def reply(client, bytes_):
    cookie = client.cookie().encode()
    return ng.decode(client.raw(cookie + b" " + bytes_)[len(cookie) + 1:])


def same_error(ours, theirs, request):
    if theirs.get("result") == "error":
        equal(ours, theirs, f"reply to {request!r}")
    else:
        equal(ours.get("result"), theirs.get("result"), f"result of {request!r}")
        equal(ours.get("warning"), theirs.get("warning"), f"warning of {request!r}")


def play(t, clients, name, steps):
    for number, (command, keys, body) in enumerate(steps):
        request = {"command": command, "call-id": f"{name}", "from-tag": "a", **({"to-tag": "b"} if command == "answer" else {}),
                   **keys, "sdp": body}
        ours, theirs = (c.request(request) for c in clients)
        for who, answer in (("ours", ours), ("rtpengine", theirs)):
            check(answer.get("result") == "ok", f"{name}, step {number}: {who} says {answer}")
        equal(shape(ours["sdp"]), shape(theirs["sdp"]), f"{name}, step {number} ({command}): SDP")
    for command in ("query", "delete"):
        ours, theirs = (c.request({"command": command, "call-id": name, "from-tag": "a"}) for c in clients)
        missing = set(theirs) - set(ours)
        check(not missing, f"{name}: {command} lacks {missing}")
        for tag in ("a", "b"):
            ours_media, theirs_media = (r["tags"][tag]["medias"][0] for r in (ours, theirs))
            equal(set(theirs_media) - set(ours_media), set(), f"{name}: keys of a media in {command}")
            stream, original = ours_media["streams"][0], theirs_media["streams"][0]
            equal(set(original) - set(stream) - {"crypto suite"}, set(), f"{name}: keys of a stream in {command}")
            equal(stream["endpoint"].get("address"), original["endpoint"].get("address"), f"{name}: endpoint of {tag}")
    t.say(f"{name}: {len(steps)} SDPs equal")


def test(t):
    if not shutil.which("rtpengine"):
        skip("rtpengine is not installed (package rtpengine-daemon)")
    space = netns.Namespace(f"{t.prefix}-ng")
    t.defer(space.delete)
    t.start("rtpengine", ["rtpengine", "--table=-1", f"--interface={LOCAL}", f"--listen-ng={LOCAL}:2222", "--foreground",
                          "--log-stderr", "--log-level=4", f"--pidfile={t.dir}/rtpengine.pid", "--port-min=30000",
                          "--port-max=31000"], space)
    t.start("ng_fake", [program("ng_fake"), LOCAL, "2223", LOCAL], space)
    clients = [netns.inside(space.name, lambda p=p: ng.Client(LOCAL, p)) for p in (2223, 2222)]
    for client in clients:
        client.await_pong()
    for request in ERRORS:
        ours, theirs = (reply(c, request) for c in clients)
        same_error(ours, theirs, request)
    t.say(f"{len(ERRORS)} replies without SDP equal")
    for name, steps in SCENARIOS.items():
        play(t, clients, name, steps)


main(test, "ng replies and SDP as rtpengine's")
