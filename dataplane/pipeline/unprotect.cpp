// SPDX-License-Identifier: Apache-2.0
// Stage 3: is it RTP or RTCP of this flow, from whom it may come, authentic and not seen before? All packets of the
// burst go through the engine together. What passes is "accepted": counted, and able to move the leg.
#include "dataplane/flow/learning.hpp"
#include "dataplane/flow/side_usual.hpp"
#include "dataplane/pipeline/worker.hpp"
#include "dataplane/rtp/feedback.hpp"

namespace tandem::pipeline {

namespace {

// RTCP in clear by now: what the sender hears of us. Two words read apart may be of two packets.
void keep_reports(api::flow_stats& s, const packet& p) noexcept {
    const rtp::reports said = rtp::read_reports(p.payload, p.length);
    if (said.blocks == 0)
        return;
    api::bump(s.reports, said.blocks);
    api::put(s.reported_loss,
             std::uint32_t{said.fraction} << 24 | (static_cast<std::uint32_t>(said.cumulative) & 0xffffff));
    api::put(s.reported_jitter, said.jitter);
    if (said.jitter > api::read(s.reported_jitter_max))
        api::put(s.reported_jitter_max, said.jitter);
}

} // namespace

// Before any crypto: clear media, and SRTP that is not to roam, come from one address only. Not asked where the last
// accepted packet came from the same source: no policy has changed since (that resets `seen`).
api::drop worker::permitted(const packet& p) const noexcept {
    const flow::record& f = *p.flow;
    switch (f.source) {
    case api::source_policy::authenticated:
        return api::drop::none;
    case api::source_policy::signalled: {
        const auto is = [&](const api::net_address& from) {
            const bool same_ip = __builtin_memcmp(from.ip, p.source.ip, sizeof from.ip) == 0;
            return same_ip && (from.port == 0 || from.port == p.source.port);
        };
        return is(f.signalled_source) || is(f.received_from) ? api::drop::none : api::drop::wrong_source;
    }
    case api::source_policy::learned:
        return flow::may_speak(f, p.source, burst_.now_ns) ? api::drop::none : api::drop::wrong_source;
    case api::source_policy::followed:
        return api::drop::none;
    }
    return api::drop::wrong_source;
}

// What this leg's RTCP says of the streams that are sent to it, by the numbers under which their source sent them.
// These go out by the flow whose in-side's port RTP leaves from here, also where RTCP has a flow of its own.
void worker::undo_offsets(packet& p) noexcept {
    const flow::slot_index slot = shared_.table.find(p.flow->where().rtp_out);
    if (slot == flow::no_slot)
        return;
    const flow::record& back = shared_.memory.records()[slot];
    if (flow::load_state(back) != flow::state::active || back.worker != index_)
        return;
    const flow::side& out = shared_.memory.outs()[slot];
    rtp::move_sequences(p.payload, p.length, [&](std::uint32_t ssrc) {
        return static_cast<std::uint16_t>(-flow::offset_of(out, streams_, ssrc));
    });
}

// The packet is the flow's: counters, events, latch.
void worker::accept(packet& p, const crypto::op& op, bool heard) noexcept {
    p.accepted = true;
    flow::record& f = *p.flow;
    api::flow_stats& s = shared_.flow_stats[p.slot];
    if (op.rtcp) [[unlikely]] {
        api::bump(s.rtcp_rx_packets);
        keep_reports(s, p);
        undo_offsets(p);
    } else {
        api::bump(s.rx_packets);
        api::bump(s.rx_bytes, p.received_length);
        api::bump(s.expected, op.expected);
    }
    api::put(s.last_packet_ns, burst_.now_ns);
    if (f.in.suite != api::suite::clear) {
        ++unprotected_;
        if (op.first_use) {
            s.epoch_in = op.epoch;
            emit(api::event_type::epoch_first_use, f, op.epoch, p.source);
        }
        if (op.key_limit)
            emit(api::event_type::key_limit, f, op.epoch, p.source);
    }
    if (!heard)
        latch(p);
}

// By the sides that lookup asked for.
void worker::prefetch_out_keys() const noexcept {
    for (unsigned i = 0; i < burst_.count; ++i)
        if (const packet& p = burst_.packets[i]; p.reason == api::drop::none && p.flow->out.suite != api::suite::clear)
            flow::prefetch_key(shared_.memory.outs()[p.slot], keys_);
}

// Which key and index a packet is under.
api::drop worker::prepare(const packet& p, crypto::op& op) noexcept {
    const flow::side& in = shared_.memory.ins()[p.slot];
    if (!flow::usual::prepare_unprotect(in, keys_, p.payload, p.length, op)) [[unlikely]]
        if (const api::drop wrong = flow::prepare_unprotect(in, keys_, streams_, p.payload, p.length, op);
            wrong != api::drop::none)
            return wrong;
    if (op.key != nullptr)
        __builtin_prefetch(op.key, 0, 2);
    if ((p.flow->carries & (op.rtcp ? api::carries_rtcp : api::carries_rtp)) == 0)
        return op.rtcp ? api::drop::rtcp_unexpected : api::drop::rtp_unexpected;
    return p.flow->heard_from(p.source) ? api::drop::none : permitted(p);
}

// Authentic, and not seen before?
api::drop worker::commit(const packet& p, crypto::op& op) noexcept {
    flow::side& in = shared_.memory.ins()[p.slot];
    if (flow::usual::commit_unprotect(in, keys_, op)) [[likely]]
        return api::drop::none;
    const bool another = op.result == api::drop::srtp_auth && flow::has_another_index(in, streams_, op) &&
                         tries_.take(p.source, burst_.now_ns);
    return flow::commit_unprotect(in, keys_, streams_, *engine_, op, another);
}

void worker::unprotect() noexcept {
    bool decrypting = false;
    for (unsigned i = 0; i < burst_.count; ++i) {
        packet& p = burst_.packets[i];
        crypto::op& op = ops_[i];
        if (p.reason != api::drop::none) {
            op.result = p.reason;
            continue;
        }
        if (const api::drop wrong = prepare(p, op); wrong != api::drop::none) [[unlikely]] {
            op.result = wrong;
            punt_or_drop(p, wrong);
        }
        decrypting |= op.key != nullptr;
    }
    if (encrypting_)
        prefetch_out_keys();
    if (decrypting)
        engine_->unprotect({ops_.data(), burst_.count});
    unprotected_ = 0;
    for (unsigned i = 0; i < burst_.count; ++i) {
        packet& p = burst_.packets[i];
        if (p.reason != api::drop::none)
            continue;
        crypto::op& op = ops_[i];
        api::drop wrong = commit(p, op);
        const bool heard = p.flow->heard_from(p.source);
        // Two first packets from different addresses may lie in one burst: the second is not the first one's.
        if (wrong == api::drop::none && !heard)
            wrong = permitted(p);
        if (wrong != api::drop::none) {
            op.result = wrong;
            drop(p, wrong);
            continue;
        }
        p.rtcp = op.rtcp;
        p.length = op.length;
        accept(p, op, heard);
    }
    count(api::counter::srtp_unprotected, unprotected_);
}

} // namespace tandem::pipeline
