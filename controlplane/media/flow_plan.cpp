// SPDX-License-Identifier: Apache-2.0
// Legs to flows; see flow_plan.hpp. Pure.
#include "controlplane/media/flow_plan.hpp"

#include <algorithm>
#include <cstring>

#include "controlplane/dataplane_client/client.hpp"

namespace tandem::media {

namespace {

api::net_address wire(const std::optional<endpoint>& where) {
    if (!where || where->port == 0 || where->address.is_unspecified())
        return {};
    return dataplane_client::to_net_address(where->address, where->port);
}

bool same(const api::side_config& a, const api::side_config& b) noexcept {
    return a.suite == b.suite && a.mki_length == b.mki_length;
}

bool same(const api::source_config& a, const api::source_config& b) noexcept {
    return a.policy == b.policy && a.strict_port == b.strict_port && a.window_ms == b.window_ms &&
           same_place(a.signalled, b.signalled) && same_place(a.received_from, b.received_from);
}

bool same(const api::route_config& a, const api::route_config& b) noexcept {
    return a.rtp_out == b.rtp_out && a.rtcp_out == b.rtcp_out && same_place(a.rtp_remote, b.rtp_remote) &&
           same_place(a.rtcp_remote, b.rtcp_remote);
}

// Who may send to a leg. A port counts where it is strict, and says which of an address's is the likeliest.
api::source_config source_of(const leg_shape& in, const std::optional<endpoint>& signalled) {
    api::source_config out{};
    out.policy = in.source;
    if (in.source == api::source_policy::authenticated)
        return out;
    out.strict_port = in.strict_port ? 1 : 0;
    out.window_ms = in.window_ms;
    out.signalled = wire(signalled);
    if (in.source == api::source_policy::signalled && !in.strict_port)
        out.signalled.port = 0;
    // SIP names no port of media: where the port counts it is the SDP's; without one received-from lets nobody in.
    const bool exact = in.source == api::source_policy::signalled && in.strict_port;
    if (in.received_from && !in.received_from->is_unspecified() && (!exact || out.signalled.port != 0))
        out.received_from =
            dataplane_client::to_net_address(*in.received_from, exact ? out.signalled.port : std::uint16_t{0});
    return out;
}

api::flow_config make(const leg_shape& in, const leg_shape& out, bool forward, const plan_options& options) {
    api::flow_config flow{};
    flow.id = in.rtp();
    flow.reverse = out.rtp();
    flow.tag = options.tag;
    flow.in = {in.suite, in.mki_length, 0};
    flow.out = {out.suite, out.mki_length, 0};
    flow.carries = in.mux ? api::carries_rtp | api::carries_rtcp : api::carries_rtp;
    flow.source = source_of(in, in.signalled_rtp);
    flow.dscp = options.dscp;
    std::ranges::copy(options.retransmissions, flow.retransmissions);
    flow.timeout_s = options.timeout_s;
    flow.flags = forward ? std::uint8_t{0} : std::uint8_t{api::flow_paused};
    flow.route = {out.rtp(), out.rtcp(), wire(out.remote_rtp), wire(out.mux ? out.remote_rtp : out.remote_rtcp)};
    return flow;
}

} // namespace

bool same_place(const api::net_address& a, const api::net_address& b) noexcept {
    return a.port == b.port && std::memcmp(a.ip, b.ip, sizeof(a.ip)) == 0;
}

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
            rtcp.source = source_of(in, in.signalled_rtcp);
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
        if (a[i].id != b[i].id || !same(a[i].in, b[i].in) || !same(a[i].out, b[i].out) ||
            a[i].carries != b[i].carries || !std::ranges::equal(a[i].retransmissions, b[i].retransmissions))
            return false;
    return true;
}

std::vector<api::flow_update> plan_updates(const std::vector<api::flow_config>& before,
                                           const std::vector<api::flow_config>& after, bool anew) {
    std::vector<api::flow_update> updates;
    for (std::size_t i = 0; i < after.size() && i < before.size(); ++i) {
        const auto& was = before[i];
        const auto& is = after[i];
        unsigned mask = 0;
        const bool learns =
            is.source.policy == api::source_policy::learned || is.source.policy == api::source_policy::followed;
        if (!same(was.source, is.source) || (anew && learns))
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

flows_by_leg by_leg(const std::array<leg_shape, 2>& legs) noexcept {
    return {{legs[0].rtp(), legs[1].rtp()}, {legs[0].rtcp(), legs[1].rtcp()}};
}

std::optional<std::size_t> leg_of(const std::array<leg_shape, 2>& legs, api::flow_id flow) noexcept {
    for (std::size_t i = 0; i < 2; ++i)
        if (flow == legs[i].rtp() || flow == api::make_flow_id(legs[i].address_index, legs[i].port + 1U))
            return i;
    return std::nullopt;
}

std::vector<api::flow_replacement> plan_replacements(const flows_by_leg& before, const std::array<leg_shape, 2>& after,
                                                     const std::vector<api::flow_config>& plan,
                                                     std::array<bool, 2> goes_on) {
    std::vector<api::flow_replacement> out;
    for (const auto& config : plan) {
        auto& item = out.emplace_back();
        item.config = config;
        item.group = 1;
        const auto i = *leg_of(after, config.id);
        // Of the flows from the same leg those that carry what this one does: mux joins two, un-mux splits one.
        std::vector<api::flow_id> from;
        for (const auto old : {(config.carries & api::carries_rtp) != 0 ? before.rtp[i] : api::flow_id{0},
                               (config.carries & api::carries_rtcp) != 0 ? before.rtcp[i] : api::flow_id{0}})
            if (old != 0 && std::ranges::find(from, old) == from.end())
                from.push_back(old);
        if (goes_on[i])
            std::ranges::copy(from, item.in_from);
        if (goes_on[1 - i])
            std::ranges::copy(from, item.out_from);
    }
    return out;
}

std::vector<api::flow_id> flows_from(const std::array<leg_shape, 2>& legs, std::size_t i) {
    if (legs[i].mux)
        return {legs[i].rtp()};
    return {legs[i].rtp(), legs[i].rtcp()};
}

} // namespace tandem::media
