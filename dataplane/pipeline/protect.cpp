// SPDX-License-Identifier: Apache-2.0
// Stage 4: where does it go, and under which key? A packet that cannot leave is dropped before it uses up an index.
// All packets of the burst go through the engine together.
#include "dataplane/flow/side_usual.hpp"
#include "dataplane/pipeline/worker.hpp"

namespace tandem::pipeline {

// Addresses and ports of the route now in force.
void worker::renew(hop& way, const packet& p) noexcept {
    const flow::record& f = *p.flow;
    const flow::route& to = f.where();
    const api::flow_id from = p.rtcp ? to.rtcp_out : to.rtp_out;
    api::net_address local{};
    std::memcpy(local.ip, shared_.table.addresses()[from >> 16].data(), sizeof local.ip);
    local.port = static_cast<std::uint16_t>(from);
    way.ends = make_endpoints(local, p.rtcp ? to.rtcp_remote : to.rtp_remote);
    way.moved = f.out.suite == api::suite::clear && flow::has_offsets(shared_.memory.outs()[p.slot], streams_);
    way.stamp = f.route_stamp;
}

const hop& worker::way_of(const packet& p) noexcept {
    flow_hops& hops = shared_.hops[p.slot];
    hop& way = p.rtcp ? hops.rtcp : hops.rtp;
    if (way.stamp != p.flow->route_stamp) [[unlikely]]
        renew(way, p);
    return way;
}

namespace {

// A retransmission (RFC 4588) of a media packet whose sequence may be another on the wire than its source's.
bool is_retransmission(const packet& p) noexcept {
    const auto& types = p.flow->retransmissions;
    const std::uint8_t type = p.payload[1] & 0x7f;
    return types[0] != 0 && !p.rtcp && type != 0 && (type == types[0] || type == types[1] || type == types[2]);
}

} // namespace

api::drop worker::route_packet(packet& p) noexcept {
    const flow::record& f = *p.flow;
    if ((f.flags & api::flow_paused) != 0)
        return api::drop::paused;
    const hop& way = way_of(p);
    if (way.ends.remote_port == 0)
        return api::drop::no_remote;
    if (way.state == hop_state::none)
        return api::drop::no_next_hop;
    if (way.state == hop_state::here && p.turns >= most_turns)
        return api::drop::circulates;
    p.way = &way;
    return api::drop::none;
}

void worker::protect() noexcept {
    unsigned under_srtp = 0;
    for (unsigned i = 0; i < burst_.count; ++i) {
        packet& p = burst_.packets[i];
        crypto::op& op = ops_[i];
        if (p.reason != api::drop::none)
            continue;
        api::drop wrong = route_packet(p);
        if (wrong == api::drop::none && p.flow->out.suite == api::suite::clear && !p.way->moved) {
            op.key = nullptr; // goes as it is: the out-side's memory is not touched
            continue;
        }
        if (wrong == api::drop::none) {
            const std::size_t space = room_for_payload(p);
            const auto room = static_cast<std::uint32_t>(space > p.length ? space - p.length : 0);
            flow::side& out = shared_.memory.outs()[p.slot];
            if (!flow::usual::prepare_protect(out, keys_, room, op)) [[unlikely]]
                wrong = flow::prepare_protect(out, keys_, streams_, room, op);
        }
        if (wrong != api::drop::none) {
            op.result = wrong;
            drop(p, wrong);
            continue;
        }
        if (is_retransmission(p)) [[unlikely]]
            flow::shift_original(shared_.memory.outs()[p.slot], streams_, op);
        if (op.key == nullptr)
            continue; // clear
        ++under_srtp;
        if (op.key_limit)
            emit(api::event_type::key_limit, *p.flow, op.epoch, p.source);
    }
    if (under_srtp == 0)
        return; // lengths are as they were
    count(api::counter::srtp_protected, under_srtp);
    engine_->protect({ops_.data(), burst_.count});
    for (unsigned i = 0; i < burst_.count; ++i)
        if (packet& p = burst_.packets[i]; p.reason == api::drop::none)
            p.length = ops_[i].length;
}

} // namespace tandem::pipeline
