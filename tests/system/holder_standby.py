#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tandem-holder with a data plane that misbehaves (a script): a standby that dies at once is not started over and over, and one
that takes over but never forwards is killed and replaced. What it does with the real one is in dataplane_kill*.py."""
import os
import signal
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from harness import check, equal, main, wait_until
from programs import program

# Logs "PID role"; forwards at once unless it is a standby, which does as MODE says.
FAKE = """#!/bin/bash
log=%s mode=%s standby= ready=
while [ $# -gt 0 ]; do case $1 in --standby-fd) standby=$2; shift ;; --ready-fd) ready=$2; shift ;; esac; shift; done
if [ -n "$standby" ]; then
    echo "$$ standby" >>$log
    [ $mode != dies ] || kill -9 $$
    read -r -N 1 word <&$standby || exit 0
    echo "$$ told $word" >>$log
else
    echo "$$ starts" >>$log
    echo -n r >&$ready
fi
exec sleep 60
"""


def start(t, mode):
    script, log = t.dir / f"{mode}.sh", t.dir / f"{mode}.log"
    script.write_text(FAKE % (log, mode))
    script.chmod(0o755)
    lines = lambda what: [int(x.split()[0]) for x in (log.read_text().splitlines() if log.exists() else []) if what in x]
    process = t.start(f"holder-{mode}", [program("tandem-holder"), "--", str(script)])
    return process, lines


def test(t):
    begin = time.monotonic()
    process, lines = start(t, "dies")
    wait_until(lambda: lines("standby"), "a standby", 5)
    os.kill(process.pid, 0)
    hanging, of = start(t, "hangs")
    wait_until(lambda: of("standby"), "a standby", 5)
    os.kill(of("starts")[0], signal.SIGKILL)
    wait_until(lambda: of("told g"), "the standby is told", 5)
    wait_until(lambda: len(of("starts")) == 2, "one that never forwards is replaced", 30)
    check("does not forward" in hanging.log() and of("told g")[0] not in of("starts"), "the holder says why")
    # More than ten seconds have gone by: started over and over, it would be hundreds.
    check(len(lines("standby")) <= 2 + (time.monotonic() - begin) / 4, f"a standby that dies is not started at once again: {len(lines('standby'))} times")
    equal(len(lines("starts")), 1, "the data plane in force is left alone")


main(test, "holder: a standby that dies or hangs")
