# SPDX-License-Identifier: Apache-2.0
"""The report: one HTML file that needs nothing beside it."""

from html import escape

import targets

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0;font-size:13px}td,th{padding:.2rem .6rem;border-bottom:1px solid #ddd;text-align:left}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}figure{margin:1.5rem 0}svg{max-width:100%;height:auto}
details{margin:.5rem 0}summary{cursor:pointer}.yes{color:#0b6e4f}.no{color:#b00020}code{background:#f4f4f4;padding:0 .2rem}"""
COLUMNS = ("engine", "suite", "direction", "payload", "flows", "workers", "offered", "percentile", "value", "unit", "note")
NUMBERS = ("payload", "flows", "workers", "offered", "percentile", "value")
TITLES = {"path": "Full path in process", "workers": "Workers", "wire": "On the wire", "flood": "Under flood", "overload": "Overload",
          "setup": "Set-up and re-key", "records": "Records"}


def number(value):
    if value == "" or value is None:
        return ""
    value = float(value)
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.2f}"


def _table(rows):
    shown = [c for c in COLUMNS if any(r.get(c) not in (None, "", "-") for r in rows)]
    out = ["<table><tr>" + "".join(f'<th class="{"n" if c in NUMBERS else ""}">{c}</th>' for c in shown) + "</tr>"]
    for row in rows:
        cells = "".join(f'<td class="n">{number(row.get(c))}</td>' if c in NUMBERS else f"<td>{escape(str(row.get(c, '')))}</td>" for c in shown)
        out.append(f"<tr>{cells}</tr>")
    return "".join(out) + "</table>"


def _machine(machine):
    def show(value):
        if isinstance(value, dict):
            return ", ".join(f"{k} {v}" for k, v in value.items())
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return "<table>" + "".join(f"<tr><td>{escape(k)}</td><td>{escape(show(v))}</td></tr>" for k, v in machine.items()) + "</table>"


def _targets(rows):
    judged = targets.judge(rows)
    if not judged:
        return ""
    first = targets.headlines(judged)
    rest = [line for line in judged if line not in first]
    folded = f"<details><summary>All that was asked: {len(judged)} figures</summary>{_judged(rest)}</details>" if rest else ""
    return "<h2>Asked and reached</h2>" + _judged(first) + folded


def _judged(judged):
    lines = "".join(f'<tr><td>{escape(what)}</td><td class="n">{number(limit)}</td><td class="n">{number(reached)}</td>'
                    f'<td class="{"yes" if ok else "no"}">{escape(verdict)}</td></tr>' for what, limit, reached, ok, verdict in judged)
    return f'<table><tr><th>figure</th><th class="n">asked</th><th class="n">reached</th><th></th></tr>{lines}</table>'


def render(machine, rows, pictures, problems):
    parts = [f"<!doctype html><meta charset='utf-8'><title>Tandem: measured</title><style>{STYLE}</style><h1>Tandem: measured beside its peers</h1>",
             f"<p>{escape(machine['date'])}, commit <code>{escape(machine['commit'])}</code>. All contenders took turns in one run; only ratios of one "
             "run mean anything on a shared machine. TSC cycles per packet are medians.</p>"]
    if problems:
        parts.append("<h2>What did not run</h2><ul>" + "".join(f"<li>{escape(p)}</li>" for p in problems) + "</ul>")
    parts += [f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>" for caption, svg in pictures]
    parts.append(_targets(rows))
    parts.append("<h2>Machine</h2>" + _machine(machine))
    for bench in dict.fromkeys(r["bench"] for r in rows):
        table = _table([r for r in rows if r["bench"] == bench])
        parts.append(f"<details><summary>{TITLES.get(bench, bench)}</summary>{table}</details>")
    return "\n".join(p for p in parts if p)
