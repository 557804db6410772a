# SPDX-License-Identifier: Apache-2.0
"""Many flows at once: the contract tool's bulk commands (tests/tools/bulk_items.hpp) and what the stats segment says of them."""

import struct
from pathlib import Path

from flows import SUITES
from harness import equal

CALLS_PER_ADDRESS, FIRST_PORT = 60_000, 1024


def addresses(net, calls):
    """Media addresses for so many calls: access and core, then further pairs (nobody needs to have those for flows to be there)."""
    more = (calls + CALLS_PER_ADDRESS - 1) // CALLS_PER_ADDRESS - 1
    extra = {f"{kind}{i}": f"203.0.{113 + i}.{last}" for i in range(1, more + 1) for kind, last in (("access", 1), ("core", 2))}
    return {"access": net.access, "core": "198.51.100.2", **extra}


def flow_id(n):
    call = n // 2
    return (2 * (call // CALLS_PER_ADDRESS) + n % 2) << 16 | FIRST_PORT + call % CALLS_PER_ADDRESS


def key(suite, n, epoch):
    """Key and salt of flow n under an epoch, in hex."""
    length, salt = SUITES[suite]
    head = struct.pack(">II", flow_id(n), epoch)
    return (head + bytes(11 * i & 0xff for i in range(8, length))).hex() + bytes(7 * i + n % 2 & 0xff for i in range(salt)).hex()


class Bulk:
    """Does one thing to flows [first, first + count) and insists that every one of them is ok; adds up the seconds by verb."""

    def __init__(self, contract, suite="AEAD_AES_128_GCM", unit="", core="", own_phones=False):
        self.contract, self.seconds = contract, {}
        self.arguments = {"suite": suite, "unit": unit, "core": core, "own_phones": own_phones}

    def __call__(self, verb, first, count, epoch=0, timeout=0):
        answer = self.contract("bulk", verb=verb, first=first, count=count, epoch=epoch, timeout=timeout, **self.arguments)
        equal(answer.get("statuses"), {"ok": (count + 1) // 2 if verb == "switch" else count}, f"statuses of {verb} ({answer})")
        self.seconds[verb] = self.seconds.get(verb, 0) + answer["seconds"]


def in_use(dp):
    """(flows, keys) in force, bytes of state memory a flow; written by the control thread each time it comes round."""
    with open(Path(f"/dev/shm/tandem-{dp.instance}.stats"), "rb") as segment:
        head = segment.read(4096)
    flows, keys = struct.unpack_from("<II", head, 56 + 8 * 256)
    return flows, keys, struct.unpack_from("<I", head, 12)[0]
