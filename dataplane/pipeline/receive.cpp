// SPDX-License-Identifier: Apache-2.0
// Stage 1: packets from every port's queues, and those that other workers handed over, into one burst. A burst gathers
// over all ports, because the crypto engine's lanes want company. The first port changes every round, so that none
// starves.
#include "dataplane/pipeline/ownership.hpp"
#include "dataplane/pipeline/worker.hpp"

#include <algorithm>

#include <rte_ethdev.h>
#include <rte_ring.h>

namespace tandem::pipeline {

void worker::take(rte_mbuf* mbuf, std::uint8_t port, std::uint8_t turns) noexcept {
    packet& p = burst_.packets[burst_.count++];
    p.mbuf = mbuf;
    p.flow = nullptr;
    p.port = port;
    p.rtcp = p.accepted = p.latched = false;
    p.left = departure::none;
    p.reason = api::drop::none;
    p.turns = turns;
}

// The buffer's own line and the headers at once: they begin where the last packet's did, as far as one can tell
// without having the first.
void worker::prefetch_frame(rte_mbuf* mbuf) const noexcept {
    rte_prefetch0(mbuf);
    rte_prefetch0(reinterpret_cast<std::uint8_t*>(mbuf) + frame_at_);
}

unsigned worker::receive_port(const port_use& port, std::uint8_t at) noexcept {
    std::array<rte_mbuf*, burst_size> got;
    unsigned total = 0;
    for (std::uint16_t queue = port.first_rx; queue < port.rx_queues;
         queue = static_cast<std::uint16_t>(queue + port.rx_step)) {
        const auto room = static_cast<std::uint16_t>(burst_size - burst_.count);
        if (room == 0)
            break;
        const std::uint16_t n = rte_eth_rx_burst(port.id, queue, got.data(), room);
        for (unsigned i = 0; i < n; ++i) {
            takes(got[i]);
            prefetch_frame(got[i]);
            take(got[i], at, 0);
        }
        total += n;
    }
    count(api::counter::rx_packets, total);
    return total;
}

void worker::take_handed() noexcept {
    std::array<void*, burst_size> got;
    const unsigned room = std::min(burst_size / 2, burst_size - burst_.count);
    const unsigned n = rte_ring_sc_dequeue_burst(handed_.get(), got.data(), room, nullptr);
    for (unsigned i = 0; i < n; ++i) {
        auto* const mbuf = static_cast<rte_mbuf*>(got[i]);
        takes(mbuf);
        std::uint8_t at = 0;
        while (at + 1u < ports_.size() && ports_[at].id != mbuf->port)
            ++at;
        rte_prefetch0(rte_pktmbuf_mtod(mbuf, void*));
        take(mbuf, at, static_cast<std::uint8_t>(mbuf->hash.usr));
    }
}

void worker::receive() noexcept {
    burst_.count = burst_.gone = 0;
    for (unsigned i = 0; i < turned_count_; ++i)
        take(turned_[i].mbuf, turned_[i].port, turned_[i].turns);
    turned_count_ = 0;
    if (shared_.workers.size() > 1)
        take_handed();
    burst_.fresh = burst_.count;
    for (unsigned i = 0; i < ports_.size(); ++i) {
        const unsigned at = (next_port_ + i) % static_cast<unsigned>(ports_.size());
        receive_port(ports_[at], static_cast<std::uint8_t>(at));
    }
    if (++next_port_ >= ports_.size())
        next_port_ = 0;
}

} // namespace tandem::pipeline
