#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench/srtp_table.py FILE.json [FILE.json ...]: the Markdown table of srtp_bench's JSON output (--benchmark_out). With more
than one file, from runs of the same build, each figure is the lowest and each ratio the median over the runs."""

import json
import statistics
import sys


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    runs = []
    for name in sys.argv[1:]:
        with open(name, encoding="utf-8") as file:
            runs.append({row["name"]: row for row in json.load(file)["benchmarks"]})
    print("| suite | sessions | payload | | tandem | of it crypto | EVP | libsrtp2 | EVP / crypto | libsrtp2 / tandem |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in runs[0]:
        suite, sessions, payload, what = name.split("/")[:4]
        rows = [run[name] for run in runs if name in run]
        low = [min(row[key] for row in rows) for key in ("1_tandem", "2_crypto", "3_evp", "4_libsrtp")]
        evp = statistics.median(row["5_evp/crypto"] for row in rows)
        libsrtp = statistics.median(row["6_libsrtp/tandem"] for row in rows)
        print(f"| {suite} | {sessions.split('_')[0]} | {payload.replace('_', ' ')} | {what} | {low[0]:.0f} | {low[1]:.0f} | "
              f"{low[2]:.0f} | {'-' if low[3] == 0 else format(low[3], '.0f')} | {evp:.1f} | "
              f"{'-' if libsrtp == 0 else format(libsrtp, '.0f')} |")


if __name__ == "__main__":
    main()
