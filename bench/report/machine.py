# SPDX-License-Identifier: Apache-2.0
"""What a figure was measured on: everything that changes it and that the system tells."""

import os
import platform
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def _first(path, key):
    try:
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    except OSError:
        pass
    return ""


def _say(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT).stdout.strip()
    except OSError:
        return ""


def _package(name):
    return _say("dpkg-query", "-W", "-f=${Version}", name)


def _text(path):
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def describe():
    flags = _first("/proc/cpuinfo", "flags").split()
    caches = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        caches[f"L{_text(index / 'level')} {_text(index / 'type').lower()}"] = _text(index / "size")
    status = _say("git", "status", "--porcelain", "--untracked-files=no")
    return {
        "cpu": _first("/proc/cpuinfo", "model name"),
        "cpus": os.cpu_count(),
        "crypto_flags": [f for f in ("aes", "avx2", "avx512f", "vaes", "vpclmulqdq", "sha_ni", "gfni") if f in flags],
        "caches": caches,
        "hypervisor": "hypervisor" in flags,
        "memory_mb": int(_first("/proc/meminfo", "MemTotal").split()[0] or 0) // 1024,
        "hugepages": _first("/proc/meminfo", "HugePages_Total"),
        "transparent_hugepages": _text("/sys/kernel/mm/transparent_hugepage/enabled"),
        "kernel": platform.release(),
        "system": _first("/etc/os-release", "") or _text("/etc/debian_version"),
        "compiler": _say("c++", "--version").splitlines()[0] if _say("c++", "--version") else "",
        "libraries": {n: _package(n) for n in ("libipsec-mb1", "dpdk", "libdpdk-dev", "libssl3", "libsrtp2-1", "rtpengine-daemon", "ngcp-rtpengine-daemon",
                                               "libbpf1") if _package(n)},
        "libsrtp2_backend": "NSS" if "libnss3" in _say("sh", "-c", "ldd /usr/lib/*/libsrtp2.so.1") else "other",
        "load_before": os.getloadavg()[0],
        "commit": _say("git", "rev-parse", "--short", "HEAD") + ("+changes" if status else ""),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
