#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`--check` of the three programs says what start would refuse: the configuration, and the files that it names."""
import subprocess
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
from harness import equal, main
from programs import program, write_toml


def test(t):
    def tells(name, root, tables, words, status=1):
        config = write_toml(t.dir / f"{name}.toml", root, tables)
        done = subprocess.run([program(f"tandem-{name}"), "--config", config, "--check"], capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        equal((done.returncode, words in said), (status, True), f"{words}: {said}")

    tunnel = {"listen": ["192.0.2.1:4433"], "inner4": "10.64.0.0/16"}
    tells("controlplane", {}, [("[tunnel]", tunnel)], "fine", 0)
    tells("controlplane", {}, [("[tunnel]", {**tunnel, "tun": "a/b"})], "tun must be an interface name")
    tells("controlplane", {}, [("[tunnel]", {**tunnel, "certificate": "/none/gw.pem", "key": "/none/gw.key", "ca": "/none/ca.pem"})], "/none/gw.pem")
    tells("controlplane", {}, [("[tunnel]", {**tunnel, "ca": "/none/ca.pem"})], "belong together")

    key = t.dir / "alice.psk"
    unit = {"id": "alice", "gateway": ["192.0.2.1:4433"], "psk_file": str(key)}
    tells("agent", unit, [], str(key))
    key.write_text("0123456789abcdef" * 4)
    key.chmod(0o644)
    tells("agent", unit, [], "chmod 600")
    key.chmod(0o600)
    tells("agent", unit, [], "good", 0)
    tells("agent", {**unit, "user": "nobody-of-that-name"}, [], "no such user")

    port = ("[[port]]", {"interface": "eth1"})
    tells("dataplane", {}, [("[[address]]", {"name": "core", "ip": "192.0.2.1"}), port], "ok", 0)
    tells("dataplane", {}, [("[[address]]", {"name": "core", "ip": "239.1.1.1"}), port], "is no address of one host")


main(test, "--check: what start would refuse")
