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

bool worker::hand_over(packet& p, unsigned to) noexcept {
    if (rte_ring_mp_enqueue(shared_.workers[to]->handed_.get(), p.mbuf) != 0)
        return false;
    p.mbuf = nullptr;
    return true;
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
        if (p.flow->worker != index_ && shared_.workers.size() > 1) {
            const unsigned owner = p.flow->worker;
            p.flow = nullptr; // its counters are the owner's
            if (!hand_over(p, owner))
                drop(p, api::drop::handoff_full);
            else
                p.reason = api::drop::handoff_full; // left this burst; nothing was dropped
        }
    }
}

} // namespace tandem::pipeline
