# SPDX-License-Identifier: Apache-2.0
"""What the captures say. Nothing here asks Tandem: frames on the access link are told apart by their bytes, and a packet is
received when the far end's capture holds it."""

import math
import re
from collections import Counter, defaultdict

from capture import Rtp, is_rtcp

SIP_TOKENS = re.compile(rb"SIP/2\.0|^(INVITE|REGISTER|BYE|ACK|CANCEL|OPTIONS) sip:|\r\nCSeq:|\r\nCall-ID:|m=audio |a=rtpmap:", re.M)
PROBE = 24  # bytes of a phone's payload that must occur nowhere on the access link
MKI = 4
SMALLEST_TAG = 4
HIGHEST_EPOCH = 10_000
IN_FLIGHT_NS = 200_000_000


class Plain:
    """What the phones sent and heard in clear, from captures inside the units and in the core."""

    def __init__(self):
        self.by_index = {}  # (ssrc, sequence) -> payload
        self.probes = set()

    def add(self, frames):
        for f in frames:
            rtp = Rtp(f.payload) if f.is_udp else None
            if not rtp or rtp.type > 34:
                continue
            self.by_index[rtp.ssrc, rtp.sequence] = rtp.body
            # A silent frame is one byte again and again: as a probe it would prove nothing.
            if len(rtp.body) >= PROBE and len(set(rtp.body[:PROBE])) > 4:
                self.probes.add(rtp.body[:PROBE])


def mki_of(payload):
    """The epoch, where the packet can be a Tandem secondary's: AEAD suites end with it, the others have it before their tag."""
    candidates = [int.from_bytes(payload[-MKI:], "big")]
    for tag in (10, 4):
        if len(payload) >= 12 + tag + MKI:
            candidates.append(int.from_bytes(payload[-tag - MKI:-tag], "big"))
    return next((c for c in candidates if c < HIGHEST_EPOCH), None)


class AccessLink:
    """Classifies the frames of one or more access links."""

    def __init__(self, plain, tunnel_port):
        self.plain, self.tunnel_port = plain, tunnel_port
        self.counts = Counter(frames=0, tls=0, srtp=0, plaintext_rtp=0, plaintext_sip=0, other=0)
        self.epochs = defaultdict(Counter)  # (link, ssrc) -> epoch -> packets
        self.histogram = Counter()          # bytes of SRTP payloads
        self.odd = []                       # descriptions of what is neither TLS, SRTP nor housekeeping
        self._streams = {}

    def add(self, link, frames):
        for f in frames:
            self.counts["frames"] += 1
            self.counts[self._kind(link, f)] += 1

    def _kind(self, link, f):
        if SIP_TOKENS.search(f.data):
            return "plaintext_sip"
        if any(f.payload[at:at + PROBE] in self.plain.probes for at in range(0, len(f.payload) - PROBE + 1, 4)):
            return "plaintext_rtp"
        if f.is_tcp and self.tunnel_port in (f.sport, f.dport):
            return self._tls(link, f)
        if f.is_udp:
            return self._udp(link, f)
        if f.l3 == "arp" or f.protocol in (1, 58):
            return "other"
        self.odd.append(f"{f.l3} {f.src}:{f.sport} -> {f.dst}:{f.dport} protocol {f.protocol}, {len(f.data)} bytes")
        return "other"

    def _tls(self, link, f):
        """In a TLS stream every byte belongs to a record (RFC 8446 5.1): the stream is followed record by record."""
        if not f.payload:
            return "other"
        key = (link, f.src, f.sport, f.dst, f.dport)
        stream = self._streams.setdefault(key, bytearray())
        stream += f.payload
        while len(stream) >= 5:
            kind, major, length = stream[0], stream[1], int.from_bytes(stream[3:5], "big")
            if kind not in (20, 21, 22, 23) or major != 3 or length > 16640:
                # A segment sent twice would look the same: only a run that never finds a record again is no TLS.
                at = f.payload
                if at[:1] and at[0] in (20, 21, 22, 23) and at[1:2] == b"\3":
                    stream[:] = at
                    continue
                self.odd.append(f"not TLS on the tunnel's port: {bytes(stream[:8]).hex()}")
                stream.clear()
                return "other"
            if len(stream) < 5 + length:
                break
            del stream[:5 + length]
        return "tls"

    def _udp(self, link, f):
        p = f.payload
        rtp, epoch = Rtp(p), mki_of(p)
        if is_rtcp(p):
            # SRTCP: E flag, index, MKI and tag follow; plain RTCP ends where its length fields say.
            return "srtp" if epoch is not None and self._rtcp_end(p) != len(p) else "plaintext_rtp"
        if not rtp:
            self.odd.append(f"UDP {f.src}:{f.sport} -> {f.dst}:{f.dport}, {len(p)} bytes, neither RTP nor RTCP")
            return "other"
        clear = self.plain.by_index.get((rtp.ssrc, rtp.sequence))
        if epoch is None or len(rtp.body) < MKI + SMALLEST_TAG:
            return "plaintext_rtp"
        if clear is not None and (rtp.body == clear or len(rtp.body) < len(clear) + MKI + SMALLEST_TAG
                                  or rtp.body[:len(clear)] == clear):
            return "plaintext_rtp"
        self.epochs[link, rtp.ssrc][epoch] += 1
        self.histogram.update(rtp.body[:len(clear)] if clear else rtp.body[:-MKI - 16])
        return "srtp"

    @staticmethod
    def _rtcp_end(p):
        at = 0
        while at + 4 <= len(p) and p[at] >> 6 == 2 and 192 <= p[at + 1] <= 223:
            at += 4 + 4 * int.from_bytes(p[at + 2:at + 4], "big")
        return at

    def entropy(self):
        """Bits per byte over all SRTP payloads: ciphertext of this much has 8.00, speech in PCMU or PCMA less."""
        total = sum(self.histogram.values())
        return -sum(n / total * math.log2(n / total) for n in self.histogram.values()) if total else 0.0

    def rekeys(self, link, ssrcs):
        """Fewest changes of epoch among these streams of a link, as the wire shows them."""
        seen = [max(self.epochs[link, s]) - min(self.epochs[link, s]) for s in ssrcs if self.epochs.get((link, s))]
        return min(seen) if seen else 0


