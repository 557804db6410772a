#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""cpus = [N] pins the worker to that CPU and to no other, the control thread elsewhere where there is another; a CPU that is not there, is
not permitted or is named twice is refused by a sentence before anything is started."""
import os
import sys
from pathlib import Path

sys.path.insert(0, sys.path[0] + "/../lib")
from flows import Dataplane
from harness import check, equal, main, skip


def cpus_of(task):
    """CPUs that a thread may run on."""
    line = next(x for x in (task / "status").read_text().splitlines() if x.startswith("Cpus_allowed_list:"))
    found = set()
    for part in line.split()[1].split(","):
        low, _, high = part.partition("-")
        found |= set(range(int(low), int(high or low) + 1))
    return found


def test(t):
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) < 2:
        skip("one CPU only: nothing to choose from")
    net = t.network(ue2=False)
    worker_cpu = mine[-1]
    dp = Dataplane(t, net, name="pinned", holder=False, cpus=[worker_cpu], idle="interrupt").start()
    c = dp.contract()
    check("generation" in str(c("hello")), "it answers")
    tasks = {task: cpus_of(task) for task in Path(f"/proc/{dp.pid()}/task").iterdir()}
    workers = [task for task in tasks if "worker" in (task / "comm").read_text()]
    equal([tasks[w] for w in workers], [{worker_cpu}], "CPUs of the workers")
    control = next(task for task in tasks if int(task.name) == dp.pid())
    check(worker_cpu not in tasks[control], f"the control thread leaves the worker's CPU to it: {tasks[control]}")
    check(f"worker 0 on CPU {worker_cpu}" in dp.process.log(), "the log says which CPU")
    c.close()
    equal(dp.process.stop(20), 0, "exit status")
    for prefix, settings, words in (
            ((), {"cpus": [999]}, "cpus names CPU 999, which is not there"),
            (("taskset", "-c", str(mine[0])), {"cpus": [worker_cpu]}, f"cpus names CPU {worker_cpu}, which this process may not use"),
            ((), {"cpus": [mine[0], mine[0]], "workers": 2}, f"cpus names CPU {mine[0]} twice"),
            ((), {"cpus": mine[:2]}, "cpus names 2 CPU(s) and workers = 1")):
        status, said = Dataplane(t, net, name=f"refused{len(words)}", holder=False, **settings).fails(prefix=prefix)
        equal(status, 1, f"exit status; it said: {said}")
        check(words in said, f"it says {words!r}: {said}")


main(test, "workers pinned by configuration")
