#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ten thousand flows re-keyed (installed, switched, retired in batches) twice while calls among them talk: nothing is lost, every
packet authenticates at libsrtp2 ends under the new keys, every counter adds up; others come and go beside the calls, and each silence
among ten thousand is reported once."""
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from bulk import Bulk, FIRST_PORT, addresses, flow_id, in_use, key
from flows import Dataplane, Peer
from harness import check, equal, main, wait_until

FLOWS, RATE, PHASE, EPOCHS = 10_000, 100, 4, (0, 1, 2)
DELAY = 1.5  # every end listens before one speaks
SUITE = "AEAD_AES_128_GCM"
TALKING = (0, 1, 2, 1666, 3333, 4999)  # calls


def test(t):
    net = t.network(ue2=False)
    dp = Dataplane(t, net, addresses=addresses(net, FLOWS // 2), max_flows=2 * FLOWS).start()
    contract = dp.contract()
    contract("hello")
    bulk = Bulk(contract, SUITE, unit=f"{net.ue_address}:{FIRST_PORT}", core=f"{net.bob_address}:{FIRST_PORT}")
    bulk("add", 0, FLOWS)
    bulk("install", 0, FLOWS)

    count = RATE * PHASE * len(EPOCHS)
    switches = [w for e in EPOCHS[1:] for w in ("--switch", f"{e * RATE * PHASE}:{e}")]
    units, phones = [], []
    for call in TALKING:
        port = FIRST_PORT + call
        keys = lambda option, n: [w for e in EPOCHS for w in (option, f"{e}:{key(SUITE, n, e)}")]
        common = ["--rate", RATE, "--count", count, "--rtcp-every", 50, "--delay", DELAY, "--linger", 2]
        phones.append(Peer(t, net.core, f"phone{call}", "--bind", f"{net.bob_address}:{port}", "--to", f"198.51.100.2:{port}",
                           "--ssrc", 2000 + call, *common))
        units.append(Peer(t, net.ue, f"unit{call}", "--bind", f"{net.ue_address}:{port}", "--to", f"{net.access}:{port}",
                          "--ssrc", 1000 + call, "--suite", SUITE, "--mki", 4, *keys("--send-key", 2 * call),
                          *keys("--receive-key", 2 * call + 1), *switches, *common))
    begin = time.monotonic() + DELAY
    for epoch in EPOCHS[1:]:  # the units switch in the middle of what both epochs are valid for
        time.sleep(max(0, begin + (epoch - 0.5) * PHASE - time.monotonic()))
        bulk("install", 0, FLOWS, epoch)
        bulk("switch", 0, FLOWS, epoch)
        equal(contract("count"), {"flows": FLOWS, "in_epochs": FLOWS, "out_epochs": FLOWS, "foreign": 0}, "epochs while both are valid")
        time.sleep(max(0, begin + (epoch + 0.5) * PHASE - time.monotonic()))
        bulk("retire", 0, FLOWS, epoch - 1)
        # Others come and go.
        bulk("add", FLOWS, FLOWS)
        bulk("install", FLOWS, FLOWS)
        bulk("remove", FLOWS, FLOWS)
    equal(contract("count"), {"flows": FLOWS, "in_epochs": FLOWS // 2, "out_epochs": FLOWS // 2, "foreign": 0}, "epochs at the end")

    ends = [(peer.result(), f"{name}{call}") for name, list_ in (("unit", units), ("phone", phones)) for peer, call in zip(list_, TALKING)]
    for end, name in ends:
        equal(end["sent"], count, f"sent by {name}")
        equal(end["received"], count, f"received by {name}")
        equal(end["received_rtcp"], count // 50, f"RTCP received by {name}")
        for what in ("auth_failed", "replayed", "doubled", "wrong_content", "malformed", "lost", "send_errors"):
            equal(end[what], 0, f"{what} at {name}")
    equal(dp.drops(), {}, "drops")
    sending = {f["sending"] for f in contract("list")["flows"] if f["out_epochs"]}
    equal(sending, {EPOCHS[-1]}, "epochs that are sent under")
    wait_until(lambda: in_use(dp)[:2] == (FLOWS, FLOWS), "a key for each flow")

    # Looking for silence goes through them in parts.
    bulk("add", FLOWS, FLOWS, timeout=1)
    silent = []
    wait_until(lambda: len(silent.extend(e["id"] for e in contract("events", ms=200)["events"] if e["event"] == "flow_timeout") or silent)
               >= FLOWS, "every silence is reported", 15)
    silent += [e["id"] for e in contract("events", ms=1500)["events"] if e["event"] == "flow_timeout"]
    equal(len(silent), FLOWS, "silences reported")
    equal(set(silent), {flow_id(n) for n in range(FLOWS, 2 * FLOWS)}, "flows that are silent")
    bulk("remove", 0, 2 * FLOWS)
    wait_until(lambda: in_use(dp)[:2] == (0, 0), "no flow and no key is left")
    check(len(ends) == 2 * len(TALKING), "every end was asked")
    t.say(f"{2 * FLOWS} re-keys beside {sum(end['received'] for end, _ in ends)} packets; " +
          ", ".join(f"{verb} {s * 1000:.0f} ms" for verb, s in bulk.seconds.items()))


main(test, "data plane: ten thousand flows re-keyed under traffic")
