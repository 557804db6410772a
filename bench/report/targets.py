# SPDX-License-Identifier: Apache-2.0
"""What the figures are to reach. A target without its rows is left out; one that is missed says by how much."""

from rows import pick, value

GCM, CM = "AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80"
SIZES = (33, 60, 160, 1200)
# Decrypting, TSC cycles per packet at 2.3 GHz on an Emerald Rapids core (other cores and clocks give other cycles).
CYCLES = {(GCM, 1000): (140, 145, 175, 520), (GCM, 20000): (200, 210, 240, 600), (CM, 1000): (270, 280, 330, 920), (CM, 20000): (320, 330, 380, 980)}
TO_EVP = {1000: 5, 20000: 8}  # GCM, 160 B
MILLION = 1.6                 # of the figure at 20,000 flows


def _path(rows, engine, suite, flows, payload):
    return value(rows, bench="path", unit="tsc", engine=engine, suite=suite, flows=flows, payload=payload, direction="srtp-rtp")


def _at_most(what, limit, reached):
    by = f"{100 * (reached / limit - 1):.0f} %" if limit else f"{reached:g}"
    return (what, limit, reached, reached <= limit, "reached" if reached <= limit else f"missed by {by}")


def _at_least(what, limit, reached):
    return (what, limit, reached, reached >= limit, "reached" if reached >= limit else f"missed by {100 * (1 - reached / limit):.0f} %")


def _cycles(rows):
    for (suite, flows), limits in CYCLES.items():
        for payload, limit in zip(SIZES, limits):
            reached = _path(rows, "tandem", suite, flows, payload)
            if reached is not None:
                yield _at_most(f"{suite}, {payload} B, {flows:,} flows: TSC cycles (asked of another CPU)", limit, reached)
    for flows, limit in TO_EVP.items():
        ours, evp = _path(rows, "tandem", GCM, flows, 160), _path(rows, "evp", GCM, flows, 160)
        if ours and evp:
            yield _at_least(f"{GCM}, 160 B, {flows:,} flows: times as fast as EVP in the same path", limit, evp / ours)
    for suite in (GCM, CM):
        at_million, before = _path(rows, "tandem", suite, 1_000_000, 160), _path(rows, "tandem", suite, 20000, 160)
        if at_million and before:
            yield _at_most(f"{suite}, 160 B, 1,000,000 flows: times the figure at 20,000", MILLION, at_million / before)


def _wire(rows):
    for row in pick(rows, bench="wire", engine="tandem", unit="pps"):
        peer = value(rows, bench="wire", engine="rtpengine", unit="pps", suite=row["suite"], direction=row["direction"], payload=row["payload"])
        if peer:
            yield _at_least(f"{row['suite']} {row['direction']}: loss-free rate, times rtpengine's", 3, row["value"] / peer)
    for row in pick(rows, bench="wire", engine="tandem", unit="us"):
        if str(row.get("percentile")) != "99":
            continue
        peer = [r["value"] for r in pick(rows, bench="wire", engine="rtpengine", unit="us", suite=row["suite"], direction=row["direction"])
                if str(r.get("percentile")) == "99"]
        if peer:
            yield _at_most(f"{row['suite']} {row['direction']}: p99 of added latency, us (asked: rtpengine's)", peer[0], row["value"])


def _overload(rows):
    ours = [r for r in pick(rows, bench="overload", engine="tandem", unit="pps") if r.get("offered")]
    if ours:
        best = max(r["value"] for r in ours)
        most = max(ours, key=lambda r: r["offered"])
        yield _at_least("overload: carried at the highest offer, share of the best", 0.9, most["value"] / best)


def _setup(rows):
    ours = pick(rows, bench="setup", engine="tandem")
    of = lambda row, note: value(ours, suite=row["suite"], flows=row["flows"], note=note)
    for row in ours:
        name, note = f"{row['suite']}, {row['flows']:,} flows", row.get("note", "")
        if row["unit"] == "per_s" and note.startswith(("added", "re-keyed", "removed")):
            yield _at_least(f"{name}: {note}, a second", 100_000, row["value"])
        elif note.startswith("packets lost"):
            yield _at_most(f"{name}: share of {note}", 0, row["value"])
        elif note.startswith("commands in the worker"):
            yield _at_most(f"{name}: {note}, us, p{row.get('percentile')}", 50, row["value"])
        elif note.startswith("longest worker gap") and not note.endswith(("included", "quiet")):
            quiet = of(row, "longest worker gap, quiet")
            beside = f"; quiet: {quiet:,.0f}" if quiet else ""
            yield _at_most(f"{name}: {note}, us{beside}", 50, row["value"])


def _ng(rows):
    for row in pick(rows, bench="ng", engine="tandem"):
        note = row.get("note", "")
        peer = value(rows, bench="ng", engine="rtpengine", unit=row["unit"], suite=row["suite"], note=note)
        if row["unit"] == "count":
            yield _at_most(f"ng: {note}", 0, row["value"])
        elif peer and row["unit"] in ("per_s", "us_cpu") and row["value"]:
            times = row["value"] / peer if row["unit"] == "per_s" else peer / row["value"]
            for asked, word in ((1, "asked"), (3, "aim")):
                what = "a second, times rtpengine's" if row["unit"] == "per_s" else "times less than rtpengine's"
                yield _at_least(f"ng: {note}, {what} ({word})", asked, times)


def _policy(rows):
    for row in pick(rows, bench="policy", engine="tandem", unit="us"):
        yield _at_most(f"{row['flows']:,} rules: one {row['direction']}, us, p{row.get('percentile'):g}", 10, row["value"])
    for row in pick(rows, bench="policy", engine="tandem", unit="per_s", direction="decide"):
        yield _at_least(f"{row['flows']:,} rules: {row['note'].split(',')[0]}, a second", 100_000, row["value"])


def _latency(rows):
    for row in pick(rows, bench="latency", engine="tandem", unit="ratio", percentile=99):
        yield _at_least(f"media, {row['direction']}: {row['note']}, p99", 1, row["value"])
    for row in pick(rows, bench="latency", engine="tandem", unit="us"):
        if row["note"].startswith("secondary's p99 more"):
            yield _at_most(f"media, {row['direction']}: {row['note']}, us", 1000, row["value"])


def judge(rows):
    """[(what, asked, reached, whether, verdict)]"""
    return [*_cycles(rows), *_wire(rows), *_overload(rows), *_setup(rows), *_policy(rows), *_ng(rows), *_latency(rows)]


# What a reader looks for first: of each of these the first figure that there is.
FIRST = (f"{GCM}, 160 B, 1,000 flows: times as fast as EVP", f"{GCM}, 160 B, 20,000 flows: times as fast as EVP", f"{GCM}, 160 B, 1,000 flows: TSC",
         f"{CM}, 160 B, 1,000 flows: TSC", f"{GCM}, 160 B, 1,000,000 flows", f"{CM}, 160 B, 1,000,000 flows", "loss-free rate", "p99 of added latency", "overload:",
         "re-keyed", "ng: calls set up", "packets lost")


def headlines(judged):
    """At most twelve of judge()'s lines, in its shape."""
    found = [next((line for line in judged if text in line[0]), None) for text in FIRST]
    return list(dict.fromkeys(line for line in found if line)) or judged[:12]
