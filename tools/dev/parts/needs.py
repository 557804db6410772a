# SPDX-License-Identifier: Apache-2.0
"""Which ninja targets a system test needs built: by program("NAME") in the script itself and in what it takes from tests/lib, definition by
definition; what the harness starts for it (gateways, agents) is told by words. All tools where nothing is found, or a name is not written out.
programs.program() holds each test to it."""

import ast
import re
import sys

from parts.common import ROOT

LIB = ROOT / "tests/lib"
sys.path.insert(0, str(LIB))
from programs import target  # noqa: E402

WORDS = {r"gateway\(|Gateway\(|packages|tools/demo|\"demo\"": "programs", r"agent\(|Agent\(": "programs", r"\bprogram\((?!\s*\")": "tools"}
NAMED = re.compile(r"\bprogram\(\s*\"([^\"]+)\"")


class _Module:
    """What a file of Python defines and imports, by name."""

    def __init__(self, path):
        self.text = path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.text)
        self.made, self.taken, self.modules = {}, {}, {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                self.taken |= {a.asname or a.name: (node.module, a.name) for a in node.names}
            elif isinstance(node, ast.Import):
                self.modules |= {a.asname or a.name: a.name for a in node.names}
        for node in self.tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                self.made[node.name] = node
            elif isinstance(node, ast.Assign):
                self.made |= {t.id: node for t in node.targets if isinstance(t, ast.Name)}

    def used_in(self, node):
        """(module or None for this one, name) of each definition that the node mentions."""
        for part in ast.walk(node):
            if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in self.modules:
                yield self.modules[part.value.id], part.attr
            elif isinstance(part, ast.Name) and part.id in self.taken:
                yield self.taken[part.id]
            elif isinstance(part, ast.Name) and part.id in self.made:
                yield None, part.id


_known = {}


def _module(name):
    path = LIB / f"{name}.py"
    if name in ("harness", "programs") or not path.exists():
        return None  # any test has these two at hand: words tell what it does with them
    if name not in _known:
        _known[name] = _Module(path)
    return _known[name]


def _texts(script):
    """The script's, and those of the definitions that it uses, and that they use."""
    own = _Module(script)
    yield own.text
    open_ends, seen = list(own.used_in(own.tree)), set()
    while open_ends:
        where, name = open_ends.pop()
        module = _module(where) if where else None
        if module is None or (where, name) in seen or name not in module.made and name not in module.taken:
            continue
        seen.add((where, name))
        if name in module.taken:
            open_ends.append(module.taken[name])
            continue
        node = module.made[name]
        yield ast.get_source_segment(module.text, node) or ""
        open_ends += [(at or where, n) for at, n in module.used_in(node)]


def targets(script):
    found = set()
    for text in _texts(script):
        found |= {built for words, built in WORDS.items() if re.search(words, text)}
        found |= {target(name) for name in NAMED.findall(text)}
    return found or {"tools"}


__all__ = ["targets"]
