# SPDX-License-Identifier: Apache-2.0
"""Many short calls between two phones in the core, signalling only, sent again until they are answered, as Kamailio does. For tests
that are about calls and records, not about media."""

import netns
from ng import Client, decode, encode
from peer import sdp


class Caller:
    def __init__(self, gw, address):
        self.gw, self.address = gw, address
        self.ng = netns.inside(gw.netns.name, lambda: Client(timeout=0.5))
        self.retries = 0

    def ask(self, name, **keys):
        """The reply, whatever it says; the request is sent again under its cookie until there is one."""
        keys = {"command": name, **{k.replace("_", "-"): v for k, v in keys.items()}}
        wire = self.ng.cookie().encode() + b" "
        for _ in range(40):
            try:
                reply = self.ng.raw(wire + encode(keys))
                while not reply.startswith(wire):
                    reply = self.ng.socket.recv(65535)
            except OSError:  # nobody listens, or it takes long
                self.retries += 1
                continue
            return decode(reply[len(wire):])
        raise RuntimeError(f"ng {name} is not answered: {keys}")

    def command(self, name, call_id, **keys):
        """An error is an error."""
        reply = self.ask(name, call_id=call_id, from_tag="a", **keys)
        if reply.get("result") != "ok":
            raise RuntimeError(f"ng {name} of {call_id} is refused: {reply}")
        return reply

    def offer(self, call_id, caller="dave", callee="erin"):
        """The reply, which may be a refusal."""
        return self.ask("offer", call_id=call_id, from_tag="a", sdp=sdp(self.address, 6000), metadata=f"caller={caller};callee={callee}")

    def answer(self, call_id):
        self.command("answer", call_id, to_tag="b", sdp=sdp(self.address, 6002))

    def begin(self, call_id, caller="dave", callee="erin"):
        self.command("offer", call_id, sdp=sdp(self.address, 6000), metadata=f"caller={caller};callee={callee}")
        self.answer(call_id)

    def end(self, call_id):
        self.command("delete", call_id)

    def whole(self, call_id):
        self.begin(call_id)
        self.end(call_id)

    def known(self):
        return set(self.ask("list", limit=100_000)["calls"])

    def close(self):
        self.ng.close()


def alarms(gw):
    """{name: text} of those that stand."""
    return {a["name"]: a["text"] for a in gw.ctl.ops("alarm list")["alarms"]}
