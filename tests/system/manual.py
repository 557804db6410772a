#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 60
"""Man pages and completion under packaging/ say what the programs' --help says, those of configuration files have a word on each key
that the programs know, and bash completes
verbs and options with what is made of them."""
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, sys.path[0] + "/../lib")
ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools" / "dev"))
import manual
from harness import check, equal, main


def test(t):
    made = manual.files()
    for path, text in made.items():
        check((ROOT / path).is_file() and (ROOT / path).read_text() == text, f"{path} is as --help says: else python3 tools/dev/manual.py")
    kept = {str(p.relative_to(ROOT)) for d in ("man", "completion") for p in (ROOT / "packaging" / d).iterdir()}
    equal(kept, set(made), "the files that are kept")
    for words, said in ((["unit", "na"], "name"), (["call", "show", "--wa"], "--watch"), (["stat"], "status"), (["--js"], "--json"), (["call", "x"], "")):
        script = f"source {ROOT}/packaging/completion/tandemctl; COMP_WORDS=(tandemctl {' '.join(words)}); COMP_CWORD={len(words)}; " \
                 '_tandemctl; echo "${COMPREPLY[*]}"'
        equal(subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.strip(), said, f"{words} is completed")


main(test, "man pages and completion are those of the programs")
