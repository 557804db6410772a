#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""RIM-23, RIM-24: the device's own contacts decide where the central database has nothing; set by the command line, edited by hand while
the agent runs, kept over its restart; where both know the callee the higher level wins; a broken file leaves the old in force."""
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, sys.path[0] + "/../lib")
from harness import check, equal, main, wait_until
from media import Call
from programs import program

MUM = "+46701234567"
SUITE = "AEAD_AES_128_GCM"
LEVELS = {"standard": {"suite": SUITE, "seed_bytes": 16, "rekey_s": 60}, "elevated": {"suite": SUITE, "seed_bytes": 32, "rekey_s": 30},
          "high": {"suite": "AEAD_AES_256_GCM", "seed_bytes": 32, "rekey_s": 5}}


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False, levels=LEVELS)
    alice = t.agent(net.ue, gw, "alice", more={"state_dir": t.dir / "alice-state"})
    file = t.dir / "alice-state/contacts.toml"
    calls = iter(range(1000))

    def contacts(*arguments, status=0):
        done = subprocess.run([program("tandem-agent"), "contacts", *arguments, "--config", alice.config], capture_output=True, text=True,
                              timeout=20, check=False)
        equal(done.returncode, status, f"contacts {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def call(level, decided_by, who=MUM):
        """A call of the unit with `who`: its level, who decided, and the media as it is shown."""
        c = Call(gw, net.ue, alice.inner(), net.core, net.bob_address, call_id=f"c{next(calls)}", callee=who, start=False)
        wait_until(lambda: c.media() and c.media()["active"], "media of the call")
        shown = gw.ctl.ops("media show", id=c.media()["id"])
        c.hang_up()
        c.close()
        equal((shown["level"], shown["decided_by"]), (level, decided_by), f"level of a call with {who} ({shown['why']})")
        equal({leg["suite"] for leg in shown["legs"] if leg["kind"] == "unit"}, {LEVELS[level]["suite"]}, "suite in force")
        return shown

    equal(gw.ctl.ops("policy list")["total"], 0, "rules in the central database")
    call("standard", "default")

    # RIM-24: set by the person while the agent runs; the next call has it.
    contacts("set", "+46 70-123 45 67", "--level", "high", "--name", "Mum")
    shown = call("high", "contacts of alice")
    check(any("Mum" in step["text"] for step in shown["why"]), f"the reason names the contact: {shown['why']}")
    call("standard", "default", who="+46709999999")
    equal(((file.stat().st_mode & 0o777), file.owner()), (0o600, "nobody"), "mode and owner of contacts.toml")

    # ... over a restart of the agent, and set while it does not run.
    alice.stop()
    contacts("category", "friends", "elevated")
    contacts("set", "+4673", "--category", "friends")
    alice.start()
    alice.up()
    call("high", "contacts of alice")
    call("elevated", "contacts of alice", who="+46731112223")

    # ... edited by hand, and broken by hand: the old one stays, said with its line.
    file.write_text(f'[[contact]]\naddress = "{MUM}"\nlevel = "elevated"\n')
    call("elevated", "contacts of alice")
    file.write_text(f'[[contact]]\naddress = "{MUM}"\nlevel = high\n')
    call("elevated", "contacts of alice")
    wait_until(lambda: "contacts.toml:3:" in alice.status()["advice"]["contacts"]["error"], "the error in the agent's status")
    check("contacts.toml:3:" in Path(alice.process.log_path).read_text(), "and in its log")
    check("contacts.toml:3:" in contacts("list", status=1), "and in the command line's answer")
    file.write_text(f'[[contact]]\naddress = "{MUM}"\nlevel = "elevated"\n')

    # Both present: the higher wins, whichever it is.
    gw.ctl.ops("policy set", address="+4670", level="high")
    call("high", "security database: callee")
    gw.ctl.ops("policy set", address="+4670", level="standard")
    explained = gw.ctl.ops("policy explain", caller="alice", callee=MUM)
    equal((explained["level"], explained["decided_by"]), ("elevated", "contacts of alice"), "explained before the call: the unit is asked too")
    shown = call("elevated", "contacts of alice")
    check(any(step["rule"].startswith("security database") for step in shown["why"]), f"the central rule was asked, too: {shown['why']}")
    contacts("unset", MUM)
    call("standard", "security database: callee")

    # Wrong arguments: a sentence that says what to do, and nothing is changed.
    before = file.read_text()
    for arguments, words in ((("set", "+4x", "--level", "high"), "is no telephone number"), (("set", MUM), "give --level, --name or --category"),
                             (("set", MUM, "--level", "very high"), "a level is 1 to 32"), (("unset", "nobody"), "is no contact"),
                             (("category", "a b", "high"), "a category's name is")):
        check(words in contacts(*arguments, status=2), f"words of contacts {' '.join(arguments)}")
    equal(file.read_text(), before, "contacts.toml after what was refused")
    foreign = t.dir / "foreign"
    foreign.mkdir()
    (foreign / "somebody's").touch()
    config = t.dir / "foreign.toml"
    config.write_text(Path(alice.config).read_text().replace(str(t.dir / "alice-state"), str(foreign)))
    done = subprocess.run([program("tandem-agent"), "contacts", "list", "--config", config], capture_output=True, text=True, timeout=20, check=False)
    check(done.returncode == 2 and "holds other files than the agent's" in done.stderr, f"a state_dir of somebody else: {done.stderr}")
    equal(foreign.owner(), "root", "owner of a directory that is not the agent's")

    # A level that the gateway has not: no advice, no lost call.
    contacts("set", MUM, "--level", "tremendous")
    call("standard", "security database: callee")


main(test, "rim24_contacts")
