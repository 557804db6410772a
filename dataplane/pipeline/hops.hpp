// SPDX-License-Identifier: Apache-2.0
// How each flow's packets leave: layer 2, and beside it what the worker keeps of the record's route, so that a packet
// needs one line of all this. Process-local: after a restart the control thread resolves again.
// Owner of an entry: the worker of its flow; the control thread changes it through that worker (between two bursts), or
// before the flow is published.
#pragma once

#include <cstdint>
#include <vector>

#include "dataplane/flow/carry.hpp"
#include "dataplane/flow/huge.hpp"
#include "dataplane/pipeline/frame.hpp"

namespace tandem::pipeline {

enum class hop_state : std::uint8_t {
    none,   // no route or no neighbour yet: no_next_hop
    seen,   // the layer 2 source of the packet that latched, until the route is resolved
    routed, // the kernel's route and neighbour
    here,   // one of our own addresses: two calls that a PBX joined, or one that comes by twice
};

struct alignas(64) hop {
    link_out link;
    std::uint16_t mtu;
    std::uint8_t port; // index of the port
    hop_state state;
    // From the record, by the worker (route_packet), when `stamp` is not the record's route_stamp.
    endpoints ends;
    std::uint32_t stamp; // 0 = never
    bool moved;          // clear out: an SSRC's sequence numbers are (flow::has_offsets)
};
static_assert(sizeof(hop) == 64, "one line a packet");

struct flow_hops {
    hop rtp;
    hop rtcp;
};

// A packet that is for ourselves is received again as it would have come by the wire, so many times at most.
inline constexpr std::uint32_t most_turns = 8;
[[nodiscard]] inline hop way_back() noexcept {
    hop way{};
    way.link.vlan = no_vlan;
    way.mtu = 0xffff; // what fits into its buffer
    way.state = hop_state::here;
    return way;
}

using hop_table = std::vector<flow_hops, flow::huge_allocator<flow_hops>>; // by slot

// A flow that takes the place of others sends where they did by their ways. On its worker, between two bursts.
inline void carry_ways(hop_table& hops, flow::record_column records, const flow::succession& flow) noexcept {
    const flow::route& to = records[flow.to].where();
    const auto same = [](api::flow_id out, const api::net_address& remote, api::flow_id was,
                         const api::net_address& at) {
        return out >> 16 == was >> 16 && flow::same_address(remote, at);
    };
    for (const flow::slot_index from : flow.out) {
        if (from == flow::no_slot)
            continue;
        const flow::route& was = records[from].where();
        if ((records[from].carries & api::carries_rtp) != 0 &&
            same(to.rtp_out, to.rtp_remote, was.rtp_out, was.rtp_remote))
            hops[flow.to].rtp = hops[from].rtp;
        if ((records[from].carries & api::carries_rtcp) != 0 &&
            same(to.rtcp_out, to.rtcp_remote, was.rtcp_out, was.rtcp_remote))
            hops[flow.to].rtcp = hops[from].rtcp;
    }
    hops[flow.to].rtp.stamp = hops[flow.to].rtcp.stamp = 0; // ends are made of this flow's record
}

} // namespace tandem::pipeline
