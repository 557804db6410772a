// SPDX-License-Identifier: Apache-2.0
// Latching: an accepted packet came from a new address, so the leg is there now. The reverse flow's remotes move at
// once: the same worker owns both. Only the newest packet of its SSRC may do so, so that a late one does not throw the
// leg back.
#include "dataplane/flow/learning.hpp"
#include "dataplane/pipeline/worker.hpp"

namespace tandem::pipeline {

// `slot` sends to the leg that was heard: its remote follows, and its layer 2 until the route is resolved.
void worker::move_remote(flow::slot_index slot, const packet& p) noexcept {
    flow::record& f = shared_.memory.records()[slot];
    if (flow::load_state(f) != flow::state::active)
        return;
    const std::uint8_t heard = p.flow->carries & f.carries;
    flow::route to = f.where();
    flow_hops& hops = shared_.hops[slot];
    const port_use& port = ports_[p.port];
    hop seen{};
    const link_seen from = link_of(rte_pktmbuf_mtod(p.mbuf, const std::uint8_t*)); // still as it came
    std::memcpy(seen.link.destination_mac, from.source_mac, 6);
    std::memcpy(seen.link.source_mac, port.mac.data(), 6);
    seen.link.vlan = from.vlan;
    seen.mtu = port.mtu;
    seen.port = p.port;
    seen.state = hop_state::seen;
    if (shared_.table.address_index(p.source.ip)) // it came from one of our own ports
        seen = way_back();
    if ((heard & api::carries_rtp) != 0 && !flow::same_address(to.rtp_remote, p.source)) {
        to.rtp_remote = p.source;
        flow::store_shared(hops.rtp, seen);
    }
    if ((heard & api::carries_rtcp) != 0 && !flow::same_address(to.rtcp_remote, p.source)) {
        to.rtcp_remote = p.source;
        flow::store_shared(hops.rtcp, seen);
    }
    flow::switch_route(f, to);
}

void worker::latch(packet& p) noexcept {
    flow::record& f = *p.flow;
    const auto place = static_cast<std::size_t>(&p - burst_.packets.data());
    if (f.seen != 0 && f.in.suite != api::suite::clear &&
        !flow::is_newest(shared_.memory.ins()[p.slot], streams_, ops_[place]))
        return;
    if (f.source == api::source_policy::learned || f.source == api::source_policy::followed) {
        const api::flow_stats& s = shared_.flow_stats[p.slot];
        if (!flow::moves_leg(f, p.source, s.rx_packets + s.rtcp_rx_packets, burst_.now_ns))
            return;
    } else {
        flow::store_rule(f,
                         f.source == api::source_policy::authenticated ? api::source_rule::authenticated
                                                                       : flow::rule_of(f, p.source),
                         burst_.now_ns);
    }
    flow::switch_source(f, p.source);
    if (f.source == api::source_policy::signalled)
        return; // where this leg is, signalling says
    for (const api::flow_id id :
         {f.reverse, f.where().rtcp_out}) { // the reverse flow, and its RTCP where that is apart
        const flow::slot_index slot = id == 0 ? flow::no_slot : shared_.table.find(id);
        if (slot == flow::no_slot || (id != f.reverse && shared_.memory.records()[slot].reverse != f.id))
            continue;
        move_remote(slot, p);
        if (f.reverse == f.where().rtcp_out)
            break;
    }
    p.latched = true;
    count(api::counter::latches);
    emit(api::event_type::flow_latched, f, 0, p.source);
}

} // namespace tandem::pipeline
