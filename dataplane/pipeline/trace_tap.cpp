// SPDX-License-Identifier: Apache-2.0
// The trace: records are filled in stage by stage from the burst's own state and written when the burst is through.
#include "dataplane/pipeline/taps.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include <rte_mbuf.h>

#include "dataplane/pipeline/hops.hpp"

namespace tandem::pipeline {

namespace {

constexpr std::size_t most_slots = 16384; // of a ring: what is beyond is lost, and counted

api::net_address local_address(const flow::port_table& table, api::flow_id id) noexcept {
    api::net_address a{};
    if (id >> 16 < table.addresses().size())
        std::memcpy(a.ip, table.addresses()[id >> 16].data(), sizeof a.ip);
    a.port = static_cast<std::uint16_t>(id);
    return a;
}

void set(api::trace_record& r, api::trace_flags flag) noexcept {
    r.flags = static_cast<std::uint16_t>(r.flags | flag);
}

} // namespace

bool observed(const api::observed_places& places, const api::net_address& destination) noexcept {
    const std::span all(places.at, std::min<std::size_t>(places.count, std::size(places.at)));
    return all.empty() ||
           std::ranges::any_of(all, [&](const auto& one) { return flow::same_address(destination, one); });
}

trace_tap::trace_tap(const api::trace_request& what, unsigned worker, const flow::port_table& table,
                     api::worker_stats& stats)
    : tap_output(sizeof(api::trace_record), std::bit_ceil(std::clamp<std::size_t>(what.packets, 64, most_slots)),
                 stats),
      what_(what), left_(what.packets), worker_(static_cast<std::uint8_t>(worker)), table_(table) {}

void trace_tap::after(api::stage stage, const burst& b, std::span<const crypto::op> ops) noexcept {
    if (stage == api::stage::receive)
        return choose(b);
    for (unsigned n = 0; n < chosen_count_; ++n) {
        const std::size_t at = chosen_[n];
        if (!open_[n])
            continue;
        const packet& p = b.packets[at];
        api::trace_record& r = records_[n];
        r.last = stage;
        if (stage == api::stage::lookup)
            looked_up(n, p);
        else if (stage == api::stage::unprotect)
            unprotected(n, p, ops[at]);
        else if (stage == api::stage::protect && p.reason == api::drop::none && ops[at].key != nullptr) {
            set(r, api::trace_out_index);
            r.out_index = ops[at].index;
            r.out_epoch = ops[at].epoch;
        } else if (stage == api::stage::send)
            sent(n, p);
        if (p.reason == api::drop::none)
            continue;
        open_[n] = false;
        r.reason = p.dropped_for();
        if (p.left != departure::none)
            set(r, p.left == departure::handed ? api::trace_handed : api::trace_punted);
    }
    if (stage == api::stage::send)
        write();
}

void trace_tap::choose(const burst& b) noexcept {
    chosen_count_ = 0;
    for (unsigned i = 0; i < b.count && chosen_count_ < left_; ++i) {
        const packet& p = b.packets[i];
        udp_frame seen{};
        const auto problem = parse_frame({rte_pktmbuf_mtod(p.mbuf, const std::uint8_t*), p.mbuf->data_len}, seen);
        const bool known = problem == api::drop::none;
        if (what_.places.count != 0 && !(known && observed(what_.places, seen.destination)))
            continue;
        api::trace_record& r = records_[chosen_count_];
        r = {};
        r.time_ns = b.now_ns;
        r.worker = worker_;
        r.port = p.port;
        r.burst = static_cast<std::uint8_t>(b.count);
        r.in_length = static_cast<std::uint16_t>(std::min<std::uint32_t>(p.mbuf->pkt_len, 0xffff));
        if (known) {
            r.in_payload = seen.payload_length;
            r.source = seen.source;
            r.destination = seen.destination;
        }
        open_[chosen_count_] = true;
        chosen_[chosen_count_++] = static_cast<std::uint8_t>(i);
    }
}

void trace_tap::looked_up(std::size_t n, const packet& p) noexcept {
    if (p.flow == nullptr)
        return;
    api::trace_record& r = records_[n];
    r.flow = p.flow->id;
    r.tag = p.flow->tag;
    r.in_suite = p.flow->in.suite;
    r.out_suite = p.flow->out.suite;
}

void trace_tap::unprotected(std::size_t n, const packet& p, const crypto::op& op) noexcept {
    api::trace_record& r = records_[n];
    if (op.header != 0) { // it was RTP or RTCP
        set(r, api::trace_media);
        if (op.rtcp)
            set(r, api::trace_rtcp);
        r.ssrc = op.ssrc;
        r.sequence = op.sequence;
    }
    const bool tried = p.reason == api::drop::srtp_auth || p.reason == api::drop::srtp_replay ||
                       p.reason == api::drop::srtp_too_old; // refused under this index: it has no key any more
    if (op.key != nullptr || tried) {
        set(r, api::trace_in_index);
        r.in_index = op.index;
        r.in_epoch = op.epoch;
    }
    if (p.accepted)
        set(r, api::trace_accepted);
    if (p.latched)
        set(r, api::trace_latched);
}

void trace_tap::sent(std::size_t n, const packet& p) noexcept {
    api::trace_record& r = records_[n];
    const auto& to = p.flow->where();
    r.out_port = p.way->port;
    r.out_payload = static_cast<std::uint16_t>(p.length);
    r.out_source = local_address(table_, p.rtcp ? to.rtcp_out : to.rtp_out);
    r.out_destination = p.rtcp ? to.rtcp_remote : to.rtp_remote;
    if (p.reason == api::drop::none)
        set(r, api::trace_sent);
}

void trace_tap::write() noexcept {
    for (unsigned n = 0; n < chosen_count_; ++n) {
        std::byte* const slot = ring_.claim();
        if (slot == nullptr) {
            lose();
            continue;
        }
        std::memcpy(slot, &records_[n], sizeof records_[n]);
        ring_.publish();
        --left_;
    }
    chosen_count_ = 0;
}

} // namespace tandem::pipeline
