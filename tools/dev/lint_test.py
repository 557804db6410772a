#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/lint on small checkouts made here: what it must find, and that it finds nothing else."""

import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

LINT = Path(__file__).resolve().parent.parent / "lint"
LAYERS = "low :\nhigh : low\nother : low\npublic low : face.hpp\n"
GOOD = {"tools/dev/layers.txt": LAYERS, "low/face.hpp": "", "low/inside.hpp": "", "low/a.cpp": '#include "low/inside.hpp"\n',
        "high/b.cpp": '#include "low/face.hpp"\n', "other/c.cpp": '#include "low/face.hpp"\n'}


class Lint(unittest.TestCase):
    def lint(self, check, files):
        with tempfile.TemporaryDirectory() as top:
            for name, text in files.items():
                path = Path(top, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            shutil.copy(LINT, Path(top, "tools/lint"))
            done = subprocess.run([sys.executable, Path(top, "tools/lint"), check], capture_output=True, text=True, check=False)
            found = [line.strip() for line in done.stdout.splitlines() if line.startswith("  ")]
            self.assertEqual(done.returncode, 1 if found else 0, done.stdout + done.stderr)
            return found

    def layers(self, **changed):
        return self.lint("layers", {**GOOD, **{name.replace("__", "/", 1) + ".cpp": text for name, text in changed.items()}})

    def test_what_is_allowed(self):
        self.assertEqual(self.layers(), [])

    def test_a_private_header_stays_private(self):
        found = self.layers(high__b='#include "low/face.hpp"\n#include "low/inside.hpp"\n')
        self.assertEqual(found, ["high/b.cpp:2: low/inside.hpp is private to low; tools/dev/layers.txt says which headers are public"])

    def test_its_tests_are_no_exception_but_those_of_tests_are(self):
        self.assertEqual(len(self.layers(high__b_test='#include "low/inside.hpp"\n')), 1)
        self.assertEqual(self.layers(tests__d='#include "low/inside.hpp"\n'), [])

    def test_a_public_header_that_nobody_includes(self):
        found = self.lint("layers", {**GOOD, "tools/dev/layers.txt": LAYERS.replace("face.hpp", "face.hpp inside.hpp")})
        self.assertEqual(found, ["tools/dev/layers.txt: no other room includes low/inside.hpp: it is private to low"])

    def test_a_room_without_such_a_line_shows_all(self):
        found = self.lint("layers", {**GOOD, "tools/dev/layers.txt": LAYERS.replace("public low : face.hpp\n", ""),
                                     "high/b.cpp": '#include "low/inside.hpp"\n'})
        self.assertEqual(found, [])

    def test_rooms_that_may_not(self):
        self.assertEqual(self.layers(low__a='#include "high/b.hpp"\n'), ['low/a.cpp:1: "high/b.hpp" is not a file of ours; libraries go in <>'])
        found = self.lint("layers", {**GOOD, "other/d.hpp": "", "high/b.cpp": '#include "low/face.hpp"\n#include "other/d.hpp"\n'})
        self.assertEqual(found, ["high/b.cpp:2: high may not include other/d.hpp; tools/dev/layers.txt says what it may"])
        found = self.lint("layers", {**GOOD, "high/b.cpp": ""})
        self.assertEqual(found, ["tools/dev/layers.txt: high includes nothing of low"])

    def comments(self, text):
        return self.lint("comments", {"tools/x": "", "a/store.cpp": "struct store { int size_of(); };\nint set_up(); // tag\n", "a/b.cpp": text})

    def test_comments_name_what_exists(self):
        self.assertEqual(self.comments("// See store.cpp: `set_up` before store::size_of; set_up() may wait. open(2), sched_yield(2), *_test.cpp\n"), [])
        self.assertEqual(self.comments('int a = f("// there_is no_comment");\n'), [])

    def test_comments_that_name_what_is_gone(self):
        for comment, found in (("as `tear_down` does", "nothing is called tear_down"), ("tear_down() waits", "nothing is called tear_down"),
                               ("the tear_down of it", "nothing is called tear_down"), ("see shop.cpp", "there is no shop.cpp"),
                               ("store::tear", "there is no store::tear"), ("shop::size_of is asked", "there is no shop::size_of"),
                               ("a `tag` of it", "nothing is called tag")):
            self.assertEqual(self.comments(f"int a; // {comment}\n"), [f"a/b.cpp:1: {found}"])


    def test_what_a_temporary_lambda_captures(self):
        code = "co_await call(io, [self] { return 1; });\n"
        self.assertEqual(self.lint("awaits", {**GOOD, "low/a.cpp": code}),
                         ["low/a.cpp:1: give the lambda a name before co_await, or g++ 12 destroys self twice"])
        for bad in ("co_await call([self, this](int x) { x(); });", "co_await call([=] { f(); });", "co_await\n    call(fn([d = move(c)] { d(); }));",
                    "if ((co_await call([s]() mutable { s(); })))\n    go();"):
            self.assertEqual(len(self.lint("awaits", {**GOOD, "low/a.cpp": bad + "\n"})), 1, bad)

    def test_lambdas_that_may_be_awaited(self):
        for good in ("co_await call([this] { go(); });", "co_await call([&](int x) { spawn([self] { go(); }); });",
                     "const auto f = [self] { go(); };\nco_await call(f);",
                     "co_await call(a[i], b[self]);", "spawn([self]() -> task { co_await self->go(); });"):
            self.assertEqual(self.lint("awaits", {**GOOD, "low/a.cpp": good + "\n"}), [], good)


if __name__ == "__main__":
    unittest.main()
