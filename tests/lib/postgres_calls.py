# SPDX-License-Identifier: Apache-2.0
"""What the tests of the shared store have in common: two levels, alarms by name, and many short calls through ng that are sent again
until they are answered, as Kamailio does."""

import netns
from harness import skip, wait_until
from ng import Client, decode, encode
from peer import sdp
from postgres import NoServer, Postgres

LEVELS = {"standard": {"suite": "AEAD_AES_128_GCM", "seed_bytes": 16, "rekey_s": 10, "overlap_s": 1},
          "high": {"suite": "AEAD_AES_256_GCM", "seed_bytes": 32, "rekey_s": 5, "overlap_s": 1}}


def start_server(t):
    """A PostgreSQL server of the test's own; the test is skipped where the machine has none."""
    try:
        server = Postgres(t.dir / "pg")
    except NoServer as e:
        skip(str(e))
    t.defer(server.remove)
    server.start()
    return server


def shared_store(server):
    """The gateway's tables for it."""
    return [("[store]", {"kind": "postgresql", "conninfo": server.conninfo})]


def gateway_with(t, net, server):
    gw = t.gateway(net, kamailio=False, levels=LEVELS, tables=shared_store(server))
    wait_until(lambda: gw.ctl.ops("status")["store"]["connected"], "the shared store is connected", 10)
    return gw


def alarms(gw):
    """{name: text} of those that stand."""
    return {a["name"]: a["text"] for a in gw.ctl.ops("alarm list")["alarms"]}


class Caller:
    """Calls between two phones in the core, signalling only."""

    def __init__(self, gw, address):
        self.address = address
        self.ng = netns.inside(gw.netns.name, lambda: Client(timeout=0.5))
        self.retries = 0

    def command(self, name, call_id, **keys):
        """Sent again under the same cookie until it is answered; an error is an error."""
        keys = {"command": name, "call-id": call_id, "from-tag": "a", **{k.replace("_", "-"): v for k, v in keys.items()}}
        wire = self.ng.cookie().encode() + b" "
        for _ in range(40):
            try:
                reply = self.ng.raw(wire + encode(keys))
                while not reply.startswith(wire):
                    reply = self.ng.socket.recv(65535)
            except OSError:  # nobody listens, or it takes long
                self.retries += 1
                continue
            reply = decode(reply[len(wire):])
            if reply.get("result") != "ok":
                raise RuntimeError(f"ng {name} of {call_id} is refused: {reply}")
            return reply
        raise RuntimeError(f"ng {name} of {call_id} is not answered")

    def begin(self, call_id, caller="dave", callee="erin"):
        self.command("offer", call_id, sdp=sdp(self.address, 6000), metadata=f"caller={caller};callee={callee}")
        self.command("answer", call_id, to_tag="b", sdp=sdp(self.address, 6002))

    def end(self, call_id):
        self.command("delete", call_id)

    def close(self):
        self.ng.close()
