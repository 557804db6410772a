# SPDX-License-Identifier: Apache-2.0
"""Random calls: offers, re-offers of every kind, refused ones, re-keys, replays; each call's sequence follows from its seed alone. What it
does next is steps.py, what happens to the gateway's processes meanwhile faults.py. The oracle judges every packet; here is known what must
flow."""

import dataclasses
import random
import re
import socket
import threading
import time
import traceback

import netns
from flows import SUITES
from ng import Client
from oracle import DIRECTIONS, OracleError, Sdp, make_key, space_of, write_sdp

PATIENCE, MOST = 6.0, 60.0  # s until media must flow after a change, or after the last fault; and whatever goes on
ENOUGH = 50  # packets that were sent meanwhile


class Ended(Exception):
    """The call is over, as it may be; the text says why."""


class Wrong(Exception):
    """The call did what it must not."""


@dataclasses.dataclass
class Leg:
    """One side as its SDP last said and as the gateway answered."""
    number: int
    kind: str             # core; unit (played by the oracle); agent (tandem-agent, the oracle is the phone)
    space: object
    name: str = ""        # the unit
    address: str = ""
    port: int = 0
    key: dict = None      # what it sends under; None: in clear
    heard: dict = None    # the gateway's key
    mux: bool = False
    mux_wish: bool = False
    direction: str = "sendrecv"
    held: bool = False
    gateway: Sdp = None
    to: tuple = None      # the gateway's address, port and RTCP port that were not 0.0.0.0
    tag: int = 1          # of its a=crypto

    @property
    def receives(self):
        return not self.held and self.direction in ("sendrecv", "recvonly")


class World:
    """What the calls share: gateway, oracle, places, steps (steps.py), and what was done to the gateway and when."""

    def __init__(self, gw, oracle, core, families, steps, seed):
        self.gw, self.oracle, self.core, self.families, self.known_steps, self.seed = gw, oracle, core, families, steps, seed
        self.units, self.agents, self.programs, self.holder = {}, {}, {}, None  # name -> (inner address, namespace); name -> Agent
        self.faults = []                  # (begin, end or None, what)
        self.attackers = {}               # (namespace, family) -> number
        self.lock = threading.Lock()
        self.wrong, self.sequences, self.steps, self.ended = [], 0, {}, {}
        self.next_number = 0
        self.pauses = (0.05, 0.35)

    def number(self):
        with self.lock:
            self.next_number += 1
            return self.next_number

    def add(self, table, what, count=1):
        with self.lock:
            table[what] = table.get(what, 0) + count

    def faults_since(self, moment, *kinds):
        """Faults that were under way at or after the moment."""
        return [f for f in self.faults if (f[1] is None or f[1] >= moment) and (not kinds or f[2] in kinds)]

    def last_fault(self):
        now = time.monotonic()
        return max([now if end is None else end for _, end, _ in self.faults], default=0)


