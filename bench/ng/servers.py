# SPDX-License-Identifier: Apache-2.0
"""The two ng servers, one class each: Tandem (control plane and data plane) and rtpengine in user space with one worker thread. Each with
all its processes on one CPU; it tells the CPU time and the memory that they used."""

import re
import shutil
from pathlib import Path

import netns
import ng
from process import Process
from programs import Gateway, program

RELAY_CPU = 1
PORTS = (2048, 64999)  # of each address


def on_one_cpu(command):
    return ["taskset", "-c", str(RELAY_CPU), *command]


class Relay:
    engine, port = "?", 0

    def __init__(self, bench):
        self.bench, self.next = bench, 1

    def pids(self):
        return []

    def cpu_seconds(self):
        """CPU time of all threads of its processes, to the nanosecond."""
        total = 0
        for pid in self.pids():
            for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                total += int(task.read_text().split()[0])
        return total / 1e9

    def memory_bytes(self):
        return sum(int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) * 1024 for pid in self.pids())

    def state_bytes(self, calls):
        """What calls take of memory that was there from the start."""
        return 0


class Tandem(Relay):
    """On veth with AF_XDP, as in the field; the data plane sleeps while no packets come."""

    engine, port = "tandem", 2223

    def start(self):
        bench = self.bench
        directory = bench.test.dir / f"gateway{bench.number()}"
        self.gateway = Gateway(bench.net.gw, directory, kamailio=False, instance=f"{bench.test.prefix}-ng", core_media=bench.addresses[0],
                               access_more=[("core", a) for a in bench.addresses[1:]], media={"ports": list(PORTS)},
                               dataplane={"idle": "interrupt", "max_flows": 131072})
        g = self.gateway
        sock = g.run_dir / "dataplane.sock"
        g.dataplane = Process("dataplane", on_one_cpu([program("tandem-dataplane"), "--config", g.dataplane_config]), g.log_dir, g.netns)
        bench.test.defer(lambda: g.dataplane.alive() and g.dataplane.kill())
        g.dataplane.wait_for_path(sock, 60)
        g.controlplane = Process("controlplane", on_one_cpu([program("tandem-controlplane"), "--config", g.controlplane_config]), g.log_dir, g.netns)
        bench.test.defer(lambda: g.controlplane.alive() and g.controlplane.kill())
        g.controlplane.wait_for_path(g.run_dir / "controlplane.sock", 30)
        g.controlplane.wait_for(g._connected, "connection to the data plane", 20)

    def pids(self):
        return [self.gateway.controlplane.pid, self.gateway.dataplane.pid]

    def state_bytes(self, calls):
        """Four flows a call (RTP and RTCP of two legs), in the state memory that is made at the start; their counters are not in it."""
        segment = Path(f"/dev/shm/tandem-{self.gateway.instance}.stats").read_bytes()[:16]
        return calls * 4 * int.from_bytes(segment[12:16], "little")

    def stop(self):
        self.gateway.stop()
        shutil.rmtree(self.gateway.dir, ignore_errors=True)


class Rtpengine(Relay):
    engine, port = "rtpengine", 2222

    def start(self):
        if not shutil.which("rtpengine"):
            raise FileNotFoundError("rtpengine is not installed (package rtpengine-daemon)")
        number, test = self.bench.number(), self.bench.test
        interfaces = [f"--interface=core/{a}" for a in self.bench.addresses]
        self.process = test.start(f"rtpengine{number}", on_one_cpu(
            ["rtpengine", "--table=-1", *interfaces, f"--listen-ng=127.0.0.1:{self.port}", "--foreground", "--log-stderr", "--log-level=3",
             f"--pidfile={test.dir}/rtpengine{number}.pid", f"--port-min={PORTS[0]}", f"--port-max={PORTS[1]}", "--num-threads=1",
             "--delete-delay=0"]), self.bench.net.gw)
        client = netns.inside(self.bench.net.gw.name, lambda: ng.Client("127.0.0.1", self.port))
        client.await_pong()
        client.close()

    def pids(self):
        return [self.process.pid]

    def stop(self):
        self.process.stop(30)


__all__ = ["PORTS", "RELAY_CPU", "Relay", "Rtpengine", "Tandem"]
