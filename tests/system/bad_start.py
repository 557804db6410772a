#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 150
"""Bad input at the start: configuration errors name file, line and remedy; a second gateway on the interfaces, a taken port, missing
privileges and missing hugepages are said in clear words; nothing crashes, hangs or prints a stack trace."""
import re
import subprocess
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
from harness import check, main
from programs import program


def refused(t, name, argv, words, space=None, stdin=None):
    """The program ends by itself within 15 s with a status that is no signal, and its words match."""
    command = (["ip", "netns", "exec", space.name] if space else []) + [str(a) for a in argv]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
    except subprocess.TimeoutExpired:
        check(False, f"{name}: ends by itself")
    said = (done.stdout + done.stderr).strip()
    t.say(f"{name}: {said.splitlines()[-1][:150] if said else '(nothing)'}")
    check(done.returncode > 0, f"{name}: exit status says it failed, by no signal: {done.returncode}")
    for word in words:
        check(re.search(word, said, re.I), f"{name}: its words match '{word}': {said[-600:]}")
    check(not re.search(r"stack|backtrace|terminate called|AddressSanitizer|PANIC", said), f"{name}: no stack trace: {said[-600:]}")


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net, start=False, kamailio=False)
    good = {"tandem-dataplane": gw.dataplane_config, "tandem-controlplane": gw.controlplane_config}
    agent = t.dir / "agent.toml"
    psk = t.dir / "x.psk"
    psk.write_text("00" * 32 + "\n")
    psk.chmod(0o600)
    agent.write_text(f'version = 1\nid = "alice"\ngateway = ["192.0.2.1:4433"]\npsk_file = "{psk}"\n')
    good["tandem-agent"] = str(agent)
    for name, config in good.items():
        tool = program(name)
        refused(t, f"{name}, no file", [tool, "--config", "/nonexistent/x.toml"], ["/nonexistent/x.toml"])
        text = open(config).read()
        for what, changed, words in (
                ("unknown key", text.replace("version = 1\n", "version = 1\nnonsense = 3\n", 1), [r"bad\.toml:2", "nonsense"]),
                ("syntax error", text + "\n[[[\n", [r"bad\.toml:\d+"]),
                ("wrong version", text.replace("version = 1\n", "version = 99\n", 1), [r"bad\.toml", "version"]),
                ("wrong type", re.sub(r"version = 1\n", "version = \"one\"\n", text, count=1), [r"bad\.toml", "version"])):
            bad = t.dir / "bad.toml"
            bad.write_text(changed)
            refused(t, f"{name}, {what}", [tool, "--config", bad], words)

    dataplane, bad = open(gw.dataplane_config).read(), t.dir / "bad.toml"
    for what, changed, words in (("unknown interface", dataplane.replace('"acc0"', '"nosuch0"'), ["nosuch0"]),
                                 ("address that is none", dataplane.replace("192.0.2.1", "192.0.2.999"), [r"bad\.toml:\d+", "192.0.2.999"]),
                                 ("hugepages required", dataplane.replace('"never"', '"require"'), ["hugepages", "sysctl|reserve"])):
        bad.write_text(changed)
        if what == "hugepages required" and int(re.search(r"HugePages_Free: +(\d+)", open("/proc/meminfo").read())[1]) > 0:
            continue
        refused(t, f"tandem-dataplane, {what}", [program("tandem-dataplane"), "--config", bad], words, net.gw)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    refused(t, "tandem-dataplane, run_dir of another", [*nobody, program("tandem-dataplane"), "--config", gw.dataplane_config],
            ["run_dir", "Permission denied"], net.gw)
    own = t.dir / "nobodys-run"
    own.mkdir()
    own.chmod(0o777)
    bad.write_text(dataplane.replace(str(gw.run_dir), str(own)))
    bad.chmod(0o644)
    refused(t, "tandem-dataplane, no privileges", [*nobody, program("tandem-dataplane"), "--config", bad], ["CAP_NET_ADMIN|CAP_NET_RAW|CAP_BPF"],
            net.gw)

    gw.start()
    second = gw.dir / "second.toml"
    second.write_text(open(gw.dataplane_config).read().replace(str(gw.run_dir), str(t.dir / "other-run"))
                      .replace(f'"{gw.instance}"', f'"{gw.instance}-2"'))
    (t.dir / "other-run").mkdir()
    refused(t, "a second data plane on the same interfaces", [program("tandem-dataplane"), "--config", second], ["acc0|core0"], net.gw)
    refused(t, "a second data plane on the same run_dir", [program("tandem-dataplane"), "--config", gw.dataplane_config],
            ["run|lock|already"], net.gw)
    refused(t, "a second control plane", [program("tandem-controlplane"), "--config", gw.controlplane_config],
            ["already|another|in use"], net.gw)
    other = gw.dir / "other.toml"
    (t.dir / "third-run").mkdir()
    other.write_text(open(gw.controlplane_config).read().replace(f'run_dir = "{gw.run_dir}"', f'run_dir = "{t.dir}/third-run"')
                     .replace('tun = "tandem0"', 'tun = "tandem9"').replace("tandem.db", "other.db").replace("10.64.", "10.65."))
    refused(t, "a taken port", [program("tandem-controlplane"), "--config", other], ["4433|2223", "use"], net.gw)
    check(gw.ctl.ops("status")["dataplane"]["connected"], "the first gateway is unharmed")

    # The CLI's own words, against a live gateway.
    for argv, status, words in ((["unit", "show", "nobody"], 1, "nobody"), (["media", "show", "4711"], 1, "4711"),
                                (["session", "drop", "nobody"], 1, "nobody"), (["unit", "add", "x" * 200, "--certificate"], 2, "id|long"),
                                (["nonsense"], 2, "help")):
        code, out, err = gw.ctl.raw(*argv)
        check(code in (status, 1, 2) and code != 0, f"tandemctl {argv[:2]} ends with {status}: {code}")
        check(re.search(words, err), f"tandemctl {argv[:2]} says what is wrong: {err}")
        check(out == "", f"tandemctl {argv[:2]} prints nothing else: {out}")


main(test, "bad_start: wrong configuration, a second gateway, a taken port, no privileges")
