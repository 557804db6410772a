#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
"""RIM-37: the packages tandem-gatewayd and tandem-agent are built, install in a copy of this system that has no Tandem (an
overlay, thrown away), carry a call end to end with the installed programs, and leave nothing when they are purged."""
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, sys.path[0] + "/../lib")
from harness import check, equal, main, skip
from programs import ROOT, build_dir

# Runs in a mount namespace of its own: $1 scratch, $2 checkout, $3 build, the rest: the command, in the copy.
COPY = r"""set -eu
scratch=$1 checkout=$2 build=$3; shift 3
mount --make-rprivate /
mount -t tmpfs tmpfs "$scratch"
mkdir "$scratch"/upper "$scratch"/work "$scratch"/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" "$scratch/root" || exit 77
cd "$scratch/root"
for at in proc sys dev; do mount --rbind "/$at" "$at"; done
mount -t tmpfs tmpfs run; mkdir -p run/netns
for at in tmp "$checkout" "$build"; do mkdir -p "./$at"; mount --bind "/${at#/}" "./$at"; done
exec chroot . "$@"
"""


def in_copy(t, script, timeout=200):
    scratch = t.dir / "copy"
    scratch.mkdir(exist_ok=True)
    # unshare of the mount namespace only: what is mounted in it goes with the last process.
    done = subprocess.run(["unshare", "--mount", "bash", "-c", COPY, "copy", str(scratch), str(ROOT), str(build_dir()), "bash", "-c", script],
                          env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=timeout, check=False)
    return done.returncode, done.stdout


def test(t):
    out = t.dir / "packages"
    made = subprocess.run([str(ROOT / "tools/package"), "--no-build", "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env={**os.environ, "TANDEM_BUILD": str(build_dir())}, check=False)
    equal(made.returncode, 0, f"tools/package: {made.stdout}")
    debs = sorted(out.glob("*.deb"))
    equal([d.name.split("_")[0] for d in debs], ["tandem-agent", "tandem-gatewayd"], "packages")
    for deb in debs:
        depends = subprocess.run(["dpkg-deb", "-f", str(deb), "Depends"], capture_output=True, text=True, check=True).stdout
        check("libssl3" in depends and "libc6" in depends, f"{deb.name} depends on the libraries it is linked with: {depends}")

    files = " ".join(str(d) for d in debs)
    call = ROOT / "tests/system/sdes_core_leg.py"
    code, said = in_copy(t, f"""set -e
[ ! -e /usr/bin/tandem-dataplane ]
dpkg -i {files}
test -r "$(find /usr/lib -name edge.bpf.o)"
test -r "$(find /usr/lib -name capture.bpf.o)"
for unit in dataplane controlplane agent; do test -r /lib/systemd/system/tandem-$unit.service; done
for program in dataplane controlplane; do tandem-$program --config /usr/share/tandem-gatewayd/examples/$program.toml --check; done
mkdir -p /etc/tandem; (umask 077; printf '0123456789abcdef%.0s' 1 2 3 4 > /etc/tandem/alice.psk)
tandem-agent --config /usr/share/tandem-agent/examples/agent.toml --check
rm /etc/tandem/alice.psk
tandemctl version | head -1
TANDEM_INSTALLED=/usr/bin /usr/bin/python3 {call}
mkdir -p /var/lib/tandem; touch /var/lib/tandem/master.key
dpkg --purge tandem-gatewayd tandem-agent
! ls /usr/bin/tandem-* /usr/bin/tandemctl /usr/lib/*/tandem /lib/systemd/system/tandem-* 2>/dev/null | grep .
test ! -e /var/lib/tandem
echo all-is-gone""")
    if code == 77:
        skip("this kernel mounts no overlay over its root")
    (t.dir / "copy.log").write_text(said)
    equal(code, 0, f"installing, calling, purging: ...{said[-1500:]}")
    check("all-is-gone" in said, "the script went through")
    check(not Path("/usr/bin/tandem-dataplane").exists(), "nothing of it is in the system itself")
    check("ok   SDES" in said, "the call passed with the installed programs")
    for line in said.splitlines():
        if line.startswith(("ok ", "  bob heard")):
            t.say(f"installed: {line.strip()}")


main(test, "RIM-37 packages install, carry a call, and go")
