#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
# count: 4000 kills
"""Exactly once: the store is killed -9 at a random point, many times, each time reopened and looked at. No call that was
acknowledged is lost, no record is there twice or without a media of its call, each pair's profile has learned of each of its records once."""
import json
import os
import random
import select
import signal
import sqlite3
import subprocess
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from harness import check, equal, main
from programs import program


class Said:
    """What was acknowledged, over all rounds."""

    def __init__(self):
        self.put, self.ended, self.done, self.media = set(), set(), set(), {}

    def take(self, words):
        verb, token = words[0], words[1] if len(words) > 1 else ""
        if verb == "put":
            self.put.add(token)
            self.media[token] = {int(n) for n in words[2:]}
        elif verb == "ended":
            self.ended.add(token)
        elif verb == "done":
            self.done.add(token)


def listen(pipe, until, on):
    """Lines of the pipe until the clock says `until`, the line "ready" (until=None) or its end. True where it was ready."""
    rest = b""
    while until is None or time.monotonic() < until:
        wait = 20 if until is None else max(0, until - time.monotonic())
        if not select.select([pipe], [], [], wait)[0]:
            return False
        got = os.read(pipe.fileno(), 1 << 16)
        if not got:
            return False
        *lines, rest = (rest + got).split(b"\n")
        for line in lines:
            on(line.decode().split())
        if until is None and b"ready" in lines:
            return True
    return True


def round_of(directory, seed, said, chance):
    """One life. What it found is returned: (goes on, ended and waits for its media)."""
    arguments = [program("store_room"), str(directory), "run", str(seed), *(["direct"] if chance.random() < 0.3 else [])]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
        found = {"open": set(), "over": set()}

        def on(words):
            if words[0] in found:
                found[words[0]].add(words[1])
            else:
                said.take(words)

        ready = listen(process.stdout, None, on)
        listen(process.stdout, time.monotonic() + chance.uniform(0.001, 0.06), on)
        alive = process.poll() is None
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read() or b""
        for line in rest.split(b"\n")[:-1]:
            on(line.decode().split())
        complaints = process.stderr.read().decode()
    check(ready and alive, f"life {seed} went on until it was killed; it said: {complaints!r}")
    equal(complaints, "", f"what life {seed} complained of")
    return found


class Books:
    """The records, read as they come."""

    def __init__(self, path):
        self.path, self.last = path, 0
        self.tokens, self.ids, self.pairs = {}, set(), {}

    def read(self, said):
        db = sqlite3.connect(self.path)
        for n, record_id, body in db.execute("SELECT n, id, body FROM record WHERE n > ? ORDER BY n", (self.last,)):
            self.last = n
            record = json.loads(body)
            token = record["cause"]
            check(token not in self.tokens, f"call {token} has one record")
            check(record_id not in self.ids and record["id"] == record_id and len(record_id) == 32, f"record {record_id} is unique")
            media = {m["id"] for m in record["media"]}
            equal(media, said.media.get(token, media), f"the media in the record of {token}")
            for m in record["media"]:
                equal((m["decided_by"] if "decided_by" in m else record["decided_by"], m["legs"][0]["packets"]), (token, m["id"]),
                      f"whose media, and how much, is in the record of {token}")
            self.tokens[token] = record
            self.ids.add(record_id)
            pair = tuple(sorted((record["caller"], record["callee"])))
            self.pairs.setdefault(pair, []).append([record["ended"], record["duration_ms"], int(record["answered"] == 0)])
        going = {json.loads(body)["token"] for (body,) in db.execute("SELECT body FROM call")}
        waiting = {json.loads(body)["token"] for (body,) in db.execute("SELECT body FROM call WHERE ended IS NOT NULL")}
        profiles = {(a, b): json.loads(body) for a, b, body in db.execute("SELECT a, b, body FROM profile")}
        db.close()
        return going, waiting, profiles


def look(directory, books, said):
    subprocess.run([program("store_room"), str(directory), "look"], check=True, stdout=subprocess.DEVNULL, timeout=30)
    going, waiting, profiles = books.read(said)
    recorded = set(books.tokens)
    check(not going & recorded, f"no call goes on that has its record: {sorted(going & recorded)[:3]}")
    lost = said.put - going - recorded
    check(not lost, f"no call that was put is lost: {sorted(lost)[:3]}")
    check(said.ended <= waiting | recorded, f"no call goes on that was ended: {sorted(said.ended - waiting - recorded)[:3]}")
    unwritten = (said.done & said.put) - recorded
    check(not unwritten, f"every call that was over is recorded: {sorted(unwritten)[:3]}")
    equal(set(profiles), set(books.pairs), "the pairs that have a profile")
    for pair, calls in books.pairs.items():
        equal(profiles[pair]["total"], len(calls), f"the calls that the profile of {pair} has learned of")
        known = profiles[pair]["calls"]
        equal(len(known), min(len(calls), 64), f"the calls remembered of {pair}")
        check(all(c in calls for c in known), f"the profile of {pair} has calls that have records")


def test(t):
    chance, kills = random.Random(t.seed), t.count
    said, books = Said(), Books(t.dir / "r.db")
    for number in range(1, kills + 1):
        round_of(t.dir, number, said, chance)
        look(t.dir, books, said)
    check(len(said.done) > kills and len(said.put) > kills, "there were calls enough")
    again = sum(1 for r in books.tokens.values() if r["call_id"] != r["cause"] + "@x")
    check(again > 0, "a Call-ID came again before its first call was over")
    t.say(f"{kills} kills, seed {t.seed}, {len(said.put)} calls put, {len(books.tokens)} records, {again} of them with a Call-ID that came again")


main(test, "records exactly once over kill -9")
