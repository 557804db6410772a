#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the data plane says where it cannot start: a taken socket, an interface of another gateway, no such interface, missing
privileges, no hugepages, wrong configurations. One line, exit status 1, nothing changed for the one that runs."""
import os
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
from flows import Dataplane
from harness import check, equal, main


def refused(dp, words, prefix=(), live=False):
    for holder in (False, True):
        dp.holder = holder
        status, said = dp.fails(prefix)
        errors = [line for line in said.splitlines() if " info: " not in line and " warning: " not in line
                  and not line.startswith("tandem-holder: data plane exited")]
        equal(status, 1, f"exit status (it said: {said})")
        equal(len(errors), 1, f"lines that it said: {said}")
        check(words in errors[0], f"'{words}' in: {errors[0]}")
        own = f"/dev/shm/tandem-{dp.instance}.stats"
        check(live or not os.path.exists(own), f"a failed start leaves no {own}")


def test(t):
    net = t.network(ue2=False)
    first = Dataplane(t, net, "first").start()
    refused(first, "another data plane runs on", live=True)
    other = Dataplane(t, net, "second")
    refused(other, "another")  # same interfaces, own run directory
    same_name = Dataplane(t, net, "third", instance=first.instance)
    refused(same_name, "instance", live=True)
    equal(first.contract()("hello")["restarts"], 0, "restarts of the one that runs")

    refused(Dataplane(t, net, "fourth", ports=["nothere0"]), "nothere0")
    refused(Dataplane(t, net, "fifth"), "missing privileges: CAP_NET_ADMIN", ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all"))
    refused(Dataplane(t, net, "sixth", hugepages="require"), "sysctl vm.nr_hugepages=")

    for text, words in (('version = 1\ninstanse = "x"\n', ':2: unknown key "instanse"'), ("version = 2\n", ":1: version must be"),
                        ("version = 1\nworkers = 0\n", ":2: workers must be a whole number from 1 to 64"),
                        ('version = 1\n[[address]]\nname = "a"\nip = "192.0.2"\n', ":2: ip \"192.0.2\" is not"),
                        ('version = 1\n[[address]]\nname = "a"\nip = "192.0.2.1"\n', "no port; add: [[port]]"),
                        ('version = 1\nidle = "sleepy"\n', ":2: idle must be one of: adaptive, poll"), ("version = \n", ":1: not TOML")):
        wrong = Dataplane(t, net, "wrong")
        with open(wrong.config, "w") as f:
            f.write(text)
        refused(wrong, words)
    equal(first.contract()("hello")["restarts"], 0, "restarts of the one that runs")
    equal(first.process.stop(), 0, "exit status after SIGTERM")
    first.start()  # and everything is free again
    equal(first.contract()("hello")["flows"], 0, "flows after a clean end")


main(test, "data plane: clear words where it cannot start")
