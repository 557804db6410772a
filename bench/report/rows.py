# SPDX-License-Identifier: Apache-2.0
"""Rows of figures: what a benchmark writes, read, checked and looked up. The shape is in bench/README.md."""

import statistics

KEYS = ("bench", "engine", "suite", "direction", "payload", "flows", "unit")
EXTRA = ("workers", "offered", "percentile", "note")
ENGINES = ("tandem", "evp", "libsrtp2", "none", "rtpengine", "kernel")


def problem(row):
    """What is wrong with a row, or nothing."""
    missing = [k for k in (*KEYS, "value") if k not in row]
    if missing:
        return f"lacks {', '.join(missing)}"
    unknown = [k for k in row if k not in (*KEYS, *EXTRA, "value", "runs")]
    if unknown:
        return f"has unknown fields {', '.join(unknown)}"
    if row["engine"] not in ENGINES:
        return f"engine {row['engine']!r} is none of {', '.join(ENGINES)}"
    if not isinstance(row["value"], (int, float)) or isinstance(row["value"], bool):
        return f"value {row['value']!r} is no number"
    return ""


def identity(row):
    """What makes two rows the same figure in two runs. A note tells figures of one benchmark apart; `offered` may move."""
    return tuple(row[k] for k in KEYS) + (row.get("workers", 1), row.get("percentile", ""), row.get("note", ""))


def median_of(runs):
    """One list of rows out of several runs' lists: the median of each figure, with all of them in `runs`."""
    found = {}
    for rows in runs:
        for row in rows:
            found.setdefault(identity(row), []).append(row)
    merged = []
    for same in found.values():
        row = dict(same[0])
        row["value"] = statistics.median(r["value"] for r in same)
        if len(same) > 1:
            row["runs"] = [r["value"] for r in same]
        merged.append(row)
    return merged


def pick(rows, **want):
    return [r for r in rows if all(r.get(k) == v for k, v in want.items())]


def value(rows, **want):
    found = pick(rows, **want)
    return found[0]["value"] if found else None
