// SPDX-License-Identifier: Apache-2.0
// A media's legs: what is asked for becomes terms, with ports taken beside those in force. Nothing in force changes
// here. Owner thread: io_context.
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

void show(leg_terms& l, const asio::ip::address& address) {
    l.local.rtp = {address, l.port->port};
    l.local.rtcp = l.mux ? l.local.rtp : endpoint{address, static_cast<std::uint16_t>(l.port->port + 1)};
}

api::source_policy policy_of(learning how) noexcept {
    switch (how) {
    case learning::off:
        return api::source_policy::signalled;
    case learning::once:
        return api::source_policy::learned;
    case learning::always:
        break;
    }
    return api::source_policy::followed;
}

} // namespace

leg_shape leg_terms::shape() const {
    leg_shape out;
    out.address_index = address_index;
    out.port = port ? port->port : std::uint16_t{0};
    out.suite = suite;
    if (is_unit()) {
        out.mux = true; // on the secondary, always
        out.mki_length = tandem_mki_length;
        out.source = api::source_policy::authenticated;
        out.remote_rtp = out.remote_rtcp = hint;
        return out;
    }
    out.mux = mux;
    out.mki_length = srtp ? srtp->mki_length : std::uint8_t{0};
    out.remote_rtp = remote_rtp;
    out.remote_rtcp = remote_rtcp;
    if (!out.remote_rtcp && remote_rtp && remote_rtp->port != 0 && remote_rtp->port != 65535)
        out.remote_rtcp =
            endpoint{remote_rtp->address, static_cast<std::uint16_t>(remote_rtp->port + 1)}; // RFC 3605 default
    out.source = suite != api::suite::clear ? api::source_policy::authenticated : policy_of(*source.how);
    out.strict_port = source.strict;
    out.signalled_rtp = out.remote_rtp;
    out.signalled_rtcp = out.remote_rtcp;
    for (auto* at : {&out.signalled_rtp, &out.signalled_rtcp})
        if (*at && remote_rtp && source.signalled && (*at)->address == remote_rtp->address)
            (*at)->address = *source.signalled;
    out.received_from = source.received_from;
    if (unroutable && out.source != api::source_policy::signalled)
        out.remote_rtp = out.remote_rtcp = std::nullopt; // not before it is heard
    return out;
}

std::vector<api::flow_config> manager::state::flows(const media_terms& of, const settings& options) const {
    plan_options how;
    how.tag = id;
    how.forward = of.forward;
    how.retransmissions = of.retransmissions;
    how.timeout_s = static_cast<std::uint16_t>(
        std::min<std::int64_t>((of.on_hold() ? options.hold_timeout : options.timeout).count(), 65535));
    how.dscp = kind == "video" ? 34 : 46; // AF41, EF (RFC 4594)
    auto shapes = of.shapes();
    for (auto& one : shapes)
        one.window_ms = static_cast<std::uint16_t>(std::min<std::int64_t>(options.learning_window.count(), 65535));
    return plan_flows(shapes, how);
}

// The port that the leg has, or that an offer took for it, where it fits; else another.
result<void> manager::take_port(const state& m, std::size_t i, leg_terms& want, const std::string& name, bool v6) {
    want.interface = name;
    for (const auto* have : {m.proposed ? &m.proposed->legs[i] : &m.now.legs[i], &m.now.legs[i]})
        if (have->port && have->kind == want.kind && have->unit == want.unit && have->interface == name &&
            have->port->address.is_v6() == v6) {
            want.port = have->port;
            want.address_index = have->address_index;
            return {};
        }
    bool named = false;
    const double reserve = m.running || m.with_unit || sessions_.all().empty() ? 0 : options_.unit_reserve;
    for (const auto& local : dataplane_.hello()->addresses) {
        if (local.name != name || local.ip.is_v6() != v6)
            continue;
        named = true;
        want.address_index = local.index;
        want.port = ports_->take(local.ip, want.unit, m.running, reserve);
        if (want.port)
            return {};
    }
    if (!named)
        return fail(fmt::format(
            "the data plane has no IPv{} address named \"{}\": add an [[address]] of that name to dataplane.toml",
            v6 ? 6 : 4, name));
    return tl::unexpected(error{
        fmt::format(
            "all media ports of \"{}\" ({}-{}) are in use: widen [media] ports or add another [[address]] of that name",
            name, options_.first_port, options_.last_port),
        shortage::ports});
}

