// SPDX-License-Identifier: Apache-2.0
// See punt.hpp; and the way down, by the control thread's call(): frames that are whole already.
#include "dataplane/pipeline/punt.hpp"

#include <cstring>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "dataplane/pipeline/ownership.hpp"
#include "dataplane/pipeline/worker.hpp"
#include "dataplane/rtp/demux.hpp"

namespace tandem::pipeline {

api::drop punt::take(const api::packet_in& about, std::span<const std::uint8_t> bytes) noexcept {
    if (bytes.size() > api::max_packet_bytes)
        return api::drop::punt_too_long;
    const std::uint64_t source = network_of(about.source), now = about.time_ns;
    if (!sources_.has(source, now))
        return api::drop::punt_source_limit;
    if (!flows_.has(about.id, now))
        return api::drop::punt_flow_limit;
    if (!all_.has(0, now))
        return api::drop::punt_limit;
    std::byte* const slot = ring_.claim();
    if (slot == nullptr)
        return api::drop::punt_full;
    sources_.use(source, now); // only now: a flood under many names at one flow costs others nothing
    flows_.use(about.id, now);
    all_.use(0, now);
    std::memcpy(slot, &about, sizeof about);
    std::memcpy(slot + sizeof about, bytes.data(), bytes.size());
    std::memset(slot + sizeof about + bytes.size(), 0, api::padded_packet(bytes.size()) - bytes.size());
    ring_.publish();
    return api::drop::none;
}

// Not a packet of the flow's media (`wrong` says why): the control plane's, where the flow asks for it, or nobody's.
void worker::punt_or_drop(packet& p, api::drop wrong) noexcept {
    const flow::record& f = *p.flow;
    const auto kind = p.length == 0 ? api::packet_kind::none : rtp::punted_as(p.payload[0], f.flags);
    if (kind == api::packet_kind::none)
        return drop(p, wrong);
    const api::packet_in about{burst_.now_ns, f.tag, f.id, static_cast<std::uint16_t>(p.length), kind, 0, p.source};
    if (const auto refused = punt_.take(about, {p.payload, p.length}); refused != api::drop::none)
        return drop(p, refused);
    p.reason = wrong;
    p.left = departure::punted;
    ++burst_.gone;
    count(api::counter::punted);
    gives(p.mbuf);
    rte_pktmbuf_free(p.mbuf);
    p.mbuf = nullptr;
}

void worker::send_whole(std::span<const whole_frame> frames) noexcept {
    for (const whole_frame& f : frames) {
        takes(f.mbuf);
        if (f.here && turned_count_ < burst_size) {
            turned_[turned_count_++] = {f.mbuf, f.port, 1};
            count(api::counter::packets_out);
            continue;
        }
        const std::uint32_t bytes = f.mbuf->pkt_len;
        rte_mbuf* leaving = f.mbuf;
        gives(leaving);
        if (f.here || rte_eth_tx_burst(ports_[f.port].id, ports_[f.port].tx_queue, &leaving, 1) == 0) {
            rte_pktmbuf_free(leaving);
            count(api::counter::packets_out_full);
            continue;
        }
        count(api::counter::packets_out);
        count(api::counter::tx_packets);
        count(api::counter::tx_bytes, bytes);
    }
}

} // namespace tandem::pipeline
