// SPDX-License-Identifier: Apache-2.0
// Stage 5: headers written in full (the packet's own are gone; the family may change), then one transmit burst per
// port.
#include "dataplane/pipeline/frame_usual.hpp"
#include "dataplane/pipeline/ownership.hpp"
#include "dataplane/pipeline/worker.hpp"

#include <rte_ethdev.h>
#include <rte_mbuf.h>

namespace tandem::pipeline {

api::drop worker::finish_headers(packet& p) noexcept {
    const hop& way = *p.way;
    const bool tagged = way.link.vlan != no_vlan, plain = !tagged && way.ends.ipv4 != 0;
    const std::size_t headers = header_bytes(way.ends.ipv4 != 0, tagged);
    const std::size_t before = room_before(p);
    if (p.length + headers - ethernet_bytes(way.link) > way.mtu)
        return api::drop::too_big;
    if (before < headers)
        return api::drop::no_room;
    const auto length = static_cast<std::uint16_t>(p.length);
    const auto hops = static_cast<std::uint8_t>(p.hops - 1);
    if (plain) [[likely]]
        write_plain(p.payload, length, way.link, way.ends, p.flow->dscp, hops);
    else
        write_headers(p.payload, length, way.link, way.ends, p.flow->dscp, hops);
    p.mbuf->data_off = static_cast<std::uint16_t>(before - headers);
    p.mbuf->data_len = static_cast<std::uint16_t>(p.length + headers);
    p.mbuf->pkt_len = p.mbuf->data_len;
    p.received_length = p.mbuf->data_len; // from here on: of the frame
    p.mbuf->ol_flags = 0;
    return api::drop::none;
}

void worker::count_sent(const packet& p) noexcept {
    api::flow_stats& s = shared_.flow_stats[p.slot];
    if (p.rtcp) {
        api::bump(s.rtcp_tx_packets);
    } else {
        api::bump(s.tx_packets);
        api::bump(s.tx_bytes, p.length);
    }
}

// The next burst takes it in again, as a frame like any other: whose port it is for, and whether it may come from ours,
// is looked up and asked as ever.
void worker::turn_back(packet& p, std::size_t place) noexcept {
    if (capture_ != nullptr) [[unlikely]]
        capture_->leaving(place, p, *p.mbuf);
    count_sent(p);
    turned_[turned_count_++] = {p.mbuf, p.port, static_cast<std::uint8_t>(p.turns + 1)};
    count(api::counter::turned_back);
}

void worker::transmit(std::uint8_t at) noexcept {
    leaving& out = leaving_[at];
    const port_use& port = ports_[at];
    if (capture_ != nullptr) [[unlikely]]
        for (unsigned i = 0; i < out.count; ++i) // before they are gone
            capture_->leaving(out.packets[i], burst_.packets[out.packets[i]], *out.mbufs[i]);
    for (unsigned i = 0; i < out.count; ++i)
        gives(out.mbufs[i]);
    const unsigned sent =
        rte_eth_tx_burst(port.id, port.tx_queue, out.mbufs.data(), static_cast<std::uint16_t>(out.count));
    std::uint64_t bytes = 0;
    for (unsigned i = 0; i < out.count; ++i) {
        packet& p = burst_.packets[out.packets[i]];
        if (i >= sent) {
            drop(p, api::drop::tx_full);
            continue;
        }
        count_sent(p);
        bytes += p.received_length;
    }
    count(api::counter::tx_bytes, bytes);
    count(api::counter::tx_packets, sent);
    out.count = 0;
}

void worker::send() noexcept {
    for (unsigned i = 0; i < burst_.count; ++i) {
        packet& p = burst_.packets[i];
        if (p.reason != api::drop::none)
            continue;
        if (const auto wrong = finish_headers(p); wrong != api::drop::none) {
            drop(p, wrong);
            continue;
        }
        if (p.way->state == hop_state::here) [[unlikely]] {
            turn_back(p, i);
            continue;
        }
        leaving& out = leaving_[p.way->port];
        out.mbufs[out.count] = p.mbuf;
        out.packets[out.count++] = static_cast<std::uint8_t>(i);
    }
    for (std::uint8_t at = 0; at < ports_.size(); ++at)
        if (leaving_[at].count != 0)
            transmit(at);
}

} // namespace tandem::pipeline
