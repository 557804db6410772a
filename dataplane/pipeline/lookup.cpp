// SPDX-License-Identifier: Apache-2.0
// Stage 2: frame -> UDP payload -> flow. A packet whose flow belongs to another worker goes to it by its ring.
#include "dataplane/pipeline/worker.hpp"

#include <rte_mbuf.h>
#include <rte_ring.h>

namespace tandem::pipeline {

api::drop worker::look_up(packet& p) noexcept {
    if (p.mbuf->nb_segs != 1 && rte_pktmbuf_linearize(p.mbuf) != 0)
        return api::drop::no_room;
    auto* const frame = rte_pktmbuf_mtod(p.mbuf, std::uint8_t*);
    udp_frame seen;
    if (const auto wrong = parse_frame({frame, p.mbuf->data_len}, seen); wrong != api::drop::none)
        return wrong;
    const auto address = shared_.table.address_index(seen.destination.ip);
    if (!address)
        return api::drop::no_flow;
    p.slot = shared_.table.find(api::make_flow_id(*address, seen.destination.port));
    if (p.slot == flow::no_slot)
        return api::drop::no_flow;
    flow::record& found = shared_.memory.records()[p.slot];
    if (flow::load_state(found) != flow::state::active)
        return api::drop::flow_gone;
    p.flow = &found;
    p.payload = frame + seen.payload_offset;
    p.length = seen.payload_length;
    p.received_length = seen.payload_length;
    p.source = seen.source;
    p.link = seen.link;
    flow::prefetch(shared_.memory.ins()[p.slot]);
    return api::drop::none;
}

// All packets of the burst that are `to`'s, in their order: to its ring at once, and one look whether it sleeps.
void worker::hand_over(unsigned to) noexcept {
    std::array<void*, burst_size> mbufs;
    std::array<packet*, burst_size> packets;
    unsigned n = 0;
    for (unsigned i = 0; i < burst_.count; ++i) {
        packet& p = burst_.packets[i];
        if (p.reason != api::drop::none || p.flow->worker != to)
            continue;
        p.flow = nullptr; // its counters are the owner's
        mbufs[n] = p.mbuf;
        packets[n++] = &p;
    }
    worker& owner = *shared_.workers[to];
    const unsigned taken = rte_ring_mp_enqueue_burst(owner.handed_.get(), mbufs.data(), n, nullptr);
    for (unsigned i = 0; i < n; ++i) {
        if (i >= taken) {
            drop(*packets[i], api::drop::handoff_full);
            continue;
        }
        packets[i]->mbuf = nullptr;
        packets[i]->handed = true;
        ++burst_.gone;
        packets[i]->reason = api::drop::handoff_full; // left this burst; nothing was dropped
    }
    count(api::counter::handed_over, taken);
    if (taken != 0 && owner.sleeper_.wake())
        count(api::counter::wakeups);
}

void worker::lookup() noexcept {
    for (unsigned i = 0; i < burst_.count; ++i)
        rte_prefetch0(rte_pktmbuf_mtod(burst_.packets[i].mbuf, void*));
    for (unsigned i = 0; i < burst_.count; ++i) {
        packet& p = burst_.packets[i];
        if (const auto wrong = look_up(p); wrong != api::drop::none) {
            drop(p, wrong);
            continue;
        }
    }
    if (shared_.workers.size() == 1)
        return;
    for (unsigned i = 0; i < burst_.count; ++i)
        if (const packet& p = burst_.packets[i]; p.reason == api::drop::none && p.flow->worker != index_)
            hand_over(p.flow->worker);
}

} // namespace tandem::pipeline
