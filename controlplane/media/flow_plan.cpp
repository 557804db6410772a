// SPDX-License-Identifier: Apache-2.0
// Legs to flows; see flow_plan.hpp. Pure.
#include "controlplane/media/flow_plan.hpp"

#include <cstring>

#include "controlplane/dataplane_client/client.hpp"

namespace tandem::media {

namespace {

api::net_address wire(const std::optional<endpoint>& where) {
    if (!where || where->port == 0 || where->address.is_unspecified())
        return {};
    return dataplane_client::to_net_address(where->address, where->port);
}

bool same(const api::net_address& a, const api::net_address& b) noexcept {
    return a.port == b.port && std::memcmp(a.ip, b.ip, sizeof(a.ip)) == 0;
}

bool same(const api::side_config& a, const api::side_config& b) noexcept {
    return a.suite == b.suite && a.mki_length == b.mki_length;
}

bool same(const api::source_config& a, const api::source_config& b) noexcept {
    return a.policy == b.policy && same(a.signalled, b.signalled);
}

bool same(const api::route_config& a, const api::route_config& b) noexcept {
    return a.rtp_out == b.rtp_out && a.rtcp_out == b.rtcp_out && same(a.rtp_remote, b.rtp_remote) &&
           same(a.rtcp_remote, b.rtcp_remote);
}

api::flow_config make(const leg_shape& in, const leg_shape& out, bool forward, const plan_options& options) {
    api::flow_config flow{};
    flow.id = in.rtp();
    flow.reverse = out.rtp();
    flow.tag = options.tag;
    flow.in = {in.suite, in.mki_length, 0};
    flow.out = {out.suite, out.mki_length, 0};
    flow.carries = in.mux ? api::carries_rtp | api::carries_rtcp : api::carries_rtp;
    flow.source.policy = in.source;
    flow.dscp = options.dscp;
    flow.timeout_s = options.timeout_s;
    flow.flags = forward ? std::uint8_t{0} : std::uint8_t{api::flow_paused};
    if (in.source == api::source_policy::signalled)
        flow.source.signalled = wire(in.remote_rtp);
    flow.route = {out.rtp(), out.rtcp(), wire(out.remote_rtp), wire(out.mux ? out.remote_rtp : out.remote_rtcp)};
    return flow;
}

} // namespace

std::vector<api::flow_config> plan_flows(const std::array<leg_shape, 2>& legs, const plan_options& options) {
    std::vector<api::flow_config> flows;
    for (std::size_t i = 0; i < 2; ++i) {
        const auto& in = legs[i];
        const auto& out = legs[1 - i];
        auto rtp = make(in, out, options.forward[1 - i], options);
        if (!in.mux) {
            auto rtcp = rtp;
            rtcp.id = in.rtcp();
            rtcp.carries = api::carries_rtcp;
            rtcp.reverse = out.rtcp();
            rtcp.timeout_s = 0; // RTP's silence decides
            rtcp.flags = 0;     // reports go on while media is on hold
            if (in.source == api::source_policy::signalled)
                rtcp.source.signalled = wire(in.remote_rtcp);
            flows.push_back(rtp);
            flows.push_back(rtcp);
        } else {
            flows.push_back(rtp);
        }
    }
    return flows;
}

bool same_structure(const std::vector<api::flow_config>& a, const std::vector<api::flow_config>& b) noexcept {
    if (a.size() != b.size())
        return false;
    for (std::size_t i = 0; i < a.size(); ++i)
        if (a[i].id != b[i].id || !same(a[i].in, b[i].in) || !same(a[i].out, b[i].out) || a[i].carries != b[i].carries)
            return false;
    return true;
}

std::vector<api::flow_update> plan_updates(const std::vector<api::flow_config>& before,
                                           const std::vector<api::flow_config>& after) {
    std::vector<api::flow_update> updates;
    for (std::size_t i = 0; i < after.size() && i < before.size(); ++i) {
        const auto& was = before[i];
        const auto& is = after[i];
        unsigned mask = 0;
        if (!same(was.source, is.source))
            mask |= api::update_source;
        if (!same(was.route, is.route))
            mask |= api::update_remote;
        if (was.flags != is.flags)
            mask |= api::update_flags;
        if (was.timeout_s != is.timeout_s)
            mask |= api::update_timeout;
        if (was.dscp != is.dscp)
            mask |= api::update_dscp;
        if (was.reverse != is.reverse)
            mask |= api::update_reverse;
        if (mask == 0)
            continue;
        api::flow_update update{};
        update.id = is.id;
        update.mask = static_cast<std::uint8_t>(mask);
        update.source = is.source;
        update.flags = is.flags;
        update.dscp = is.dscp;
        update.timeout_s = is.timeout_s;
        update.reverse = is.reverse;
        update.route = is.route;
        updates.push_back(update);
    }
    return updates;
}

std::vector<api::flow_id> flows_from(const std::array<leg_shape, 2>& legs, std::size_t i) {
    if (legs[i].mux)
        return {legs[i].rtp()};
    return {legs[i].rtp(), legs[i].rtcp()};
}

} // namespace tandem::media
