# SPDX-License-Identifier: Apache-2.0
"""Behind bench/run: runs the benchmarks one after another, merges their rows, writes JSON, report page and tables."""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import machine  # noqa: E402
import rows as figures  # noqa: E402
import targets  # noqa: E402

ROOT = machine.ROOT
BUILD = ROOT / "build-bench"
# name -> command; each takes --json FILE and --quick, and writes rows. Limits in seconds: (quick, whole); what hangs is ended.
BENCHES = {
    "path": ([str(BUILD / "bench/path/path_bench")], (180, 1800)),
    "workers": ([str(BUILD / "bench/workers/workers_bench")], (60, 300)),
    "idle": (["/usr/bin/python3", str(ROOT / "bench/workers/idle.py")], (90, 300)),
    "policy": ([str(BUILD / "bench/policy/policy_bench")], (60, 120)),
    "records": ([str(BUILD / "bench/records/records_bench"), "--dir", str(BUILD)], (60, 300)),
    "setup": ([str(BUILD / "bench/setup/setup_bench")], (60, 600)),
    "wire": (["/usr/bin/python3", str(ROOT / "bench/wire/run.py")], (180, 1800)),
    "latency": (["/usr/bin/python3", str(ROOT / "bench/latency/run.py")], (90, 300)),
    "restart": (["/usr/bin/python3", str(ROOT / "bench/restart/run.py")], (60, 300)),
    "ng": (["/usr/bin/python3", str(ROOT / "bench/ng/run.py")], (180, 1200)),
}


AGAINST = ["path", "ng"]  # of two builds


def arguments():
    parser = argparse.ArgumentParser(prog="bench/run", description="Measures Tandem beside its peers and writes a report.")
    parser.add_argument("--quick", action="store_true", help="fewer cases and shorter rounds: at most five minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write machine and rows here")
    parser.add_argument("--only", metavar="NAME[,NAME]", help=f"some of {', '.join(BENCHES)}")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="run all N times and take each figure's median (default 1)")
    parser.add_argument("--out", type=Path, default=BUILD / "report", metavar="DIRECTORY", help="of the report (default build-bench/report)")
    parser.add_argument("--keep", action="store_true", help="also write machine and rows to bench/results/DATE-CPU.json, and a picture beside it")
    parser.add_argument("--against", type=Path, metavar="BUILD_DIR", help="two builds take turns, this one and that of another build directory: ratios with spread")
    parser.add_argument("--rounds", type=int, metavar="N", help="with --against: of each build (default 7, quick 3)")
    parser.add_argument("--list", action="store_true", help="name the benchmarks and end")
    args = parser.parse_args()
    known = AGAINST if args.against else list(BENCHES)
    args.names = args.only.split(",") if args.only else known
    args.rounds = args.rounds or (3 if args.quick else 7)
    unknown = [n for n in args.names if n not in known]
    if unknown:
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(known)}")
    if args.repeat < 1:
        parser.error("--repeat: at least 1")
    return args


def run_one(name, quick, problems):
    command, limits = BENCHES[name]
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as scratch:
        out = Path(scratch) / "rows.json"
        full = [*command, "--json", str(out), *(["--quick"] if quick else [])]
        print(f"bench: {name}", flush=True)
        begin = time.monotonic()
        try:
            done = subprocess.run(full, check=False, timeout=limits[0 if quick else 1], env={**os.environ, "TANDEM_BUILD": str(BUILD)})
            if done.returncode != 0:
                problems.append(f"{name} ended with {done.returncode}")
        except subprocess.TimeoutExpired:
            problems.append(f"{name} was ended after {limits[0 if quick else 1]} s")
        except OSError as error:
            problems.append(f"{name} does not start: {error}")
        print(f"bench: {name} took {time.monotonic() - begin:.0f} s", flush=True)
        try:
            found = json.loads(out.read_text(encoding="utf-8"))["rows"]
        except (OSError, ValueError, KeyError):
            problems.append(f"{name} wrote no figures")
            return []
    good = []
    for row in found:
        if wrong := figures.problem(row):
            problems.append(f"{name}: a row {wrong}")
        else:
            good.append(row)
    return good


def tables(rows):
    for bench in dict.fromkeys(r["bench"] for r in rows):
        print(f"\n{bench}")
        for r in figures.pick(rows, bench=bench):
            where = " ".join(str(x) for x in (r["suite"], r["direction"], f"{r['payload']} B" if r["payload"] else "", f"{r['flows']:,} flows" if r["flows"] else "",
                                              f"{r['workers']} workers" if r.get("workers", 1) != 1 else "", f"offered {r['offered']:,.0f}" if r.get("offered") else "",
                                              f"p{r['percentile']}" if r.get("percentile") else "") if x not in ("", "-"))
            print(f"  {r['engine']:10} {where:70} {r['value']:>14,.2f} {r['unit']}  {r.get('note', '')}".rstrip())
    judged = targets.judge(rows)
    if judged:
        print("\nasked and reached")
        for what, limit, reached, _, verdict in judged:
            print(f"  {what:90} {limit:>10,.2f} {reached:>12,.2f}  {verdict}")


def against_another(args):
    import against  # noqa: PLC0415
    about = machine.describe()
    try:
        found = against.compare(args, Path(os.environ.get("TANDEM_BUILD", BUILD)).resolve())
    except (against.Failed, OSError, subprocess.SubprocessError, RuntimeError, *against.STARTING) as wrong:
        print(f"bench: {wrong}", file=sys.stderr)
        return 1
    if args.json:
        args.json.write_text(json.dumps({"machine": about, "against": str(args.against), "ratios": found}, indent=1) + "\n", encoding="utf-8")
    return 0


def keep(about, document, picture):
    """Figures that stay: as data, and one picture of them."""
    cpu = re.sub(r"[^a-z0-9]+", "-", about["cpu"].lower()).strip("-")
    base = ROOT / "bench/results" / f"{about['date'][:10]}-{cpu}"
    base.parent.mkdir(exist_ok=True)
    for suffix, text in ((".json", document), (".svg", picture)):
        if text:
            base.with_name(base.name + suffix).write_text(text, encoding="utf-8")
    print(f"kept: {base}.json")


def main():
    args = arguments()
    if args.list:
        print("\n".join(BENCHES))
        return 0
    if args.against:
        return against_another(args)
    about, problems = machine.describe(), []
    rows = figures.median_of([[row for name in args.names for row in run_one(name, args.quick, problems)] for _ in range(args.repeat)])
    about["load_after"] = os.getloadavg()[0]
    about["quick"] = args.quick
    tables(rows)
    import page  # noqa: PLC0415  needs the plots' package, which --list does not
    import plots  # noqa: PLC0415
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "report.html").write_text(page.render(about, rows, plots.draw(rows), problems), encoding="utf-8")
    document = json.dumps({"machine": about, "rows": rows, "problems": problems}, indent=1) + "\n"
    for where in (args.out / "rows.json", *([args.json] if args.json else [])):
        where.write_text(document, encoding="utf-8")
    if args.keep:
        keep(about, document, plots.summary(rows))
    for text in problems:
        print(f"bench: {text}", file=sys.stderr)
    print(f"\nreport: {args.out / 'report.html'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
