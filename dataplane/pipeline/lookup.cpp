// SPDX-License-Identifier: Apache-2.0
// Stage 2: frame -> UDP payload -> flow. A packet whose flow belongs to another worker goes to it by its ring.
#include "dataplane/pipeline/frame_usual.hpp"
#include "dataplane/pipeline/ownership.hpp"
#include "dataplane/pipeline/worker.hpp"

#include <rte_mbuf.h>
#include <rte_ring.h>

namespace tandem::pipeline {

namespace {

// The flow's lines, from its slot alone. What the last stages need need not come all the way yet.
TANDEM_PREFETCHES void prefetch_flow(const shared_state& shared, flow::slot_index slot) noexcept {
    __builtin_prefetch(&shared.memory.records()[slot], 0, 2);
    flow::prefetch(shared.memory.ins()[slot]);
    __builtin_prefetch(&shared.flow_stats[slot], 0, 2);
    __builtin_prefetch(&shared.hops[slot].rtp, 0, 2);
}

} // namespace

// Neither turned back nor from this host itself.
bool worker::by_wire(const packet& p) const noexcept {
    return p.turns == 0 && !ports_[p.port].loopback;
}

// The frame, as far as its destination: whose port it is, the table says later.
api::drop worker::parse(packet& p, api::flow_id& to) noexcept {
    if (p.mbuf->nb_segs != 1 && rte_pktmbuf_linearize(p.mbuf) != 0)
        return api::drop::no_room;
    auto* const frame = rte_pktmbuf_mtod(p.mbuf, std::uint8_t*);
    frame_at_ = frame - reinterpret_cast<std::uint8_t*>(p.mbuf);
    crypto::prefetch_lines(frame, 64, p.mbuf->data_len); // cryptography and checksum read all of it
    plain_frame plain;
    if (!parse_plain(frame, p.mbuf->data_len, plain))
        return parse_other(p, frame, to);
    const auto address = shared_.table.address_index(plain.destination_ip);
    if (!address)
        return api::drop::no_flow;
    if (shared_.table.of_other_vlan(*address, no_vlan) && by_wire(p)) [[unlikely]]
        return api::drop::wrong_vlan;
    to = api::make_flow_id(*address, plain.destination_port);
    shared_.table.prefetch(to);
    p.payload = frame + plain_headers;
    p.length = p.received_length = plain.payload_length;
    const std::uint64_t ip[2] = {0, 0xffff0000 | std::uint64_t{plain.source_ip} << 32}; // ::ffff:a.b.c.d
    const std::uint64_t port = plain.source_port;                                       // and nothing behind it
    std::memcpy(p.source.ip, ip, sizeof ip);
    static_assert(offsetof(api::net_address, port) == 16 && sizeof(api::net_address) == 24);
    std::memcpy(reinterpret_cast<std::uint8_t*>(&p.source) + offsetof(api::net_address, port), &port, sizeof port);
    p.hops = plain.hops;
    return api::drop::none;
}

// IPv6, tagged, or a reason to drop it.
api::drop worker::parse_other(packet& p, std::uint8_t* frame, api::flow_id& to) const noexcept {
    udp_frame seen;
    if (const auto wrong = parse_frame({frame, p.mbuf->data_len}, seen); wrong != api::drop::none)
        return wrong;
    const auto address = shared_.table.address_index(seen.destination.ip);
    if (!address)
        return api::drop::no_flow;
    if (shared_.table.of_other_vlan(*address, seen.link.vlan) && by_wire(p))
        return api::drop::wrong_vlan;
    to = api::make_flow_id(*address, seen.destination.port);
    p.payload = frame + seen.payload_offset;
    p.length = p.received_length = seen.payload_length;
    p.source = seen.source;
    p.hops = seen.hops;
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
        p.flow = nullptr;                 // its counters are the owner's
        p.mbuf->port = ports_[p.port].id; // the ring driver leaves it unset
        p.mbuf->hash.usr = p.turns;
        gives(p.mbuf);
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
        packets[i]->left = departure::handed;
        ++burst_.gone;
        packets[i]->reason = api::drop::handoff_full; // left this burst; nothing was dropped
    }
    count(api::counter::handed_over, taken);
    if (taken != 0 && owner.sleeper_.wake())
        count(api::counter::wakeups);
}

// Another worker's flow may be replaced between the table's look-up and this one: what took its place has the packet.
flow::record* worker::look_again(packet& p, api::flow_id to) const noexcept {
    p.slot = shared_.table.find(to);
    if (p.slot == flow::no_slot)
        return nullptr;
    flow::record& found = shared_.memory.records()[p.slot];
    return flow::load_state(found) == flow::state::active ? &found : nullptr;
}

bool worker::intact(const packet& p) const noexcept {
    return checksum_holds(p.payload, p.length, p.source.ip, shared_.table.addresses()[p.flow->id >> 16].data());
}

// Each step for the whole burst before the next, so that one packet's memory comes while another is worked on.
void worker::lookup() noexcept {
    std::array<api::flow_id, burst_size> ids;
    std::uint64_t bytes = 0;
    for (unsigned i = 0; i < burst_.count; ++i) {
        packet& p = burst_.packets[i];
        if (i >= burst_.fresh)
            bytes += p.mbuf->pkt_len;
        if (const auto wrong = parse(p, ids[i]); wrong != api::drop::none)
            drop(p, wrong);
    }
    count(api::counter::rx_bytes, bytes);
    for (unsigned i = 0; i < burst_.count; ++i) {
        packet& p = burst_.packets[i];
        if (p.reason != api::drop::none)
            continue;
        p.slot = shared_.table.find(ids[i]);
        if (p.slot == flow::no_slot)
            drop(p, api::drop::no_flow);
        else
            prefetch_flow(shared_, p.slot);
    }
    encrypting_ = false;
    for (unsigned i = 0; i < burst_.count; ++i) {
        packet& p = burst_.packets[i];
        if (p.reason != api::drop::none)
            continue;
        flow::record* found = &shared_.memory.records()[p.slot];
        if (flow::load_state(*found) != flow::state::active) [[unlikely]] {
            found = look_again(p, ids[i]);
            if (found == nullptr) {
                drop(p, api::drop::flow_gone);
                continue;
            }
        }
        p.flow = found;
        if (ports_[p.port].verify_checksum && found->in.suite == api::suite::clear && !intact(p)) [[unlikely]] {
            drop(p, api::drop::udp_checksum); // SRTP has its tag for that
            continue;
        }
        if (found->out.suite != api::suite::clear) {
            flow::prefetch(shared_.memory.outs()[p.slot]);
            encrypting_ = true;
        }
    }
    if (shared_.workers.size() == 1)
        return;
    for (unsigned i = 0; i < burst_.count; ++i)
        if (const packet& p = burst_.packets[i]; p.reason == api::drop::none && p.flow->worker != index_)
            hand_over(p.flow->worker);
}

} // namespace tandem::pipeline
