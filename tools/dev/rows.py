# SPDX-License-Identifier: Apache-2.0
"""tests/ROWS.md: which tests carry which required behaviour. A row's meaning is written there by hand; the tests are those that name it, in a
comment (RIM-13) or a test's name (Rim13...). `python3 tools/dev/rows.py` writes the page anew; lint compares."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "tests" / "ROWS.md"
NAMES = re.compile(r"\b(RIM|ERI|COL|TEL|ORA)-(\d\d)\b|\b(Rim|Eri|Col|Tel|Ora)(\d\d)")
ROW = re.compile(r"^\| ([A-Z]{3}-\d\d) \| (.*?) \|")


def proofs(files):
    """id -> the tests that name it, of the files of the checkout."""
    found = {}
    for name in files:
        if name.endswith("_test.cpp") or re.match(r"tests/system/\w+\.py$", name):
            for m in NAMES.finditer((ROOT / name).read_text(errors="replace")):
                found.setdefault(f"{(m[1] or m[3]).upper()}-{m[2] or m[4]}", set()).add(name)
    return found


def page(files):
    """(the page as it should be, ids that tests name and no row has)"""
    found, known, lines = proofs(files), set(), []
    for line in PAGE.read_text().splitlines():
        if row := ROW.match(line):
            known.add(row[1])
            tests = ", ".join(sorted(found.get(row[1], ()), key=lambda t: (not t.startswith("tests/"), t)))
            line = f"| {row[1]} | {row[2]} | {tests.replace('tests/system/', '').replace('.py', '') or '-'} |"
        lines.append(line)
    return "\n".join(lines) + "\n", sorted(set(found) - known)


def main():
    import subprocess
    files = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True,
                           check=True).stdout.split()
    PAGE.write_text(page(sorted(set(files)))[0])


if __name__ == "__main__":
    main()
