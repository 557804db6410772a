# SPDX-License-Identifier: Apache-2.0
"""The report's pictures, as SVG text: peers and the limit are in each. A picture without rows is left out."""

import io

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "tandem"  # the same rows give the same file
from matplotlib import pyplot as plt  # noqa: E402

from rows import ENGINES, pick  # noqa: E402

COLOURS = {"tandem": "#0b6e4f", "evp": "#c1666b", "libsrtp2": "#d4a017", "none": "#777777", "rtpengine": "#4357ad", "kernel": "#777777"}
SUITES = ("AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80")
NAMES = {"tandem": "Tandem", "evp": "OpenSSL EVP, same path", "libsrtp2": "libsrtp2, same path", "none": "limit: the path without crypto",
         "rtpengine": "rtpengine", "kernel": "limit: kernel forwarding"}


def _svg(figure):
    out = io.StringIO()
    figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    text = out.getvalue()
    return text[text.index("<svg"):]


def _lines(axis, rows, along):
    for engine in ENGINES:
        points = sorted((r[along], r["value"]) for r in rows if r["engine"] == engine)
        if points:
            axis.plot(*zip(*points), marker="o", markersize=4, color=COLOURS[engine], label=NAMES[engine],
                      linestyle="--" if engine in ("none", "kernel") else "-")


def _cycles(axis, rows, suite, along, label):
    _lines(axis, pick(rows, suite=suite), along)
    axis.set(title=suite, xlabel=label, ylabel="TSC cycles per packet", yscale="log", xscale="log")
    axis.grid(True, which="both", alpha=0.25)


def _pair(rows, suites, along, label, fixed, title):
    """Cycles per packet of two suites side by side along one of the rows' fields."""
    rows = [r for r in pick(rows, bench="path", unit="tsc", direction="srtp-rtp", **fixed)]
    suites = [s for s in suites if len({r[along] for r in pick(rows, suite=s)}) > 1]
    if not suites:
        return None
    figure, axes = plt.subplots(1, len(suites), figsize=(5.2 * len(suites), 3.8), squeeze=False)
    for axis, suite in zip(axes[0], suites):
        _cycles(axis, rows, suite, along, label)
    axes[0][0].legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.18), ncol=4)
    figure.suptitle(title)
    return _svg(figure)


def overload(rows):
    found = [r for r in pick(rows, bench="overload", unit="pps") if r.get("offered")]
    if not found:
        return None
    figure, axis = plt.subplots(figsize=(6.2, 4))
    _offered(axis, found)
    return _svg(figure)


def _offered(axis, found):
    _lines(axis, found, "offered")
    top = max(r["offered"] for r in found)
    axis.plot([0, top], [0, top], color="#bbbbbb", linewidth=1, label="limit: all that is offered")
    axis.set(xlabel="offered, packets/s", ylabel="carried, packets/s", title="Throughput against offered load", xlim=0, ylim=0)
    axis.locator_params(axis="x", nbins=5)
    axis.grid(True, alpha=0.25)
    axis.legend(fontsize=8)


def summary(rows):
    """One picture for whoever reads no table: cycles against flows, and what is carried of what is offered."""
    path = pick(rows, bench="path", unit="tsc", direction="srtp-rtp", payload=160)
    offered = [r for r in pick(rows, bench="overload", unit="pps") if r.get("offered")]
    suites = [s for s in SUITES if len({r["flows"] for r in pick(path, suite=s)}) > 1]
    panels = len(suites) + bool(offered)
    if not panels:
        return ""
    figure, axes = plt.subplots(1, panels, figsize=(4.8 * panels, 3.8), squeeze=False, layout="constrained")
    for axis, suite in zip(axes[0], suites):
        _cycles(axis, path, suite, "flows", "flows, 160 B, decrypting")
    if suites:
        axes[0][0].legend(fontsize=7)
    if offered:
        _offered(axes[0][-1], offered)
    return _svg(figure)


def latency(rows):
    found = [r for r in pick(rows, bench="wire", unit="us") if r.get("percentile")]
    if not found:
        return None
    percentiles = sorted({float(r["percentile"]) for r in found})
    groups = sorted({(ENGINES.index(r["engine"]), r["suite"], r["direction"]) for r in found})
    figure, axis = plt.subplots(figsize=(7.2, 4))
    width = 0.8 / len(groups)
    for at, (engine, suite, direction) in enumerate(groups):
        values = [next((r["value"] for r in found if (ENGINES.index(r["engine"]), r["suite"], r["direction"]) == (engine, suite, direction)
                        and float(r["percentile"]) == p), 0) for p in percentiles]
        axis.bar([i + (at - len(groups) / 2 + 0.5) * width for i in range(len(percentiles))], values, width, color=COLOURS[ENGINES[engine]],
                 alpha=0.55 + 0.45 * (at % 2), edgecolor="white", label=f"{NAMES[ENGINES[engine]]}: {suite} {direction}")
    axis.set_xticks(range(len(percentiles)), [f"p{p:g}" for p in percentiles])
    axis.set(ylabel="added latency, us", yscale="log", title="Latency percentiles")
    axis.grid(True, axis="y", which="both", alpha=0.25)
    axis.legend(fontsize=7)
    return _svg(figure)


def draw(rows):
    """[(caption, svg)]: those that the rows give."""
    pictures = [
        ("Cycles per packet against sessions, 160 B", _pair(rows, SUITES, "flows", "flows", {"payload": 160}, "Decrypting, 160 B")),
        ("Cycles per packet against size, 1,000 sessions", _pair(rows, SUITES, "payload", "payload, bytes", {"flows": 1000},
                                                                  "Decrypting, 1,000 sessions")),
        ("Throughput against offered load", overload(rows)),
        ("Latency", latency(rows)),
    ]
    return [(caption, svg) for caption, svg in pictures if svg]
