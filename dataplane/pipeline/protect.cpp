// SPDX-License-Identifier: Apache-2.0
// Stage 4: where does it go, and under which key? A packet that cannot leave is dropped before it uses up an index.
// All packets of the burst go through the engine together.
#include "dataplane/pipeline/worker.hpp"

namespace tandem::pipeline {

api::drop worker::route_packet(packet& p) const noexcept {
    const flow::record& f = *p.flow;
    if ((f.flags & api::flow_paused) != 0)
        return api::drop::paused;
    const auto& to = f.where();
    if ((p.rtcp ? to.rtcp_remote : to.rtp_remote).port == 0)
        return api::drop::no_remote;
    const auto& hops = shared_.hops[p.slot];
    const hop& next = p.rtcp ? hops.rtcp : hops.rtp;
    if (next.state == hop_state::none)
        return api::drop::no_next_hop;
    p.out_port = next.port;
    return api::drop::none;
}

void worker::protect() noexcept {
    for (unsigned i = 0; i < burst_.count; ++i) {
        packet& p = burst_.packets[i];
        crypto::op& op = ops_[i];
        if (p.reason != api::drop::none)
            continue;
        api::drop wrong = route_packet(p);
        if (wrong == api::drop::none) {
            const std::size_t room = room_for_payload(p);
            op.key_limit = false;
            wrong = flow::prepare_protect(shared_.memory.outs()[p.slot], keys_,
                                          static_cast<std::uint32_t>(room > p.length ? room - p.length : 0), op);
        }
        if (wrong != api::drop::none) {
            op.result = wrong;
            drop(p, wrong);
            continue;
        }
        if (p.flow->out_suite != api::suite::clear) {
            count(api::counter::srtp_protected);
            if (op.key_limit)
                emit(api::event_type::key_limit, *p.flow, op.mki, p.source);
        }
    }
    engine_->protect({ops_.data(), burst_.count});
    for (unsigned i = 0; i < burst_.count; ++i)
        if (packet& p = burst_.packets[i]; p.reason == api::drop::none)
            p.length = ops_[i].length;
}

} // namespace tandem::pipeline
