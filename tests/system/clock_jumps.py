#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""The control plane's wall clock is set in the middle of calls (an hour, ten years, 1970), and over a kill -9: each record has the time
that the call took, never ends before it began and names the jump; the profile learns the true lengths. A start with a wrong clock
deletes no record, whatever keep_days says; with the right one the old ones go."""
import contextlib
import csv
import io
import sqlite3
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from core_calls import Caller, alarms
from harness import check, equal, main, wait_until
from wall_clock import WallClock

HOUR, DAY = 3600, 86400
YEARS = 3650 * DAY


def test(t):
    net = t.network(ue2=False)
    clock = WallClock(t.dir)
    gw = t.gateway(net, start=False, kamailio=False, tables=[("[store]", {"keep_days": 1, "log_mib": 4})])
    gw.controlplane_env = clock.environment
    gw.start()
    calls = Caller(gw, net.bob_address)
    lengths = {}

    def during(name, jump, kill=False):
        """A call in which the clock is set."""
        calls.begin(name, "+46701", "+46702")
        begin = time.monotonic()
        time.sleep(0.7)
        jump()
        if kill:
            gw.controlplane.kill()
            gw.start_controlplane()
        time.sleep(0.7)
        calls.end(name)
        lengths[name] = time.monotonic() - begin

    during("steady", lambda: None)
    during("hour", lambda: clock.ahead(HOUR))
    wait_until(lambda: "clock" in alarms(gw), "the alarm of the clock stands", 5)
    check("clock accept" in alarms(gw)["clock"], alarms(gw)["clock"])
    during("years", lambda: clock.ahead(YEARS))
    during("1970", lambda: clock.show(100))
    during("killed", lambda: clock.ahead(HOUR), kill=True)
    during("back", lambda: clock.ahead(0), kill=True)
    wait_until(lambda: "clock" not in alarms(gw), "the alarm is over when the clock is right", 5)
    true_times(gw, lengths)
    keeps(t, gw, clock, len(lengths))


def true_times(gw, lengths):
    rows = {r["call_id"]: r for r in gw.ctl("record", "list")["records"]}
    equal(set(rows), set(lengths), "calls with a record")
    for name, length in lengths.items():
        r = rows[name]
        check(length - 0.5 < r["seconds"] < length + 0.5, f"{name} took {length:.1f} s, its record says {r['seconds']}")
        check(r["started"] <= r["answered"] <= r["ended"], f"{name} began before it ended: {r}")
        equal(bool(r["clock"]), name != "steady", f"whether the record of {name} names a jump ({r['clock']})")
        equal(gw.ctl("record", "show", r["id"])["clock"], r["clock"], "record show")
    check("+3600 s" in rows["hour"]["clock"], rows["hour"]["clock"])
    check("-3600 s" in rows["back"]["clock"], rows["back"]["clock"])
    line = next(row for row in csv.DictReader(io.StringIO(gw.ctl.raw("record", "export", "--csv")[1])) if row["call_id"] == "hour")
    check(3599 < float(line["clock_set_s"]) < 3601, f"record export: {line['clock_set_s']}")
    profile = gw.ctl.ops("policy profile", a="+46701", b="+46702")
    equal(profile["total"], len(lengths), "calls that the profile learnt of")
    equal(profile["calls"], len(lengths) - 1, "of them younger than 90 days: all but the one that began in 1970")
    check(profile["mean_s"] < max(lengths.values()) + 0.5, f"their mean: {profile['mean_s']}")


def keeps(t, gw, clock, count):
    def restart(ahead):
        gw.controlplane.stop()
        clock.ahead(ahead)
        gw.start_controlplane()

    def there():
        return len(gw.ctl("record", "list", "--limit", "1000")["records"])

    for ahead in (YEARS, 2 * DAY, -365 * DAY, -time.time() + 60):
        restart(ahead)
        wait_until(lambda: "clock" in alarms(gw), "a start with a wrong clock is an alarm", 5)
        equal(there(), count, f"records after a start with a clock that is {ahead:.0f} s ahead")
        clock.ahead(ahead + 40 * DAY)
        time.sleep(0.7)
        equal(there(), count, "and after another jump")
    gw.controlplane.stop()
    clock.ahead(0)
    with contextlib.closing(sqlite3.connect(gw.dir / "tandem.db", timeout=10)) as db, db:  # the two oldest are old indeed
        db.execute("UPDATE record SET ended = ended - 172800000 WHERE n IN (SELECT n FROM record ORDER BY n LIMIT 2)")
    gw.start_controlplane()
    wait_until(lambda: there() == count - 2, "what is older than keep_days goes by a clock that is right", 10)
    check("clock" not in alarms(gw), "no alarm of the clock")


main(test, "a clock that is set changes no duration and deletes nothing")
