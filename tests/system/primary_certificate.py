#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 90
"""RIM-04 with certificates: a unit whose certificate (CN = id code) the operator's CA signed gets its session and a call; one of another
CA does not; a gateway that shows a unit's certificate, or one of another CA, is refused by the agent."""
import shutil
import subprocess
import sys
import time

sys.path.insert(0, sys.path[0] + "/../lib")
from harness import check, equal, main, skip, wait_until
from media import Call
from programs import Agent


class Authority:
    """A CA of openssl(1) that signs one certificate per name."""

    def __init__(self, directory, name):
        self.dir, self.ca = directory / name, directory / name / "ca.pem"
        self.dir.mkdir()
        self._run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                  "-keyout", self.dir / "ca.key", "-out", self.ca)

    def _run(self, *arguments):
        done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
        check(done.returncode == 0, f"openssl {arguments[0]} works: {done.stderr[-300:]}")

    def sign(self, name, usage):
        key, request, certificate = (self.dir / f"{name}.{x}" for x in ("key", "csr", "pem"))
        extensions = self.dir / f"{name}.ext"
        extensions.write_text(f"extendedKeyUsage={usage}\n")
        self._run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        self._run("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.dir / "ca.key", "-CAcreateserial", "-days", "2",
                  "-extfile", extensions, "-out", certificate)
        key.chmod(0o600)
        return {"certificate": certificate, "key": key, "ca": self.ca}


def test(t):
    if not shutil.which("openssl"):
        skip("openssl(1) is not installed")
    ours, theirs = Authority(t.dir, "operator"), Authority(t.dir, "stranger")
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False, tunnel=ours.sign("gateway", "serverAuth"))
    gw.ctl.ops("unit add", id="alice")  # without a key: by certificate
    alice = ours.sign("alice", "clientAuth")

    def agent(name, files):
        made = Agent(net.ue, t.dir / name, "alice", gw.server, None, more={k: str(v) for k, v in files.items()})
        t.defer(made.stop)
        return made.start()

    good = agent("good", alice)
    good.up()
    session = next(s for s in gw.ctl.sessions() if s["unit"] == "alice")
    equal((session["up"], session["cipher"]), (True, "TLS_AES_256_GCM_SHA384"), "session by certificate")
    call = Call(gw, net.ue, good.inner(), net.core, net.bob_address)
    t.defer(call.close)
    wait_until(lambda: call.core.received and call.unit.received, "media both ways", 5)
    call.hang_up()
    equal(good.stop(), 0, "the agent's exit status")

    # The gateway's CA is the operator's, so the agent goes on to show its own certificate, which is refused.
    bad = agent("bad", {**theirs.sign("alice", "clientAuth"), "ca": ours.ca})
    bad.process.wait_for_text("gateway refused the key of id 'alice'|closed the connection|did not answer", 15)
    time.sleep(1)
    check(bad.inner() is None and not bad.status()["primary"]["up"], "no session with another CA's certificate")
    bad.stop()
    wary = agent("wary", {**alice, "ca": theirs.ca})
    wary.process.wait_for_text("could not prove who it is", 15)
    equal(wary.inner(), None, "inner address from a gateway of another CA")
    wary.stop()

    # A unit's certificate does not make a gateway.
    gw.stop()
    false = t.gateway(net, kamailio=False, tunnel=ours.sign("mallory", "clientAuth"))
    careful = agent("careful", alice)
    careful.process.wait_for_text("could not prove who it is", 15)
    equal((careful.inner(), false.ctl.sessions()), (None, []), "inner address and sessions with a unit as gateway")


main(test, "RIM-04 units and gateway by certificate")
