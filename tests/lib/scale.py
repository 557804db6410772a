# SPDX-License-Identifier: Apache-2.0
"""What a system test's head says of it, and how much of its count a run does: the whole with tools/soak, a twentieth with tools/test.

    #!/usr/bin/env python3
    # SPDX-License-Identifier: Apache-2.0
    # timeout: 180                  limit in tools/test (default 120 s); tools/soak has none
    # alone                         nothing beside it
    # count: 10000 sequences        what a soak does; the test asks t.count
    \"\"\"First line: what it shows.\"\"\""""

import os
import re
from dataclasses import dataclass
from pathlib import Path

SHARE = 20  # tools/test does one in so many


@dataclass
class Head:
    name: str
    path: Path
    timeout: int
    alone: bool
    count: int  # 0: it has none
    of: str
    title: str


def head(path):
    text = Path(path).read_text(encoding="utf-8")
    lines = "".join(text.splitlines(keepends=True)[:12])
    limit = re.search(r"^# timeout: (\d+)", lines, re.M)
    count = re.search(r"^# count: (\d+) ?(.*)$", lines, re.M)
    title = re.search(r'^"""(.*?)[.:]?\s*(?:$|""")', text, re.M)
    return Head(Path(path).stem, Path(path), int(limit[1]) if limit else 120, bool(re.search(r"^# alone", lines, re.M)),
                int(count[1]) if count else 0, count[2].strip() if count else "", title[1] if title else "")


def heads(directory):
    return [head(p) for p in sorted(Path(directory).glob("*.py"))]


def count(path):
    """How many this run does: TANDEM_COUNT, else a twentieth of the script's own count."""
    if os.environ.get("TANDEM_COUNT"):
        return max(1, int(os.environ["TANDEM_COUNT"]))
    whole = head(path).count
    if not whole:
        raise ValueError(f"{path} has no line `# count: N things` in its head")
    return max(1, whole // SHARE)
