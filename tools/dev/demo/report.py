# SPDX-License-Identifier: Apache-2.0
"""The demo's verdict, computed from captures and recordings, and how a person sees it."""

import sys
import time

import measure
import speech

SPEECH_FLOOR = 0.95
REPLAYS = ("srtp_replay", "srtp_too_old")


def evidence(demo, frames):
    """What the access links carried, and where each phone's packets are seen: capture, its address there, its access link."""
    plain = measure.Plain()
    for name in [f"inner {unit}" for unit, _ in demo.units] + ["core"]:
        plain.add(frames[name])
    link = measure.AccessLink(plain, demo.gateway.tunnel_port)
    where = {"bob": (frames["core"], demo.net.bob_address, None)}
    for unit, space in demo.units:
        link.add(space, frames[f"access {space}"])
        where[unit] = (frames[f"inner {unit}"], demo.agents[unit].address, space)
    return link, where


def judge(demo, frames):
    """The result as --json writes it. `passed` follows from the rest."""
    link, where = evidence(demo, frames)
    calls, heard = [], []
    for c in demo.calls:
        calls.append({**_call(c, where, link), **demo.facts(c)})
        for listener, speaker in ((c["callee"], c["caller"]), (c["caller"], c["callee"])):
            heard.append(_speech(listener, speaker, c["heard"][listener], demo.speech[speaker]))
    drops = demo.gateway.ctl.drops()
    media = [m for c in demo.calls for m in c["media"].values()]
    result = {
        "scenario": demo.scenario, "passed": False, "seconds": demo.options.seconds, "calls": calls,
        "auth_failures": sum(leg["received"]["auth_failures"] for m in media for leg in m["legs"]) + _agents(demo, "auth_failures")
        + drops.get("srtp_auth", 0),
        "replay_drops": sum(drops.get(r, 0) for r in REPLAYS),
        "access_link": {**link.counts, "srtp_entropy_bits_per_byte": round(link.entropy(), 4), "unexpected": link.odd[:10]},
        "speech": heard, "drops": drops,
        "capture_losses": sum(c.lost for c in demo.captures.values()),
        "tunnels": [{k: s[k] for k in ("unit", "transport", "cipher")} for s in demo.gateway.ctl.sessions()],
        "method": "sent and received: RTP packets (SSRC, sequence, payload) captured at the phones: on the agents' TUN devices and on "
                  "bob's interface, from the answer's arrival at the caller until 200 ms before its BYE; rekeys: MKIs on the access links",
    }
    result["failures"] = list(_failures(result)) + list(demo.failures(result))
    result["passed"] = not result["failures"]
    return result


def _agents(demo, key):
    """Sum of a counter over the agents' own status; an agent without a status socket adds nothing."""
    total = 0
    for agent in demo.agents.values():
        try:
            total += _deep(agent.status(), key)
        except (OSError, ValueError):
            pass
    return total


def _deep(value, key):
    if isinstance(value, dict):
        return sum(v if k == key and isinstance(v, int) else _deep(v, key) for k, v in value.items())
    if isinstance(value, list):
        return sum(_deep(v, key) for v in value)
    return 0


def _call(c, where, link):
    caller, callee = c["caller"], c["callee"]
    (a_frames, a_address, a_link), (b_frames, b_address, b_link) = where[caller], where[callee]
    opened, closed = measure.window(a_frames, c["begin"], c["end"])
    media = list(c["media"].values())
    suites = sorted({leg["suite"] for m in media for leg in m["legs"] if leg["kind"] == "unit"})
    out = {"caller": caller, "callee": callee, "suite": ", ".join(suites), "rekeys": 0,
           "seconds": round((closed - opened) / 1e9, 2) if opened else 0.0, "directions": {}}
    if opened is None:
        return out
    forth = measure.direction(a_frames, a_address, b_frames, b_address, c["begin"], opened, closed)
    back = measure.direction(b_frames, b_address, a_frames, a_address, c["begin"], opened, closed)
    ssrcs = forth.pop("ssrc") + back.pop("ssrc")
    legs = [name for name in (a_link, b_link) if name]
    out["secondaries"] = len(legs)
    out["rekeys"] = min(link.rekeys(name, ssrcs) for name in legs)
    out["rekeys_by_gateway"] = min((m["rekeys"] for m in media), default=0)
    out["directions"] = {f"{caller}->{callee}": forth, f"{callee}->{caller}": back}
    return out