std::optional<asio::ip::address> manager::address_named(const std::string& name, bool ipv6) const {
    std::optional<asio::ip::address> found;
    if (const auto& hello = dataplane_.hello())
        for (const auto& local : hello->addresses)
            if (local.name == (name.empty() ? options_.core : name) && (!found || found->is_v6() != ipv6))
                found = local.ip;
    return found;
}

// On hold by c=0.0.0.0 (RFC 3264 8.4) a leg stays where it is known: its unit need not hear of it, and who holds may
// play music.
void manager::keep_held(const state& m, std::size_t i, leg_terms& want) {
    const auto& now = m.now.legs[i];
    if (want.remote_rtp || want.unroutable || !m.installed || now.kind != want.kind || now.unit != want.unit ||
        now.ipv6 != want.ipv6)
        return;
    want.remote_rtp = now.remote_rtp;
    want.remote_rtcp = want.mux ? now.remote_rtp : now.remote_rtcp;
    want.unroutable = now.unroutable;
}

result<leg_terms> manager::plan_leg(const state& m, std::size_t i, const leg_request& request) {
    leg_terms want;
    want.kind = request.kind;
    want.unit = request.kind == leg_kind::unit ? request.unit : std::string();
    want.ipv6 = request.ipv6;
    want.mux = request.rtcp_mux;
    want.unroutable = request.remote_unroutable;
    want.remote_rtp = request.remote_rtp;
    want.remote_rtcp = request.remote_rtcp;
    keep_held(m, i, want);
    if (want.is_unit()) {
        if (auto planned = plan_unit(m, i, want); !planned)
            return tl::unexpected(planned.error());
        return want;
    }
    want.srtp = request.srtp;
    want.suite = request.srtp ? request.srtp->suite : api::suite::clear;
    const auto& name = request.interface.empty() ? options_.core : request.interface;
    want.source = request.source;
    if (!want.source.how) {
        const auto configured = options_.learning_of.find(name);
        want.source.how = configured == options_.learning_of.end() ? options_.endpoint_learning : configured->second;
    }
    if (auto taken = take_port(m, i, want, name, request.ipv6); !taken)
        return tl::unexpected(taken.error());
    show(want, want.port->address);
    return want;
}

result<void> manager::plan_unit(const state& m, std::size_t i, leg_terms& want) {
    const auto session = sessions_.by_unit(want.unit);
    const auto& now = m.now.legs[i];
    // A re-offer of a call in force needs nothing of a unit that is just coming back.
    const bool settled = m.installed && now.is_unit() && now.unit == want.unit && now.port && now.tsid != 0 &&
                         now.local.rtp.address.is_v6() == want.ipv6;
    if (settled && (!session || !session->up || session->id == now.tsid)) {
        want.tsid = now.tsid;
        want.suite = now.suite;
        want.interface = now.interface;
        want.address_index = now.address_index;
        want.port = now.port;
        want.hint = now.hint;
        show(want, now.local.rtp.address);
        return {};
    }
    if (!session || !session->up)
        return fail(
            fmt::format("unit {} has no primary tunnel up, and media needs one: see `tandemctl session show {}`",
                        want.unit, want.unit));
    auto inner = session->inner_gateway;
    if (want.ipv6 != inner.is_v6()) {
        if (!session->inner_gateway_v6 || !want.ipv6)
            return fail(fmt::format("the tunnel of unit {} has no inner IPv{} address: configure [tunnel] inner{}",
                                    want.unit, want.ipv6 ? 6 : 4, want.ipv6 ? 6 : 4));
        inner = *session->inner_gateway_v6;
    }
    want.tsid = session->id;
    want.suite = m.level.suite;
    if (now.same_secondary(want))
        want.hint = now.hint;
    if (auto taken = take_port(m, i, want, options_.access, plain(session->outer).is_v6()); !taken)
        return taken;
    show(want, inner);
    return {};
}

result<media_terms> manager::plan(const state& m, const media_request& request) {
    media_terms want;
    want.forward = request.forward;
    want.clock_rate = request.clock_rate;
    want.retransmissions = request.retransmissions;
    for (std::size_t i = 0; i < 2; ++i) {
        auto planned = plan_leg(m, i, request.legs[i]);
        if (!planned)
            return tl::unexpected(planned.error());
        want.legs[i] = std::move(*planned);
        const auto& now = m.now.legs[i];
        want.legs[i].second = now.second && now.is_unit() && now.tsid == want.legs[i].tsid;
    }
    auto& [a, b] = want.legs; // two phones of one unit; a secondary that is in force keeps its id
    if (a.is_unit() && b.is_unit() && a.tsid == b.tsid && a.second == b.second)
        b.second = !a.second;
    return want;
}

} // namespace tandem::media
