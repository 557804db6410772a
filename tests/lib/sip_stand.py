# SPDX-License-Identifier: Apache-2.0
"""Namespaces unit -- gw -- core without a tunnel, with Kamailio as packaged and an ng server that keeps what it was asked."""

import shutil

import netns
import sip
from fake_ng import FakeNg
from harness import skip
from sip_gateway import SipGateway

INNER, CORE, ANCHOR = "10.64.0.1", "198.51.100.1", "198.51.100.2"
UNIT, UNIT2, PHONE, TRUNK, OTHER = "10.64.0.2", "10.64.0.3", "198.51.100.10", "198.51.100.20", "198.51.100.11"


class SipStand:
    def __init__(self, t, ng=None):
        """ng(namespace): another ng server than the one that keeps what it was asked."""
        if not shutil.which("kamailio"):
            skip("kamailio is not installed (package kamailio)")
        self.t = t
        self.gw, self.ue, self.core = (netns.Namespace(f"{t.prefix}-{n}") for n in ("gw", "ue", "core"))
        for space in (self.gw, self.ue, self.core):
            t.defer(space.delete)
        netns.veth(self.ue, "ue0", self.gw, "inner0")
        netns.veth(self.core, "core0", self.gw, "core0")
        self.gw.address("inner0", f"{INNER}/16")
        self.gw.address("core0", f"{CORE}/24")
        for address in (UNIT, UNIT2):
            self.ue.address("ue0", f"{address}/16")
        for address in (PHONE, TRUNK, OTHER):
            self.core.address("core0", f"{address}/24")
        if ng:
            self.ng = ng(self.gw)
        else:
            self.ng = FakeNg(self.gw, ANCHOR)
            t.defer(self.ng.close)
        self.sip = SipGateway(self.gw, t.dir, INNER, CORE)
        t.defer(self.sip.stop)
        self.kamailio = self.sip.start(t.log_dir)

    def agent(self, user, address, port, **options):
        inner = address in (UNIT, UNIT2)
        agent = sip.Agent(user, self.ue if inner else self.core, address, port, INNER if inner else CORE, **options)
        self.t.defer(agent.close)
        return agent