def _speech(listener, speaker, recording, source):
    if recording is None:
        return {"listener": listener, "speaker": speaker, "correlation": 0.0, "seconds": 0.0, "lag_s": None}
    peak, lag = speech.correlation(recording, source)
    return {"listener": listener, "speaker": speaker, "correlation": round(peak, 4),
            "seconds": round(speech.duration(recording), 2), "lag_s": round(lag, 3)}


def _failures(r):
    """Why it did not pass, in words."""
    for c in r["calls"]:
        name = f"{c['caller']} -> {c['callee']}"
        if c["rekeys"] < c["rekeys_needed"]:
            yield f"{name}: {c['rekeys']} re-keys, {c['rekeys_needed']} are needed"
        if not c["suite"]:
            yield f"{name}: no secondary was seen"
        if not c["directions"]:
            yield f"{name}: was not answered"
        for way, d in c["directions"].items():
            if d["sent"] < 40 * r["seconds"]:
                yield f"{way}: only {d['sent']} packets were sent"
            if d["lost"]:
                yield f"{way}: {d['lost']} packets lost"
            if d["changed"]:
                yield f"{way}: {d['changed']} payloads changed on the way"
    for key in ("auth_failures", "capture_losses"):
        if r[key]:
            yield f"{key.replace('_', ' ')}: {r[key]}"
    link = r["access_link"]
    for key in ("plaintext_rtp", "plaintext_sip"):
        if link[key]:
            yield f"access link: {link[key]} frames of {key.replace('_', ' ')}"
    if not link["srtp"] or not link["tls"]:
        yield "access link: the capture holds no SRTP or no TLS"
    for line in link["unexpected"]:
        yield f"access link: unexpected frame: {line}"
    for s in r["speech"]:
        if s["correlation"] < SPEECH_FLOOR:
            yield f"{s['listener']} heard {s['speaker']} with a correlation of {s['correlation']}"


