#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
"""The agent configures without DPDK and IPsec-MB (-Dgateway=false), and is built so for aarch64 against a root of Debian's packages for it, which
has neither of them. It is not run. The packages come from this machine's own apt sources."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, sys.path[0] + "/../lib")
from harness import check, equal, main, skip
from programs import ROOT

TRIPLET = "aarch64-linux-gnu"
# Of tools/dev/packages.txt, what the agent is built with, and the C and C++ libraries.
PACKAGES = ("libc6-dev libstdc++-12-dev libsrtp2-dev libssl-dev libfmt-dev libspdlog-dev libasio-dev libcli11-dev libtomlplusplus-dev "
            "nlohmann-json3-dev libexpected-dev libcap-ng-dev libmnl-dev libldns-dev libzstd-dev").split()
# Whether it compiles is asked: without optimisation, a room at once, no debug information, in a quarter of the time.
OPTIONS = ["-Dgateway=false", "-Dtests=false", "-Dbench=false", "-Dunity=on", "-Dunity_size=100", "-Doptimization=0", "-Ddebug=false"]


def run(*command, timeout=400, **options):
    return subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False, **options)


def sources():
    """apt's own, as lines of sources.list: those of the distribution."""
    said = run("apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages").stdout
    found = [line.split() for line in said.splitlines()]
    return [f"deb {uri} {suite} {part}" for origin, uri, suite, part in (f for f in found if len(f) == 4) if origin == "Debian"]


def make_root(root):
    mirrors = sources()
    if not mirrors:
        skip("apt has no list of Debian's packages here (apt-get update)")
    suite = mirrors[0].split()[2]
    done = run("mmdebstrap", "--architectures=arm64", "--variant=extract", f"--include={','.join(PACKAGES)}", suite, root, *mirrors)
    if done.returncode != 0:
        skip(f"no mirror gives arm64's packages: {done.stdout.strip().splitlines()[-1]}")
    for link in root.rglob("*"):  # those that begin at / lead out of it
        if link.is_symlink() and (to := os.readlink(link)).startswith("/"):
            link.unlink()
            link.symlink_to(os.path.relpath(root / to[1:], link.parent))


def cross_file(root):
    flags = f"['--sysroot={root}']"
    libraries = f"{root}/usr/lib/{TRIPLET}/pkgconfig:{root}/usr/share/pkgconfig"
    binaries = {"c": "gcc", "cpp": "g++", "ar": "ar", "strip": "strip"}
    return "\n".join(["[binaries]", *[f"{name} = '{TRIPLET}-{tool}'" for name, tool in binaries.items()], "pkgconfig = 'pkg-config'", "[properties]",
                      f"sys_root = '{root}'", f"pkg_config_libdir = '{libraries}'", "[built-in options]",
                      *[f"{name} = {flags}" for name in ("c_args", "cpp_args", "c_link_args", "cpp_link_args")], "[host_machine]", "system = 'linux'",
                      "cpu_family = 'aarch64'", "cpu = 'aarch64'", "endian = 'little'"]) + "\n"


def machine(program):
    """e_machine of its ELF header."""
    return int.from_bytes(Path(program).read_bytes()[18:20], "little")


def test(t):
    here, there, root = t.dir / "here", t.dir / "there", t.dir / "root"
    done = run("meson", "setup", here, ROOT, *OPTIONS)
    equal(done.returncode, 0, f"meson setup -Dgateway=false: {done.stdout[-2000:]}")
    commands = (here / "compile_commands.json").read_text()
    equal([word for word in ("dpdk", "IPSec", "intel-ipsec", "dataplane/pipeline") if word in commands], [], "what of the gateway it would be built with")

    for program, package in (("mmdebstrap", "mmdebstrap"), (f"{TRIPLET}-g++", "g++-aarch64-linux-gnu")):
        if not shutil.which(program):
            skip(f"{program} is not installed ({package})")
    make_root(root)
    check(not list(root.rglob("*dpdk*")) and not list(root.rglob("*ipsec-mb*")), "the root has neither DPDK nor IPsec-MB")
    file = t.dir / "aarch64.txt"
    file.write_text(cross_file(root))
    done = run("meson", "setup", there, ROOT, "--cross-file", file, *OPTIONS)
    equal(done.returncode, 0, f"meson setup for aarch64: {done.stdout[-2000:]}")
    done = run("ninja", "-C", there, "programs")
    equal(done.returncode, 0, f"the agent for aarch64: {done.stdout[-3000:]}")
    equal(machine(there / "tools/agent/tandem-agent"), 183, "the program's machine (EM_AARCH64)")


main(test, "the agent alone: without DPDK and IPsec-MB, and for aarch64")
