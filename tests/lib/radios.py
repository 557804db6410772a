# SPDX-License-Identifier: Apache-2.0
"""A device with two networks, wlan0 and wwan0, to one gateway."""

import netns

WLAN, WWAN, OTHER = "192.0.2.10", "192.0.2.130", "203.0.113.10"


class Radios:
    """ue (wlan0) - (acc0) gw, ue (wwan0) - (acc1) gw, core."""

    access, core_address, bob_address = "192.0.2.1", "198.51.100.1", "198.51.100.10"

    def __init__(self, prefix):
        self.all = self.gw, self.ue, self.core = [netns.Namespace(f"{prefix}-{name}") for name in ("gw", "ue", "core")]
        self.ports = ["acc0", "acc1", "core0"]
        netns.veth(self.core, "core0", self.gw, "core0")
        self.gw.address("core0", "198.51.100.1/24", "198.51.100.2/24")
        self.core.address("core0", "198.51.100.10/24")
        self.core.route("default", "via", "198.51.100.1")
        for radio, port, near, address, metric in (("wlan0", "acc0", "192.0.2.1", WLAN, 200), ("wwan0", "acc1", "192.0.2.129", WWAN, 100)):
            netns.veth(self.ue, radio, self.gw, port)
            self.gw.address(port, f"{near}/25")
            self.ue.address(radio, f"{address}/25")
            self.ue.route("default", "via", near, "dev", radio, "metric", str(metric))
        self.gw.address("acc0", "203.0.113.1/24")

    def delete(self):
        for space in self.all:
            space.delete()
