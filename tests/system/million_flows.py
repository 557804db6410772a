#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
# count: 1000000 flows
"""A million flows with a key each, put in over the contract, found again by FLOW_LIST, removed without a trace; and a kill -9 in the
middle of a batch leaves whole flows only, which the next process lists and removes."""
import os
import signal
import sys
import threading
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from bulk import Bulk, addresses, in_use
from flows import Dataplane
from harness import check, equal, main, skip, wait_until

MIB_A_MILLION = 4200


def available_mib():
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("MemAvailable")) // 1024


def resident_mib(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) // 1024


def test(t):
    flows = t.count
    needed = 300 + MIB_A_MILLION * flows // 1_000_000
    if available_mib() < needed:
        skip(f"{needed} MiB of memory are needed, {available_mib()} are free")
    net = t.network(ue2=False)
    begin = time.monotonic()
    dp = Dataplane(t, net, addresses=addresses(net, flows // 2), max_flows=flows, hugepages="auto").start(120)
    started = time.monotonic() - begin
    contract = dp.contract()
    equal(contract("hello")["max_flows"], flows, "max_flows")
    net.gw.route("10.0.0.0/8", "via", net.bob_address)  # half a million phones behind one neighbour
    at = {"unit": f"{net.ue_address}:1024", "core": "10.0.0.0:1024", "own_phones": True}
    bulk = Bulk(contract, **at)
    bulk("add", 0, flows)
    bulk("install", 0, flows)
    equal(contract("bulk", verb="add", first=7, count=1, **at)["statuses"], {"flow_exists": 1}, "status of a flow that is there")
    equal(contract("count"), {"flows": flows, "in_epochs": flows // 2, "out_epochs": flows // 2, "foreign": 0}, "what is listed")
    wait_until(lambda: in_use(dp)[:2] == (flows, flows), "flows and keys in the stats segment")
    memory = resident_mib(dp.pid())
    check(memory < 8192, f"the data plane takes less than 8 GiB: {memory} MiB")

    bulk("remove", 0, flows)
    equal(contract("count")["flows"], 0, "flows that are left")
    wait_until(lambda: in_use(dp)[:2] == (0, 0), "no flow and no key in the stats segment")
    t.say(f"up in {started:.1f} s, {memory} MiB; {in_use(dp)[2]} bytes a flow; " +
          ", ".join(f"{verb} {flows / s:,.0f}/s" for verb, s in bulk.seconds.items()))

    # All the room is there again. While the last flows come in, the data plane is killed.
    some = flows // 5
    bulk("add", 0, some)
    bulk("install", 0, some)
    pid = dp.pid()
    killer = threading.Thread(target=kill_past, args=(dp, pid, some + flows // 10))
    killer.start()
    try:
        contract("bulk", verb="add", first=some, count=flows - some, **at)
        check(False, "the data plane is killed before it has added them all")
    except OSError:
        pass
    except Exception as e:
        check("closed" in str(e) or "contract tool" in str(e), f"the connection is lost: {e}")
    killer.join()
    check(wait_until(lambda: dp.pid() not in (pid, dp.process.pid) and dp.pid(), "the holder starts another", 10), "it runs")
    contract = wait_until(lambda: greeted(dp), "the next data plane answers", 60)
    hello = contract("hello")
    equal(hello["restarts"], 1, "restarts")
    t.say(f"killed with {hello['flows']} flows; silent for {hello['last_gap_ms']} ms")
    check(some < hello["flows"] < flows, f"the kill came in the middle: {hello['flows']} flows")
    equal(contract("count"), {"flows": hello["flows"], "in_epochs": some // 2, "out_epochs": some // 2, "foreign": 0}, "what is found again")
    wait_until(lambda: in_use(dp)[:2] == (hello["flows"], some), "every key has its flow")
    Bulk(contract, **at)("remove", 0, hello["flows"])
    wait_until(lambda: in_use(dp)[:2] == (0, 0), "no flow and no key is left")


def kill_past(dp, pid, flows):
    """kill -9 as soon as more flows than that are in force; at the latest after 30 s."""
    end = time.monotonic() + 30
    while in_use(dp)[0] <= flows and time.monotonic() < end:
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)


def greeted(dp):
    try:
        contract = dp.contract()
        return contract if contract("hello")["restarts"] else None
    except Exception:
        return None


main(test, "data plane: a million flows")
