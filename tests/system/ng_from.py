#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ng listens to whom [ng] from names: others, and the inner network always, get nothing, and the kernel drops what they flood before the
control plane sees it. A proxy that floods, or in whose name somebody does, takes nothing from another one. A long list goes to a source that may be made up
no more often than its share; requests that ask for what is not done are told so, and counted by name."""
import signal
import socket
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
import netns
import ng
from harness import Network, check, equal, main

GATEWAY, PROXY, OTHER, STRANGER = "198.51.100.1", "198.51.100.10", "198.51.100.20", "198.51.100.66"
FLOOD = 20_000  # datagrams: more than a queue holds


def sdp(port):
    return f"v=0\r\no=- 1 1 IN IP4 {PROXY}\r\ns=-\r\nc=IN IP4 {PROXY}\r\nt=0 0\r\nm=audio {port} RTP/AVP 8\r\n"


def test(t):
    net = Network(t.prefix, ue2=False)
    t.defer(net.delete)
    net.core.address("core0", f"{STRANGER}/24", f"{OTHER}/24")
    gw = t.gateway(net, kamailio=False, start=False)
    text = open(gw.controlplane_config).read().replace('listen = ["127.0.0.1:2223"]', f'listen = ["127.0.0.1:2223", "{GATEWAY}:2223"]\nfrom = ["{PROXY}", "{OTHER}"]')
    open(gw.controlplane_config, "w").write(text)
    gw.start()

    def client(space, source=None, host=GATEWAY):
        def make():
            one = ng.Client(host, 2223, 1.0)
            if source:
                one.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                one.socket.bind((source, 0))
                one.socket.connect((host, 2223))
                one.socket.settimeout(1.0)
            return one
        return netns.inside(space, make)

    def is_heard(one):
        try:
            return one.command("ping")["result"] == "pong"
        except OSError:
            return False

    local = client(net.gw.name, host="127.0.0.1")
    check(local.await_pong(), "this host's own is always heard")
    proxy, stranger = client(net.core.name, PROXY), client(net.core.name, STRANGER)
    check(is_heard(proxy), "the proxy that from names is heard")
    check(not is_heard(stranger), "another address of the same network is not")
    net.gw.run("ip", "address", "add", "10.64.0.77/32", "dev", "lo")  # as a unit's phone whose tunnel ends here
    check(not is_heard(client(net.gw.name, "10.64.0.77")), "the inner network is not")
    equal(gw.ctl.control_totals()["ng_strangers"], 2, "datagrams from strangers")

    # Floods: while the control plane stands still nobody empties a queue.
    def flood(one, body):
        for i in range(FLOOD):
            try:
                one.socket.send(b"f%d " % i + body)
            except OSError:
                pass

    before, words = gw.ctl.control_totals(), ng.encode({"command": "offer", "call-id": "flood", "from-tag": "x", "sdp": sdp(4000)})
    flood(stranger, words)
    check(is_heard(proxy), "the proxy is heard beside a stranger's flood")
    counts = gw.ctl.control_totals()
    equal((counts["ng_datagrams"] - before["ng_datagrams"], counts["ng_queue_full"]), (1, 0), "what came to the control plane of it, and was too much")
    check(counts["ng_strangers"] - before["ng_strangers"] > FLOOD / 2, f"the stranger's are counted: {counts['ng_strangers']}")
    gw.controlplane.signal(signal.SIGSTOP)
    flood(client(net.core.name, OTHER), words)
    cookie = proxy.cookie().encode() + b" "
    proxy.socket.send(cookie + ng.encode({"command": "ping"}))
    gw.controlplane.signal(signal.SIGCONT)
    proxy.socket.settimeout(20)
    equal(proxy.socket.recv(65536), cookie + b"d6:result4:ponge", "the proxy's answer, though another one's flood was there first")
    proxy.socket.settimeout(1)
    check(gw.ctl.control_totals()["ng_queue_full"] > 0, "what the other one sent too much is counted")

    # What is not done.
    reply = proxy.command("offer", call_id="c", from_tag="a", sdp=sdp(4000), flags=["record-call", "symmetric"], received_from=["IP4", PROXY])
    equal((reply["result"], reply["warning"]), ("ok", "Not supported, ignored: flag record-call"), "an offer with a flag that is not supported")
    counts = gw.ctl.control_totals()
    equal(counts["ng_ignored flag record-call"], 1, "its counter")
    check("ng_ignored flag record-call" in gw.ctl.raw("counters")[1], "a person sees it, too")


main(test, "ng listens to whom it is told to")
