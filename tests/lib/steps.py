# SPDX-License-Identifier: Apache-2.0
"""What a call may do next (sequences.py): each step changes one thing, as a proxy and phones would. A step has the call, the side that
does it, the other, and its own name; it returns what it did instead, if so."""

from flows import SUITES
from oracle import Sdp, make_key, write_sdp
from sequences import Wrong


def transport_of(leg):
    return "RTP/SAVP" if leg.key else "RTP/AVP"


def resume(call, x):
    """Mostly a hold ends with the next offer."""
    return {"direction": "sendrecv", "held": False} if call.chance.random() < 0.7 else {}


def same(call, x, y, name):
    call.negotiate(x, name, resume(call, x), transport=transport_of(y) if call.chance.random() < 0.5 else None)


def mux(call, x, y, name):
    if call.chance.random() < 0.5:
        call.negotiate(x, name, {**resume(call, x), "mux_wish": not x.mux_wish})
    else:
        call.negotiate(x, name, resume(call, x), {"mux_wish": not y.mux_wish})


def secure(call, x, y, name):
    """This side turns to SRTP or to clear."""
    if x.kind != "core":
        return same(call, x, y, "same")
    key = None if x.key else make_key(call.chance, call.chance.choice(list(SUITES)))
    call.negotiate(x, name, {**resume(call, x), "key": key}, transport=transport_of(y))


def far_secure(call, x, y, name):
    if y.kind != "core":
        return same(call, x, y, "same")
    call.negotiate(x, name, resume(call, x), transport="RTP/AVP" if y.key else "RTP/SAVP")


def suite(call, x, y, name):
    if not x.key:
        return secure(call, x, y, "secure")
    other = call.chance.choice([s for s in SUITES if s != x.key["suite"]])
    call.negotiate(x, name, {**resume(call, x), "key": make_key(call.chance, other)})


def new_keys(call, x, y, name):
    """Of the offerer, the answerer, or both."""
    fresh = lambda leg: {"key": make_key(call.chance, leg.key["suite"])} if leg.key else {}
    which = call.chance.randrange(3)
    call.negotiate(x, f"{name}: {('offerer', 'answerer', 'both')[which]}", {**resume(call, x), **(fresh(x) if which != 1 else {})},
                   fresh(y) if which != 0 else None)


def direction(call, x, y, name):
    call.negotiate(x, name, {"direction": call.chance.choice(["sendonly", "recvonly", "inactive", "sendrecv"]), "held": False})


def held(call, x, y, name):
    if x.kind != "core":
        return direction(call, x, y, "direction")
    call.negotiate(x, name, {"held": True})


def address(call, x, y, name):
    """Another port or address of the same family, or of the other; with a new key (RFC 4568 7.1.4) or, as many do, the old one."""
    if x.kind != "core":
        return same(call, x, y, "same")
    family = ":" in x.address
    if name == "family":
        family = not family
    there = call.chance.choice(call.w.families[family])
    port = call.w.oracle("place", number=x.number, address=there)["port"]
    key = x.key
    if key and (name == "family" or call.chance.random() < 0.5):
        key = make_key(call.chance, key["suite"])
        if call.chance.random() < 0.5:
            restart(call, x, y, "")
    call.negotiate(x, f"{name}: {'same key' if key == x.key else 'new key'}", {**resume(call, x), "address": there, "port": port, "key": key})


def restart(call, x, _, name):
    """The source begins anew: another SSRC."""
    if name:
        call.note(f"{name} of {x.number}")
    call.w.oracle("restart", number=x.number, ssrc=call.chance.getrandbits(32), first=call.first_sequence())


def rekey(call, x, y, name):
    if "unit" not in (x.kind, y.kind) and "agent" not in (x.kind, y.kind):
        return new_keys(call, x, y, "new keys")
    call.note(name)
    try:
        for media in call.w.gw.ctl.ops("media list", call_id=call.id)["media"]:
            call.w.gw.ctl.ops("media rekey", id=media["id"])
    except Exception as e:  # a unit that is away, a control plane that is: the level's interval tries again
        call.history[-1] += f" ({str(e)[:60]})"


def move_unit(call, x, y, name):
    for leg in (x, y):
        if leg.kind == "unit":
            call.note(f"{name} {leg.number}")
            call.w.oracle("place", number=leg.number)
            return
    restart(call, x, y, "restart")


def refused(call, x, y, name):
    """An offer that is refused, or that nobody answers; the call must go on as it was."""
    kinds = ["bad suite", "dtls", "no answer", "no answer", "bad answer"]
    kind = call.chance.choice(kinds)
    call.note(f"{name}: {kind} of {x.number}")
    call.w.add(call.w.steps, f"{name}: {kind}")
    bad = {"suite": "AES_CM_256_HMAC_SHA1_80", "hex": "00" * 46}
    change = call.chance.choice([{"mux_wish": not x.mux_wish}, {"direction": "inactive"}, {"held": x.kind == "core"}, {},
                                 {"address": call.chance.choice(call.w.families[":" not in x.address])} if x.kind == "core" else {}])
    transport = call.chance.choice(["RTP/SAVP", "RTP/AVP", None]) if y.kind == "core" else None
    if kind == "bad suite":
        reply, _ = call.offer(x, {**change, "cryptos": [(1, bad)]}, transport)
    elif kind == "dtls":
        reply, _ = call.offer(x, {**change, "cryptos": [], "profile": "UDP/TLS/RTP/SAVP"}, transport)
    else:
        key = make_key(call.chance, call.chance.choice(list(SUITES))) if x.kind == "core" and call.chance.random() < 0.6 else x.key
        reply, _ = call.offer(x, {**change, "key": key}, transport)
        if kind == "bad answer" and reply.get("result") == "ok":
            shown = Sdp(reply["sdp"])
            lines = [] if shown.secure else [(1, make_key(call.chance, "AEAD_AES_128_GCM"))]
            reply = call.answer(x, y, write_sdp(y.address, y.port, lines, None, y.mux_wish))
            if reply.get("result") == "ok":
                raise Wrong("an answer is taken that is clear where SRTP was offered, or the other way round")
        return f"{name}: {kind}"
    if reply.get("result") == "ok":
        raise Wrong(f"an offer is taken that cannot be: {kind}")
    return f"{name}: {kind}"


STEPS = {  # name -> (step, weight)
    "same": (same, 2), "mux": (mux, 4), "secure": (secure, 2), "far secure": (far_secure, 2), "suite": (suite, 2), "new keys": (new_keys, 3),
    "direction": (direction, 2), "hold": (held, 1), "address": (address, 2), "family": (address, 1), "restart": (restart, 1),
    "rekey": (rekey, 2), "move": (move_unit, 1), "refused": (refused, 3)}
