# SPDX-License-Identifier: Apache-2.0
"""tools/lint, check by check."""

import json
import os
import re
import sys
import tempfile
from pathlib import Path

from parts.common import ROOT, build, results, run


def names():
    text = (ROOT / "tools/lint").read_text()
    return re.findall(r"^  ([a-z]+)  +\S", text.partition('"""')[2].partition('"""')[0], re.M)


def lint(pattern, give_way=None):
    chosen = [n for n in names() if pattern in n]
    if not chosen:
        return
    if "headers" in chosen and not os.environ.get("TANDEM_BUILD"):  # it wants each room's flags, and headers that are generated
        build("lint build", "--unity", "bpf/edge.skel.h", "bench/load/blast.skel.h")
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        run("lint", [sys.executable, ROOT / "tools/lint", *chosen, "--json", out.name], capture=False, give_way=give_way)
        try:
            rows = json.loads(Path(out.name).read_text())
        except ValueError:
            rows = [{"name": "lint", "result": "failed", "reason": "tools/lint crashed"}]
    for row in rows:
        results.add(row["name"], row["result"], row["reason"])
