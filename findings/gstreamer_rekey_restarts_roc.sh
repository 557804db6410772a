#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# GStreamer 1.22.0's srtpenc begins at roll-over counter 0 again when its `key` is set in mid-stream, while SSRC and sequence numbers go on.
# RFC 3711 3.3.1 lets the counter go on over a re-key; libsrtp2, on which the element is built, does so where it is asked to change the key
# of a stream (srtp_update). After the first wrap (11 minutes of 20 ms packets, less with video) a receiver that keeps its counter hears
# nothing more. A receiver has to try counter 0 for a stream that it has not heard under the new key yet.
#
# Seen on Debian 12, 2026-11-30: key and counter under which each packet authenticates (HMAC-SHA1, session keys by RFC 3711 4.3 of the two
# master keys 00..1d and 64..81).
. "$(dirname "$0")/parts/packages"
unpack gstreamer1.0-plugins-bad=1.22.0-4+deb12u8 gstreamer1.0-plugins-base python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0 python3
cat >"$place/look.py" <<'P'
import hashlib, hmac, struct, sys
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
from gi.repository import Gst, GstApp  # noqa: E402,F401

keys = {"first": bytes.fromhex(sys.argv[1]), "second": bytes.fromhex(sys.argv[2])}
Gst.init(None)
caps = "application/x-rtp,media=audio,clock-rate=8000,encoding-name=PCMU,payload=0,ssrc=(uint)287454020"
line = Gst.parse_launch(f"appsrc name=in format=time caps={caps} ! srtpenc name=enc rtp-cipher=aes-128-icm rtp-auth=hmac-sha1-80"
                        " rtcp-cipher=aes-128-icm rtcp-auth=hmac-sha1-80 ! appsink name=out sync=false")
source, encoder, sink = (line.get_by_name(name) for name in ("in", "enc", "out"))

def send(sequence):
    packet = struct.pack("!BBHII", 0x80, 0, sequence, 160 * sequence, 287454020) + b"\xff" * 160
    source.emit("push-buffer", Gst.Buffer.new_wrapped(packet))
    buffer = sink.try_pull_sample(10 * Gst.SECOND).get_buffer()
    wire = buffer.extract_dup(0, buffer.get_size())
    for name, key in keys.items():
        for counter in range(3):
            if hmac.new(key, wire[:-10] + struct.pack("!I", counter), hashlib.sha1).digest()[:10] == wire[-10:]:
                print(f"sequence {sequence}: {name} key, roll-over counter {counter}")

encoder.set_property("key", Gst.Buffer.new_wrapped(bytes(range(30))))
line.set_state(Gst.State.PLAYING)
for sequence in (65534, 65535, 0, 1):
    send(sequence)
encoder.set_property("key", Gst.Buffer.new_wrapped(bytes(range(100, 130))))
for sequence in (2, 3):
    send(sequence)
line.set_state(Gst.State.NULL)
P
unpacked env GST_PLUGIN_SYSTEM_PATH="$libraries/gstreamer-1.0" GST_REGISTRY="$place/registry" GI_TYPELIB_PATH="$libraries/girepository-1.0" \
    GST_PLUGIN_SCANNER="$libraries/gstreamer1.0/gstreamer-1.0/gst-plugin-scanner" PYTHONPATH="$place/root/usr/lib/python3/dist-packages" \
    python3 "$place/look.py" d407ce49f85990a04c3fb0b59c3e86dc951517aa ef3f32203951522c316069b4a7ae81d971611176 2>"$place/errors" >"$place/seen" ||
    { cat "$place/errors"; exit 1; }
expect "$place/seen" <<'T'
sequence 65534: first key, roll-over counter 0
sequence 65535: first key, roll-over counter 0
sequence 0: first key, roll-over counter 1
sequence 1: first key, roll-over counter 1
sequence 2: second key, roll-over counter 0
sequence 3: second key, roll-over counter 0
T