class View:
    """Progress for a person: lines everywhere, a line that renews itself on a terminal."""

    def __init__(self, terminal):
        self.terminal, self._open, self._begin, self._said = terminal, False, time.monotonic(), 0.0

    def _print(self, text, again=False):
        if self._open:
            sys.stdout.write("\r\033[K" if again else "\n")
        sys.stdout.write(text if again else text + "\n")
        self._open = again
        sys.stdout.flush()

    def step(self, text):
        self._print(f"[{time.monotonic() - self._begin:5.1f} s] {text}")

    def live(self, record, left):
        line = "   ".join(self._media(m) for m in record["media"].values()) or "waiting for media"
        if self.terminal:
            self._print(f"          {line}   {max(0, left):2.0f} s to go", again=True)
        elif time.monotonic() - self._said >= 5:
            self._said = time.monotonic()
            self._print(f"          {line}")

    @staticmethod
    def _media(m):
        a, b = m["legs"]
        epochs = "/".join(str(x["epoch"]) for x in (a, b) if x["kind"] == "unit")
        suite = next((x["suite"] for x in (a, b) if x["kind"] == "unit"), "?")
        bad = sum(x["received"]["lost"] + x["received"]["auth_failures"] + x["received"]["drops"] for x in (a, b))
        return (f"{m['caller']} > {a['received']['packets']} packets, {m['callee']} > {b['received']['packets']} packets, "
                f"epoch {epochs}, {suite}, lost or dropped {bad}")

    def call_done(self, record):
        self.step(f"{record['caller']} hung up")

    def table(self, r):
        out = ["", f"{'':16}{'sent':>8}{'received':>10}{'lost':>6}{'re-keys':>9}  suite"]
        for c in r["calls"]:
            for way, d in c["directions"].items():
                out.append(f"{way:16}{d['sent']:8}{d['received']:10}{d['lost']:6}{c['rekeys']:9}  {c['suite']}")
        k = r["access_link"]
        out += ["", f"access links, {k['frames']} frames captured: {k['srtp']} SRTP, {k['tls']} TLS, {k['plaintext_rtp']} plaintext RTP, "
                    f"{k['plaintext_sip']} plaintext SIP, {k['other']} other (ARP, neighbours, TCP without data)",
                f"entropy of the SRTP payloads: {k['srtp_entropy_bits_per_byte']:.3f} bits per byte",
                "primary tunnels: " + ", ".join(f"{s['unit']} {s['transport']} {s['cipher']}" for s in r["tunnels"]),
                f"authentication failures: {r['auth_failures']}   replays dropped: {r['replay_drops']}"]
        out += [f"{s['listener']} heard {s['speaker']}: correlation {s['correlation']:.3f} over {s['seconds']:.1f} s" for s in r["speech"]]
        out += ["drops: " + (", ".join(f"{k} {v}" for k, v in sorted(r["drops"].items())) or "none")]
        out += [f"early media, before the answer: {way}: {d['early_received']} of {d['early_sent']} arrived"
                for c in r["calls"] for way, d in c["directions"].items() if d["early_sent"]]
        out += [f"under way at the BYE: {way}: {d['late_received']} of {d['late_sent']} arrived"
                for c in r["calls"] for way, d in c["directions"].items() if d["late_sent"] != d["late_received"]]
        out += ["", "PASSED" if r["passed"] else "NOT PASSED"] + [f"  - {line}" for line in r["failures"]]
        self._print("\n".join(out))

    def policy_table(self, r):
        """Five calls of the same two, and why each got what it got; then what was measured of their media."""
        out = ["", f"{'level':10}{'suite':26}{'seed':>6}{'every':>8}{'re-keys':>9}  decided by"]
        for c in r["calls"]:
            out.append(f"{c['level'] or '-':10}{c['suite']:26}{c['seed_bytes'] or 0:4} B{c['interval_s'] or 0:6g} s{c['rekeys']:9}  {c['decided_by']}: "
                       f"{next((s['text'] for s in c['why'] or () if s['decided']), '')}")
        self._print("\n".join(out))
        self.table(r)

    def handovers(self, r):
        """Each switch, and whether everything came."""
        out = ["", f"{'what':10}{'kind':16}{'to':15}{'media gap':>12}{'stall':>10}{'sent again':>12}"]
        for h in r["handovers"]:
            out.append(f"{h['what']:10}{h['kind']:16}{h['to']:15}{h['media_gap_ms']:9} ms{h['stall_ms']:7} ms{h['resent_bytes']:10} B")
        out += ["", f"{r['octets']['forwarded']} octets by the forwarded port, {r['octets']['captured']} by the captured program, {r['lines']} lines of echo"]
        out += [f"{'yes' if held else 'NO ':4}{name}" for name, held in r["checks"].items()]
        out += ["", "PASSED" if r["passed"] else "FAILED: " + "; ".join(r["failures"])]
        self._print("\n".join(out))

    def around(self, demo):
        gw, run = f"{demo.prefix}-gw", demo.gateway.run_dir
        from programs import program
        tool = program("tandemctl")
        self._print(f"""
Everything runs on, and alice is in a call with bob. Look around, for example:
  {tool} --run-dir {run} status
  {tool} --run-dir {run} session list
  {tool} --run-dir {run} media list
  {tool} --run-dir {run} media rekey ID
  {tool} --run-dir {run} counters --watch
  ip netns exec {gw} ss -tlnup
  ip netns exec {demo.prefix}-ue tcpdump -ni ue0
Files: {demo.dir}
End it:
  tools/demo --end""")
