# SPDX-License-Identifier: Apache-2.0
"""What the tests of the shared store have in common: a server, two levels, a gateway with both. Calls: core_calls."""

from harness import skip, wait_until
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
