# SPDX-License-Identifier: Apache-2.0
"""What the bytes between processes mean, as clang reads dataplane/api: fields with their types in their order, and the values of enums, per
version that stands for them. `dataplane/api/abi.txt` holds what was said of the present versions; lint compares, `python3 tools/dev/abi.py`
writes it anew, which it refuses where something changed and its version did not."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
KEPT = "dataplane/api/abi.txt"
HEADERS = {"contract_version": ("contract.hpp", "sight.hpp", "suites.hpp"), "stats_version": ("stats.hpp", "drops.hpp")}


class Missing(Exception):
    pass


class Wrong(Exception):
    pass


def _declarations():
    """(header, declaration) of tandem::api, in their order."""
    clang = shutil.which("clang++-16") or shutil.which("clang++")
    if clang is None:
        raise Missing("needs clang")
    source = "".join(f'#include "dataplane/api/{h}"\n' for headers in HEADERS.values() for h in headers)
    done = subprocess.run([clang, "-std=c++20", f"-I{ROOT}", "-Xclang", "-ast-dump=json", "-Xclang", "-ast-dump-filter=tandem::api",
                           "-fsyntax-only", "-x", "c++", "-"], input=source, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Wrong(f"clang does not read dataplane/api: {done.stderr.splitlines()[0]}")
    text, at, decoder = done.stdout, 0, json.JSONDecoder()
    while (at := text.find("{", at)) >= 0:
        block, at = decoder.raw_decode(text, at)
        header = Path(block["loc"]["file"]).name
        for one in block["inner"] if block["kind"] == "NamespaceDecl" else [block]:
            yield header, one


def _constant(node):
    """The number that an expression below `node` was found to be."""
    for inner in node.get("inner", ()):
        if "value" in inner:
            return int(inner["value"])
        if (found := _constant(inner)) is not None:
            return found
    return None


def _type(of):
    return re.sub(r"tandem::api::|std::", "", of.get("desugaredQualType", of["qualType"]))


def _line(one):
    """What is said of a declaration that has bytes, else nothing."""
    if one["kind"] == "EnumDecl":
        value, said = -1, []
        for constant in one.get("inner", ()):
            if constant["kind"] == "EnumConstantDecl":
                value = found if (found := _constant(constant)) is not None else value + 1
                said.append(f"{constant['name']}={value}")
        return f"enum {one['name']} {_type(one['fixedUnderlyingType'])}: {' '.join(said)}"
    if one["kind"] == "CXXRecordDecl" and one.get("completeDefinition"):
        fields = [f"{_type(f['type'])} {f.get('name', '-')}" for f in one.get("inner", ()) if f["kind"] == "FieldDecl"]
        aligned = "".join(f" alignas {_constant(a)}" for a in one["inner"] if a["kind"] == "AlignedAttr")
        if fields and not any("string_view" in f for f in fields):
            return f"struct {one['name']}{aligned}: {'; '.join(fields)}"
    return None


def now():
    """version's name -> [its number, what it stands for]"""
    said = {name: [None, []] for name in HEADERS}
    for header, one in _declarations():
        at = next((said[name] for name, headers in HEADERS.items() if header in headers), None)
        if at is None:
            continue
        if one["kind"] == "VarDecl" and one["name"] in HEADERS:
            at[0] = _constant(one)
        elif line := _line(one):
            at[1].append(line)
    return said


def kept():
    said, at = {}, None
    for line in (ROOT / KEPT).read_text().splitlines():
        if line.split(" ")[0] in HEADERS:
            name, number = line.split(" ")
            at = said.setdefault(name, [int(number), []])[1]
        elif line and at is not None:
            at.append(line)
    return said


def differences():
    """(what is wrong, whether writing it anew mends it), none where all is as it was."""
    before, found = kept() if (ROOT / KEPT).exists() else {}, []
    try:
        present = now()
    except Wrong as e:
        return [(str(e), False)]
    for name, (version, lines) in present.items():
        old_version, old = before.get(name, (0, []))
        changed = sorted({line.split(":")[0] for line in set(old) ^ set(lines)})
        if version != old_version:
            found.append((f"{name} is {version}, {KEPT} is of {old_version}: python3 tools/dev/abi.py", version > old_version))
        elif lines != old:
            found.append((f"{', '.join(changed) or 'an order'} changed and {name} did not: raise it", False))
    return found


def write():
    with open(ROOT / KEPT, "w") as file:
        file.write("What the bytes between processes mean, by version; made by tools/dev/abi.py.\n")
        for name, (version, lines) in now().items():
            file.write("\n".join(["", f"{name} {version}", *lines]) + "\n")


if __name__ == "__main__":
    wrong = [text for text, mends in differences() if not mends]
    if wrong:
        sys.exit("\n".join(wrong))
    write()
