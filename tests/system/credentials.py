#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 90
"""An attacker with a certificate of the operator's CA: in the name of a unit that was enrolled with a key; a stolen one that is revoked (its
session ends on SIGHUP, it does not come back, others stay); one that has ended, one that was made for a gateway; that of a removed unit, after its id was enrolled anew; a gateway of the same
CA that is not the one that the agent was told of."""
import hashlib
import shutil
import subprocess
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from harness import check, equal, main, skip, wait_until
from programs import Agent, CtlError


class Authority:
    """A CA of openssl(1) with a database, so that it can revoke."""

    def __init__(self, directory):
        self.dir = directory
        directory.mkdir()
        (directory / "index.txt").touch()
        (directory / "ca.cnf").write_text(f"""[ca]
default_ca = it
[it]
database = {directory}/index.txt
default_md = sha256
default_crl_days = 1
certificate = {directory}/ca.pem
private_key = {directory}/ca.key
""")
        self._run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=operator",
                  "-keyout", directory / "ca.key", "-out", directory / "ca.pem")

    def _run(self, *arguments):
        done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, check=False)
        check(done.returncode == 0, f"openssl {arguments[0]} works: {done.stderr[-300:]}")
        return done.stdout

    def sign(self, name, usage, file=None, names=None, days=2):
        key, request, pem = (self.dir / f"{file or name}.{x}" for x in ("key", "csr", "pem"))
        extensions = self.dir / "extensions"
        extensions.write_text(f"extendedKeyUsage={usage}\n" + (f"subjectAltName={names}\n" if names else ""))
        self._run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        self._run("x509", "-req", "-in", request, "-CA", self.dir / "ca.pem", "-CAkey", self.dir / "ca.key", "-CAcreateserial", "-days", days,
                  "-extfile", extensions, "-out", pem)
        key.chmod(0o600)
        return {"certificate": pem, "key": key, "ca": self.dir / "ca.pem"}

    def pin(self, files):
        public = self._run("x509", "-in", files["certificate"], "-noout", "-pubkey")
        der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "der"], input=public, capture_output=True, check=True).stdout
        return hashlib.sha256(der).hexdigest()

    def list_revoked(self, *files):
        for one in files:
            self._run("ca", "-config", self.dir / "ca.cnf", "-revoke", one["certificate"])
        self._run("ca", "-config", self.dir / "ca.cnf", "-gencrl", "-out", self.dir / "crl.pem")
        return self.dir / "crl.pem"


def test(t):
    if not shutil.which("openssl"):
        skip("openssl(1) is not installed")
    ca = Authority(t.dir / "ca")
    crl = ca.list_revoked()
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False, tunnel={**ca.sign("gateway", "serverAuth", names="DNS:gw.example"), "crl": crl})
    gw.unit_add("alice")
    for name in ("dave", "erin"):
        gw.ctl.ops("unit add", id=name)

    def agent(name, unit, files, start=True, **more):
        made = Agent(net.ue, t.dir / name, unit, gw.server, None, tun=f"t{name}"[:15], more={k: str(v) for k, v in {**files, **more}.items()})
        t.defer(made.stop)
        return made.start() if start else made

    def refused(who, words="refused the key|closed the connection|did not answer|alert"):
        who.process.wait_for_text(words, 15)
        time.sleep(0.5)
        equal((who.inner(), who.status()["primary"]["up"]), (None, False), f"what {who.dir.name} gets")
        who.stop()

    refused(agent("thief", "alice", ca.sign("alice", "clientAuth")))
    check("'alice'" in gw.controlplane.log() and "may come by this certificate" in gw.controlplane.log(), "an audit line says why")

    daves = ca.sign("dave", "clientAuth")
    dave, erin = agent("dave", "dave", daves, gateway_name="gw.example"), agent("erin", "erin", ca.sign("erin", "clientAuth"))
    dave.up(), erin.up()
    refused(agent("wary", "erin", ca.sign("erin", "clientAuth", file="erin2"), gateway_name="other.example"), "could not prove who it is")

    for name, files in (("ended", ca.sign("erin", "clientAuth", file="erin4", days=-1)), ("gateways", ca.sign("erin", "serverAuth", file="erin5"))):
        refused(agent(name, "erin", files))
        check(erin.status()["primary"]["up"], f"the real one stays up ({name})")

    ca.list_revoked(daves)
    gw.controlplane.signal(1)
    wait_until(lambda: [s["unit"] for s in gw.ctl.sessions() if s["up"]] == ["erin"], "the revoked one's session is over, the other's is not", 10)
    time.sleep(1)
    equal([s["unit"] for s in gw.ctl.sessions() if s["up"]], ["erin"], "who is up a second later")
    dave.stop()

    erin.stop()
    gw.ctl.ops("unit remove", id="erin")
    try:
        gw.ctl.ops("unit add", id="erin")
        check(False, "enrolled anew without its new certificate's key")
    except CtlError as error:
        check("spki" in str(error), f"it says what it needs: {error}")
    fresh = ca.sign("erin", "clientAuth", file="erin3")
    gw.ctl.ops("unit add", id="erin", spki=ca.pin(fresh))
    old = agent("old", "erin", {**fresh, "certificate": ca.dir / "erin.pem", "key": ca.dir / "erin.key"})
    refused(old)
    agent("new", "erin", fresh).up()


main(test, "a certificate counts for whom, for as long, and for what it was meant")