class Call:
    """One call, from its offer to its end."""

    def __init__(self, world, which, kinds=None):
        self.w, self.which = world, which
        self.chance = random.Random(f"{world.seed}/{which}")
        self.id = f"s{which}"
        self.history, self.begin, self.version, self.answered, self.unsettled = [], time.monotonic(), 1, False, False
        self.ng = netns.inside(world.gw.netns.name, lambda: Client(timeout=0.7))
        self.legs = []
        for kind in kinds or self._kinds():
            self.legs.append(self._leg(kind))
        world.oracle("far", a=self.legs[0].number, b=self.legs[1].number)
        self.flags = self.chance.choice([[], [], ["offer"], ["offer", "accept"]])

    # -- what it is made of

    def _kinds(self):
        kinds = ["core", "core"]
        if self.w.units and self.chance.random() < 0.4:
            kinds[self.chance.randrange(2)] = "unit"
            if self.chance.random() < 0.2:
                kinds = ["unit", "unit"]
        elif self.w.agents and self.chance.random() < 0.15:
            kinds[self.chance.randrange(2)] = "agent"
        return kinds

    def first_sequence(self):
        """Near its end, mostly, so that it wraps within the call."""
        return 65535 - self.chance.randrange(200) if self.chance.random() < 0.7 else self.chance.randrange(32768)

    def _leg(self, kind):
        number, c = self.w.number(), self.chance
        common = {"number": number, "call": self.id, "ssrc": c.getrandbits(32), "first": self.first_sequence()}
        if kind == "core":
            address = c.choice(self.w.families[0] if c.random() < 0.8 else self.w.families[1])
            leg = Leg(number, kind, self.w.core, address=address)
            leg.port = self.w.oracle("end", space=space_of(leg.space), address=address, **common)["port"]
            if c.random() < 0.7:
                leg.key = make_key(c, c.choice(list(SUITES)))
        else:
            table = self.w.units if kind == "unit" else self.w.agents
            name = c.choice(sorted(set(table) - {leg.name for leg in self.legs}))  # a unit does not call itself
            inner, space = table[name]
            leg = Leg(number, kind, space, name=name, address=inner)
            if kind == "unit":
                leg.port = 10000 + 2 * (number % 20000)
                self.w.oracle("end", space=space_of(space), address="", inner=inner, port=leg.port, **common)
            else:
                leg.port = self._phone_of_agent(space, inner, common)
        leg.mux_wish = c.random() < 0.5
        return leg

    def _phone_of_agent(self, space, inner, common):
        """While the agent is away its address is, too."""
        for tries in range(150):
            try:
                return self.w.oracle("end", space=space_of(space), address=inner, **common)["port"]
            except OracleError:
                if tries == 149:
                    raise
                time.sleep(0.1)

    # -- signalling

    def command(self, name, **keys):
        """As a proxy: asked again under the same cookie until something answers."""
        cookie, begin = self.ng.cookie(), time.monotonic()
        while True:
            try:
                return self.ng.request({"command": name, "call-id": self.id, **{k.replace("_", "-"): v for k, v in keys.items()}}, cookie)
            except (socket.timeout, OSError) as e:
                if time.monotonic() > min(max(begin, self.w.last_fault()) + 15, begin + MOST):
                    raise Wrong(f"ng {name}: no answer in {time.monotonic() - begin:.0f} s ({e})") from None
                time.sleep(0.02)

    def refused(self, what, reply, since):
        """An error where nothing was asked that may be refused: right only where the gateway lost what it must know."""
        reason = reply.get("error-reason", str(reply))
        if self.w.faults_since(since - 4):  # units come back a moment after their control plane
            self.unsettled = True  # what the gateway did before it was killed nobody was told
            raise Ended(f"refused after a fault: {reason}")
        raise Wrong(f"{what} is refused: {reason}")

    def offer(self, x, proposal, transport=None, family=None, **more):
        y = self.other(x)
        self.version += 1
        keys = {"from_tag": f"t{x.number}", **({"to_tag": f"t{y.number}"} if self.answered else {}), **more}
        if transport:
            keys["transport_protocol"] = transport
        if family:
            keys["address_family"] = family
        if self.flags:
            keys["rtcp_mux"] = self.flags
        caller, callee = (leg.name or f"c{leg.number}" for leg in self.legs)
        cryptos, profile = proposal.pop("cryptos", None), proposal.pop("profile", None)
        p = dataclasses.replace(x, **proposal)
        if cryptos is None:
            cryptos = [(p.tag, p.key)] if p.key else []
        sdp = write_sdp(p.address, p.port, cryptos, profile, p.mux_wish, p.direction, p.held, self.version)
        return self.command("offer", sdp=sdp, metadata=f"caller={caller};callee={callee}", replace=["origin"], **keys), p

    def other(self, leg):
        return self.legs[1 - self.legs.index(leg)]

    def answer(self, x, y, sdp):
        return self.command("answer", from_tag=f"t{x.number}", to_tag=f"t{y.number}", sdp=sdp, replace=["origin"])

    def note(self, what):
        self.history.append(f"{time.monotonic() - self.begin:.2f} {what}")

    # -- an offer and its answer

    def negotiate(self, x, what, change=None, change_y=None, transport=None, family=None):
        """x offers with `change`; y answers with `change_y`. Both are what the SDP says; the keys follow."""
        y, since = self.other(x), time.monotonic()
        self.note(f"{what} of {x.number}")
        self.w.add(self.w.steps, what.split(":")[0])
        reply, p = self.offer(x, dict(change or {}), transport, family)
        if reply.get("result") != "ok":
            self.refused(f"offer ({what})", reply, since)
        shown = Sdp(reply["sdp"])
        time.sleep(self.chance.choice([0, 0, 0.02, 0.1]))
        q = dataclasses.replace(y, **(change_y or {}))
        tag, chosen = self._choose(q, shown, "key" in (change_y or {}))
        q.mux = shown.mux and q.mux_wish
        q.direction = DIRECTIONS[shown.direction] if not change_y or "direction" not in change_y else q.direction
        quiet = [leg for leg, new in ((x, p), (y, q)) if leg.gateway and bool(leg.key) != bool(new.key)]
        for leg in quiet:  # what is on its way would be taken for something else
            self.empty_way(leg)
        self.w.oracle("expect", number=y.number, key=chosen)
        if x.key and not p.key:  # who offers clear must take it at once: the answer is still on its way
            self.w.oracle("expect", number=x.number, key=None)
        sdp = write_sdp(q.address, q.port, [(tag, q.key)] if q.key else [], None, q.mux, q.direction, q.held, self.version)
        reply = self.answer(x, y, sdp)
        if reply.get("result") != "ok":
            for leg in quiet:
                self.send(leg)
            self.refused(f"answer ({what})", reply, since)
        self.answered = True
        told = Sdp(reply["sdp"])
        p.mux, p.gateway, q.gateway = told.mux, told, shown
        p.heard = told.cryptos[0][1] if told.cryptos else None
        q.heard = chosen
        if bool(p.key) != bool(p.heard):
            raise Wrong(f"{what}: the answer to {'SRTP' if p.key else 'clear'} has {len(told.cryptos)} a=crypto lines")
        self._commit(x, p)
        self._commit(y, q)

    def _choose(self, q, shown, own_key):
        """Which of the gateway's lines y takes, and y's key for it: the same one where it can stay."""
        if not shown.secure:
            q.key = None
            return 0, None
        lines = shown.cryptos
        if not lines:
            raise Wrong("an RTP/SAVP offer without a=crypto")
        same = [line for line in lines if q.key and line[1]["suite"] == q.key["suite"]]
        tag, chosen = self.chance.choice(same or lines)
        if own_key or not same:
            q.key = make_key(self.chance, chosen["suite"])
        return tag, chosen

    def _commit(self, leg, new):
        """The negotiation is over: the end sends and listens as it says."""
        old = dataclasses.replace(leg)
        for field in dataclasses.fields(Leg):
            setattr(leg, field.name, getattr(new, field.name))
        if leg.kind != "unit":
            self.w.oracle("expect", number=leg.number, key=leg.heard)
            self.w.oracle("settle", number=leg.number)
        fresh = not old.key or not leg.key or old.key["suite"] != leg.key["suite"] or \
            (old.address, old.port) != (leg.address, leg.port)
        self.send(leg, roc="zero" if fresh and old.key != leg.key else "keep")

    def send(self, leg, roc="keep", sends=True):
        if leg.kind == "unit":
            return  # by its primary
        g = leg.gateway
        if g.address in ("0.0.0.0", "::"):  # held: nothing is sent there
            sends = False
        else:
            leg.to = (g.address, g.port, g.port if leg.mux else g.rtcp)
        self.w.oracle("send", number=leg.number, key=leg.key, roc=roc, to=leg.to[:2], to_rtcp=[leg.to[0], leg.to[2]], sends=sends)

    # -- what must flow

    def expected(self):
        out = []
        for y in self.legs:
            x = self.other(y)
            if y.receives and not x.held and x.direction in ("sendrecv", "sendonly") and x.gateway.address not in ("0.0.0.0", "::"):
                out.append((x, y))
        return out

    def flows(self, what):
        """Waits until every direction that must flow has delivered something that was sent from now on."""
        numbers = [leg.number for leg in self.legs]
        marks = dict(zip(numbers, (p[0] for p in self.w.oracle("progress", numbers=numbers)["ends"])))
        begin = time.monotonic()
        while True:
            now = dict(zip(numbers, self.w.oracle("progress", numbers=numbers)["ends"]))
            silent = [(x, y) for x, y in self.expected() if now[y.number][1] <= marks[x.number]]
            if not silent:
                return
            self.may_have_ended()
            x, y = silent[0]
            waited = time.monotonic() - begin
            if waited > PATIENCE and self.w.faults_since(self.begin) and self.gone():
                raise Ended("the gateway ended it after a fault")
            enough = now[x.number][0] - marks[x.number] >= ENOUGH  # not where this machine has no time for the test
            if waited > MOST or enough and time.monotonic() > max(begin, self.w.last_fault()) + PATIENCE:
                raise Wrong(f"silent after {what}: {self.text(x)} -> {self.text(y)}, of {now[x.number][0] - marks[x.number]} packets none"
                            f" arrived{', the gateway does not know the call' if self.gone() else ''}")
            time.sleep(0.04 if waited < PATIENCE else 0.5)

    def empty_way(self, x):
        """Stops x, and waits until all that was sent from there is heard, replays too, or lost: what a killed data plane left in its queues
        is sent on by the next."""
        flows = any(sender is x for sender, _ in self.expected())
        self.arrived(x, flows, 1)  # then what was sent before it has been there, too
        self.send(x, sends=False)
        self.arrived(x, flows, 0)

    def arrived(self, x, flows, more):
        numbers, begin = [x.number, self.other(x).number], time.monotonic()
        sent = self.w.oracle("progress", numbers=numbers)["ends"][0][0] + more
        patience = 1.5 if flows or self.w.faults_since(begin - 2) else 0.1
        while time.monotonic() < begin + patience and self.w.oracle("progress", numbers=numbers)["ends"][1][1] < sent:
            time.sleep(0.02)

    def may_have_ended(self):
        for leg in self.legs:
            if leg.name and self.w.faults_since(self.begin, f"kill {leg.name}"):
                raise Ended("its unit was killed")

    def gone(self):
        return self.command("query").get("result") != "ok"

    @staticmethod
    def text(leg):
        return (f"{leg.kind} {leg.number} ({leg.key['suite'] if leg.key else 'clear'}{', mux' if leg.mux else ''}, {leg.direction}"
                f"{', held' if leg.held else ''}, {leg.address}:{leg.port})")

    def dwell(self):
        """Time goes by; replays come."""
        time.sleep(self.chance.uniform(*self.w.pauses))
        for leg in self.legs:
            if leg.kind == "agent" or self.chance.random() < 0.4:
                continue
            kind = self.chance.choice(["right", "other", "other", "reflect"])
            if kind == "reflect":
                self.w.oracle("reflect", number=leg.number, count=3)
                continue
            attacker = self.w.attackers.get((leg.space.name, ":" in leg.address and leg.kind == "core"))
            more = {} if kind == "right" or attacker is None else {"attacker": attacker}
            self.w.oracle("inject", number=leg.number, count=self.chance.choice([2, 5, 20]), **more)

    # -- its life

    def run(self):
        try:
            self._run()
        except Ended as e:
            self.w.add(self.w.ended, re.sub("[0-9]{3,}", "N", str(e)))
        except Exception as e:  # of the test itself, too: a thread that dies must not look like a sequence that is right
            self.failed(e)
        try:
            self.command("delete", from_tag=f"t{self.legs[0].number}")
            time.sleep(0.05)
            self.report(self.w.oracle("drop", numbers=[leg.number for leg in self.legs], unsettled=self.unsettled)["violations"])
        except Exception as e:
            self.failed(e)
        self.ng.close()
        with self.w.lock:
            self.w.sequences += 1

    def failed(self, e):
        text = str(e) if isinstance(e, Wrong) else traceback.format_exc()
        self.report([{"end": 0, "what": text, "detail": "", "count": 1}])

    def _run(self):
        x, y = self.legs
        transport = self.chance.choice(["RTP/SAVP", "RTP/SAVP", "RTP/AVP"]) if y.kind == "core" else "RTP/AVP"
        if y.kind == "core":
            y.key = None  # chosen of what is offered
        family = "IP6" if ":" in y.address else "IP4"
        self.negotiate(x, f"call: {x.kind} {y.kind}", transport=transport, family=family)
        self.flows("the first answer")
        for _ in range(self.chance.randrange(6, 12)):
            self.dwell()
            what = self.step()
            self.flows(what)

    def report(self, violations):
        with self.w.lock:
            for v in violations:
                self.w.wrong.append({**v, "call": self.which, "legs": [self.text(leg) for leg in self.legs], "history": list(self.history)})

    def step(self):
        x = self.chance.choice(self.legs)
        known = self.w.known_steps
        name = self.chance.choices(list(known), [weight for _, weight in known.values()])[0]
        return known[name][0](self, x, self.other(x), name) or name