def _sip(frames):
    for f in frames:
        if f.is_udp and 5060 in (f.sport, f.dport) and len(f.payload) > 8:
            yield f.time, f.payload


def window(frames, begin, end):
    """From the answer's arrival at the caller's phone to its BYE: (open, close), nanoseconds; frames of the caller's phone."""
    opened = closed = None
    for when, text in _sip(frames):
        if not begin <= when <= end:
            continue
        if opened is None and text.startswith(b"SIP/2.0 200") and re.search(rb"\r\nCSeq: *\d+ INVITE", text):
            opened = when
        if opened and closed is None and text.startswith(b"BYE "):
            closed = when
    return opened, closed or end


def stream(frames, begin, end, source=None, target=None):
    """{(ssrc, sequence): (time, payload)} of the RTP in [begin, end] from or to an address."""
    found = {}
    for f in frames:
        if begin <= f.time <= end and f.is_udp and (source is None or f.src == source) and (target is None or f.dst == target):
            rtp = Rtp(f.payload)
            if rtp and rtp.type <= 127 and f.sport != 53:
                found.setdefault((rtp.ssrc, rtp.sequence), (f.time, rtp.body))
    return found


def direction(sent_frames, source, received_frames, target, begin, opened, closed):
    """One direction of a call: what the sender's phone sent in the window, and what of it reached the other phone unchanged.
    `early` went out before the answer had reached the caller, when no path through the gateway was agreed yet; `late` in the last
    200 ms before the BYE: what is still under way when the call is taken down ends with it."""
    margin = 2_000_000_000
    sent = stream(sent_frames, begin, closed, source=source)
    received = stream(received_frames, begin, closed + margin, target=target)
    late = {k: v for k, v in sent.items() if v[0] >= max(opened, closed - IN_FLIGHT_NS)}
    inside = {k: v for k, v in sent.items() if v[0] >= opened and k not in late}
    early = {k: v for k, v in sent.items() if v[0] < opened}
    lost = [k for k in inside if k not in received]
    changed = [k for k in inside if k in received and received[k][1] != inside[k][1]]
    delays = sorted((received[k][0] - v[0]) / 1e6 for k, v in inside.items() if k in received)
    return {
        "sent": len(inside), "received": len(inside) - len(lost), "lost": len(lost), "changed": len(changed),
        "early_sent": len(early), "early_received": sum(k in received for k in early),
        "late_sent": len(late), "late_received": sum(k in received for k in late),
        "delay_ms_median": round(delays[len(delays) // 2], 3) if delays else None,
        "delay_ms_max": round(delays[-1], 3) if delays else None,
        "ssrc": sorted({k[0] for k in inside}),
    }
