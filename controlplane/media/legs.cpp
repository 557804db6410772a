// SPDX-License-Identifier: Apache-2.0
// A media's legs: ports, what the SDP shows, what the data plane needs to know. Owner thread: io_context.
#include <algorithm>
#include <fmt/format.h>

#include "controlplane/media/state.hpp"

namespace tandem::media {

namespace {

constexpr std::uint8_t tandem_mki_length = 4; // of our own secondaries

asio::ip::address plain(const asio::ip::address& address) {
    if (address.is_v6() && address.to_v6().is_v4_mapped())
        return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
    return address;
}

template <class Leg>
void set_rtcp(Leg& l) {
    l.local.rtcp = l.mux ? l.local.rtp : endpoint{l.local.rtp.address, static_cast<std::uint16_t>(l.port + 1)};
}

} // namespace

leg_shape manager::leg::shape() const {
    leg_shape out;
    out.address_index = address_index;
    out.port = port;
    out.suite = suite;
    if (is_unit()) {
        out.mux = true; // on the secondary, always
        out.mki_length = tandem_mki_length;
        out.source = api::source_policy::authenticated;
        out.remote_rtp = out.remote_rtcp = hint;
        return out;
    }
    out.mux = mux;
    if (suite != api::suite::clear)
        out.source = api::source_policy::authenticated;
    else
        out.source = unroutable ? api::source_policy::first : api::source_policy::signalled;
    if (!unroutable) {
        out.remote_rtp = remote_rtp;
        out.remote_rtcp = remote_rtcp;
        if (!out.remote_rtcp && remote_rtp && remote_rtp->port != 0 && remote_rtp->port != 65535)
            out.remote_rtcp =
                endpoint{remote_rtp->address, static_cast<std::uint16_t>(remote_rtp->port + 1)}; // RFC 3605 default
    }
    return out;
}

std::vector<api::flow_config> manager::state::make_plan(const settings& options) const {
    plan_options how;
    how.tag = id;
    how.forward = forward;
    how.timeout_s = static_cast<std::uint16_t>(
        std::min<std::int64_t>((on_hold() ? options.hold_timeout : options.timeout).count(), 65535));
    how.dscp = kind == "video" ? 34 : 46; // AF41, EF (RFC 4594)
    return plan_flows(shapes(), how);
}

result<void> manager::take_port(const media_ptr& m, std::size_t i, const std::string& name, bool v6) {
    auto& l = m->legs[i];
    if (l.port != 0 && l.outer.is_v6() == v6 && l.interface == name)
        return {};
    release_port(l);
    bool named = false;
    const auto now = port_pool::clock::now();
    for (const auto& local : dataplane_.hello()->addresses) {
        if (local.name != name || local.ip.is_v6() != v6)
            continue;
        named = true;
        auto& pool =
            pools_.try_emplace(local.ip, options_.first_port, options_.last_port, options_.quarantine).first->second;
        // A unit's inner ports are numbered like the outer ones: two media of one unit must not share a number.
        const auto usable = [&](std::uint16_t port) { return !l.is_unit() || !unit_ports_.contains({l.unit, port}); };
        if (const auto port = pool.take(now, usable)) {
            l.interface = name;
            l.outer = local.ip;
            l.address_index = local.index;
            l.port = *port;
            if (l.is_unit())
                unit_ports_.emplace(l.unit, l.port);
            return {};
        }
    }
    if (!named)
        return fail(fmt::format(
            "the data plane has no IPv{} address named \"{}\": add an [[address]] of that name to dataplane.toml",
            v6 ? 6 : 4, name));
    return fail(fmt::format(
        "all media ports of \"{}\" ({}-{}) are in use: widen [media] ports or add another [[address]] of that name",
        name, options_.first_port, options_.last_port));
}

void manager::release_port(leg& l) {
    if (l.port == 0)
        return;
    if (const auto pool = pools_.find(l.outer); pool != pools_.end())
        pool->second.release(l.port, port_pool::clock::now());
    if (l.is_unit())
        unit_ports_.erase({l.unit, l.port});
    l.port = 0;
}

// Brings a leg's local side to what is asked: unit or core, family, port, what the SDP shows.
result<void> manager::shape_leg(const media_ptr& m, std::size_t i, const leg_request& request) {
    auto& l = m->legs[i];
    if (l.port != 0 && (l.kind != request.kind || l.unit != request.unit))
        release_port(l);
    l.kind = request.kind;
    l.unit = request.unit;
    l.ipv6 = request.ipv6;
    l.mux = request.rtcp_mux;
    l.unroutable = request.remote_unroutable;
    l.remote_rtp = request.remote_rtp;
    l.remote_rtcp = request.remote_rtcp;

    if (request.kind == leg_kind::core) {
        l.suite = request.srtp ? request.srtp->suite : api::suite::clear;
        if (auto taken = take_port(m, i, request.interface.empty() ? options_.core : request.interface, request.ipv6);
            !taken)
            return taken;
        l.local.rtp = {l.outer, l.port};
    } else {
        const auto session = sessions_.by_unit(request.unit);
        // A re-offer of a call in force needs nothing of a unit that is just coming back.
        const bool settled = m->installed && l.port != 0 && l.tsid != 0 && l.local.rtp.address.is_v6() == request.ipv6;
        if (settled && (!session || !session->up || session->id == l.tsid)) {
            set_rtcp(l);
            return {};
        }
        if (!session || !session->up)
            return fail(
                fmt::format("unit {} has no primary tunnel up, and media needs one: see `tandemctl session show {}`",
                            request.unit, request.unit));
        l.tsid = session->id;
        l.suite = m->level.suite;
        const auto outer = plain(session->outer);
        if (auto taken = take_port(m, i, options_.access, outer.is_v6()); !taken)
            return taken;
        auto inner = session->inner_gateway;
        if (request.ipv6 != inner.is_v6()) {
            if (!session->inner_gateway_v6 || !request.ipv6)
                return fail(fmt::format("the tunnel of unit {} has no inner IPv{} address: configure [tunnel] inner{}",
                                        request.unit, request.ipv6 ? 6 : 4, request.ipv6 ? 6 : 4));
            inner = *session->inner_gateway_v6;
        }
        l.local.rtp = {inner, l.port};
    }
    set_rtcp(l);
    return {};
}

} // namespace tandem::media
