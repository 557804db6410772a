#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# alone
"""A data plane that took over from another one and then stands still (SIGSTOP) under more packets than its rings hold: the kernel gives it
frames of its own alone, it goes on where it was, and what was lost is counted as lost in the rings."""
import os
import signal
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from harness import check, equal, main, wait_until
from load import CORE_PORT, FIRST_PORT, UNIT_PORT, Load, Pinned, key_lines

CALLS, RATE, SECONDS, SUITE = 100, 50, 9, "AEAD_AES_128_GCM"
STANDS_S, RING = 2.5, 2048  # less than the 4 s after which the holder replaces it


def test(t):
    net = t.network(ue2=False)
    dp = Pinned(t, net).start()
    dp.add_streams(SUITE, CALLS, net.bob_address, net.ue_address).close()
    first = dp.pid()
    wait_until(lambda: len(open(f"/proc/{dp.process.pid}/task/{dp.process.pid}/children").read().split()) == 3, "two standbys", 20)
    time.sleep(1)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: dp.process.log().count("in force") == 2, "a standby takes over", 10)
    in_force = dp.pid()
    before = dp.account()
    os.kill(in_force, signal.SIGSTOP)  # before its first packet: its rings are as they were made
    load = Load("--from-netns", net.core.name, "--from", f"{net.bob_address}:{CORE_PORT}", "--receive-netns", net.ue.name, "--receive",
                f"{net.ue_address}:{UNIT_PORT}", "--to", f"{net.core_address}:{FIRST_PORT}-{FIRST_PORT + 2 * CALLS - 1}/2", "--suite", "clear",
                "--receive-suite", SUITE, "--streams", CALLS, "--rate", CALLS * RATE, "--seconds", SECONDS, "--linger", 1, keys=key_lines(SUITE, CALLS, "receive", "down"))
    for _ in range(2):
        time.sleep(STANDS_S)
        os.kill(in_force, signal.SIGCONT)
        time.sleep(1)
        check(os.path.exists(f"/proc/{in_force}"), f"it goes on: {dp.process.tail()}")
        os.kill(in_force, signal.SIGSTOP)
    os.kill(in_force, signal.SIGCONT)
    result = load.result(60)
    lost = sum(dp.since(before)["counter"].get(name, 0) for name in ("rx_ring_full", "rx_no_buffer"))
    t.say(f"stood still twice for {STANDS_S} s: {result['lost']} of {result['sent']} packets lost, {lost} of them in the rings; {result['received']} received")
    equal(dp.pid(), in_force, "the data plane in force")
    check("killed by signal 9" in dp.process.log() and dp.process.log().count("killed by signal") == 1, "none has ended but the first")
    check(lost > RING, f"more packets came than the rings hold: {lost} lost in them")
    equal([result[what] for what in ("bad_tags", "bad_content", "duplicates", "foreign")], [0] * 4, "wrong tags, wrong contents, duplicates, foreign ones")
    check(result["received"] > result["sent"] * 0.3, f"media go on: {result['received']} of {result['sent']}")


main(test, "data plane: stands still after a take-over, more packets than its rings hold")
