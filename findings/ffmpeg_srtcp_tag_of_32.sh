#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# FFmpeg 5.1.9 under the SDES name AES_CM_128_HMAC_SHA1_32 sends SRTCP with a tag of 32 bits, where RFC 4568 6.2.2 keeps 80 bits for SRTCP
# (only SRTP's tag is shorter). Its name from DTLS-SRTP, SRTP_AES128_CM_HMAC_SHA1_32, gives the 80 bits. So a receiver that keeps to the RFC
# (libsrtp2 does) refuses every report of such a sender and hears its media: no jitter, no loss, no lip sync, and nothing that looks broken.
#
# Seen on Debian 12, 2026-11-30: the first SRTP packet and the first sender report of each suite, authenticated with the session keys
# (RFC 3711 4.3) of the master key 000102..0f and salt 10..1d.
. "$(dirname "$0")/parts/packages"
unpack ffmpeg=7:5.1.9-0+deb12u1 python3
cat >"$place/look.py" <<'P'
import base64, hashlib, hmac, socket, struct, subprocess, sys

rtp_key, rtcp_key = (bytes.fromhex(text) for text in sys.argv[1:3])  # HMAC-SHA1 keys: labels 1 and 4
ends = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
ends[0].bind(("127.0.0.1", 0))
ends[1].bind(("127.0.0.1", 0))
ports = [end.getsockname()[1] for end in ends]

def tag(key, packet, more):
    fits = [n for n in (4, 10) if hmac.new(key, packet[:-n] + more, hashlib.sha1).digest()[:n] == packet[-n:]]
    return f"{8 * fits[0]} bits" if fits else "none that fits"

for suite in ("AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32", "SRTP_AES128_CM_HMAC_SHA1_32"):
    sender = subprocess.Popen(["ffmpeg", "-nostdin", "-loglevel", "error", "-re", "-f", "lavfi", "-i", "sine=sample_rate=8000:duration=8",
                               "-c:a", "pcm_mulaw", "-f", "rtp", "-srtp_out_suite", suite, "-srtp_out_params",
                               base64.b64encode(bytes(range(30))).decode(), f"srtp://127.0.0.1:{ports[0]}?rtcpport={ports[1]}"],
                              stdout=subprocess.DEVNULL)
    packets = []
    for end in ends:
        end.settimeout(15)
        packets.append(end.recv(2000))
    sender.kill()
    sender.wait()
    for end in ends:  # what was on its way
        end.settimeout(0.3)
        try:
            while True:
                end.recv(2000)
        except TimeoutError:
            pass
    print(f"{suite}: SRTP tag {tag(rtp_key, packets[0], struct.pack('!I', 0))}, SRTCP tag {tag(rtcp_key, packets[1], b'')}")
P
unpacked python3 "$place/look.py" d407ce49f85990a04c3fb0b59c3e86dc951517aa 97b9c69bc7f4482d8e1c4bd2379e5659f20783a8 >"$place/seen"
expect "$place/seen" <<'T'
AES_CM_128_HMAC_SHA1_80: SRTP tag 80 bits, SRTCP tag 80 bits
AES_CM_128_HMAC_SHA1_32: SRTP tag 32 bits, SRTCP tag 32 bits
SRTP_AES128_CM_HMAC_SHA1_32: SRTP tag 32 bits, SRTCP tag 80 bits
T
