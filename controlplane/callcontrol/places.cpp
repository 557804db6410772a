// SPDX-License-Identifier: Apache-2.0
// Where a call's legs are: whose addresses an SDP may name, and ours that the other side is shown. Part of the server's
// inside (state.hpp).
#include <algorithm>
#include <fmt/format.h>

#include "controlplane/callcontrol/state.hpp"

namespace tandem::callcontrol {

namespace {

using media::leg_kind;

// Logical interface names that mean "behind an agent".
bool names_unit(std::string_view interface) {
    return interface == "unit" || interface == "inner" || interface == "access";
}

} // namespace

// A phone behind an agent that knows its LAN's address alone is reached at its inner one, where the SIP message came
// from; in a core of private addresses such a one may be there, unless the flag says otherwise. Reports go where the
// media go: neither from the core into the inner network nor from a unit out of it.
void server::state::settle_addresses(sdp::session& said, const request& r) const {
    const auto sender = r.received_from ? sessions.by_inner(*r.received_from) : std::nullopt;
    const auto core = sender ? relay.address_named(settings.core_interface, false) : std::nullopt;
    const auto is_inner = [&](const asio::ip::address& where) { return settings.is_inner && settings.is_inner(where); };
    const auto is_of_a_lan = [&](const asio::ip::address& where) {
        return is_local_only(where) || (is_private(where) && core && !is_private(*core));
    };
    for (auto& line : said.m_lines) {
        if (line.rejected() || line.held_by_address())
            continue;
        auto owner = sessions.by_inner(line.address);
        if (sender && !owner && !is_inner(line.address) && (r.sip_source_address || is_of_a_lan(line.address))) {
            line.address = *r.received_from;
            line.rtcp_address.reset();
            owner = sender;
        }
        if (!line.rtcp_address || *line.rtcp_address == line.address)
            continue;
        const auto other = sessions.by_inner(*line.rtcp_address);
        const bool inner = other || is_inner(*line.rtcp_address);
        if (owner ? !other || other->unit != owner->unit : inner)
            line.rtcp_address.reset();
    }
}

// Metadata names who called; an offer within a dialogue that begins the call here came in a 200 to an INVITE without
// SDP. Then it is the callee's where it came from the callee's unit, or not from the caller's.
bool server::state::is_callees_offer(const request& r) const {
    if (r.to_tag.empty() || r.callee_offers)
        return r.callee_offers;
    const auto unit_of = [&](const std::string& name) {
        const auto unit = settings.unit_of ? settings.unit_of(name) : name;
        const auto session = unit.empty() ? std::nullopt : sessions.by_unit(unit);
        return session && session->up ? session->unit : std::string();
    };
    const auto caller = unit_of(r.caller), callee = unit_of(r.callee);
    if (caller == callee)
        return false;
    auto from = r.received_from;
    if (!from)
        if (r.said)
            for (const auto& line : r.said->m_lines)
                from = line.address;
    const auto sender = from ? sessions.by_inner(*from) : std::nullopt;
    return from && (caller.empty() ? sender && sender->unit == callee : !sender || sender->unit != caller);
}

// Whoever says a unit's address speaks for it only from the unit: an SDP is anybody's to write.
outcome<void> server::state::check_unit(const std::string& unit, const request& r) const {
    if (!r.received_from) {
        if (settings.received_from_optional)
            return {};
        return refuse(
            fmt::format("The SDP names an inner address of unit \"{}\", but the request has no received-from: "
                        "the proxy must tell where the SIP message came from",
                        unit));
    }
    const auto from = sessions.by_inner(*r.received_from);
    if (from && from->unit == unit)
        return {};
    return refuse(
        fmt::format("The SDP names an inner address of unit \"{}\", but the SIP message came from {}, which is "
                    "none of them",
                    unit, r.received_from->to_string()));
}

std::string server::state::unreachable(const sdp::media& line) const {
    return settings.unreachable && !line.held_by_address() ? settings.unreachable({line.address, line.port})
                                                           : std::string();
}

outcome<place> server::state::place_of_sender(const call& c, const media_line& line, const sdp::media& from, side s,
                                              const request& r) const {
    auto session = sessions.by_inner(from.address);
    if (!session && from.held_by_address()) {
        if (line.id != 0) {
            const auto& where = line.legs[s].where;
            if (where.kind == leg_kind::unit)
                if (auto fine = check_unit(where.unit, r); !fine)
                    return tl::unexpected(std::move(fine.error()));
            return where;
        }
        if (r.received_from)
            session = sessions.by_inner(*r.received_from);
    }
    if (session) {
        if (auto fine = check_unit(session->unit, r); !fine)
            return tl::unexpected(std::move(fine.error()));
        const bool ipv6 = from.held_by_address() && r.received_from ? r.received_from->is_v6() : from.address.is_v6();
        return place{leg_kind::unit, session->unit, {}, ipv6};
    }
    if (names_unit(c.interfaces[s]))
        return refuse(
            fmt::format("direction says \"{}\", but {} is no session's inner address: is the agent up, and does "
                        "the phone put its inner address into the SDP?",
                        c.interfaces[s], from.address.to_string()));
    if (settings.is_inner && settings.is_inner(from.address))
        return refuse(fmt::format("{} is an inner address of a unit without a session: its primary must be up first",
                                  from.address.to_string()));
    if (auto why = unreachable(from); !why.empty())
        return refuse(std::move(why));
    return place{
        leg_kind::core, {}, c.interfaces[s].empty() ? settings.core_interface : c.interfaces[s], from.address.is_v6()};
}

outcome<place> server::state::place_of_other(const call& c, const media_line& line, const sdp::media& from, side sender,
                                             const request& r) const {
    const side s = other(sender);
    if (line.answered && line.id != 0 && !c.opening)
        return line.legs[s].where;
    for (const auto& sibling : c.lines) // a line added to a running call goes where the others go
        if (sibling.answered && sibling.id != 0 && !c.opening)
            return sibling.legs[s].where;
    const auto& id = c.id_of(s);
    const auto& name = c.interfaces[s];
    const bool want_v6 = r.ipv6.value_or(from.address.is_v6());
    if (name.empty() || names_unit(name)) {
        const auto unit = settings.unit_of ? settings.unit_of(id) : id;
        const auto session = unit.empty() ? std::nullopt : sessions.by_unit(unit);
        if (session && session->up && !session->inner.empty()) {
            const bool have = std::any_of(session->inner.begin(), session->inner.end(),
                                          [&](const auto& address) { return address.is_v6() == want_v6; });
            return place{leg_kind::unit, session->unit, {}, have ? want_v6 : session->inner.front().is_v6()};
        }
        if (!name.empty())
            return refuse(fmt::format("direction says \"{}\", but unit \"{}\" has no session that is up", name, id));
    }
    return place{leg_kind::core, {}, name.empty() ? settings.core_interface : name, want_v6};
}

// The address that the call shows to that side, anchored or not: within a dialogue it stays (RFC 3264 8).
asio::ip::address server::state::shown_to(const call& c, side s, const request& r) const {
    for (const auto* some : {&c.lines, c.reoffered ? &*c.reoffered : &c.lines})
        for (const auto& line : *some)
            if (line.local[s].rtp.port != 0)
                return line.local[s].rtp.address;
    const auto& name = c.interfaces[s];
    if (name.empty() || names_unit(name))
        if (const auto session = sessions.by_unit(c.id_of(s)); session && session->up)
            return session->inner_gateway;
    const auto& address = names_unit(name) || name.empty() ? settings.core_interface : name;
    return relay.address_named(address, r.ipv6.value_or(false)).value_or(asio::ip::address());
}

sdp::rewrite_options server::state::rewriting(const call& c, side to, const request& r) const {
    auto options = rewrite_options_of(r);
    options.shown = shown_to(c, to, r);
    if (r.loop_protect)
        options.mark = fmt::format("{:016x}", instance);
    return options;
}

// With a version that is ours to count (replace: sdp-version) it goes up where anything else is not what this side was
// shown last (RFC 3264 8).
std::string server::state::write(call& c, side to, const request& r, const sdp::session& said,
                                 const std::vector<sdp::media_rewrite>& lines) const {
    auto options = rewriting(c, to, r);
    if (r.replace_version) {
        auto& last = c.versions[to];
        options.version = 0;
        auto body = sdp::rewrite(said, lines, options);
        const auto now = std::hash<std::string>{}(body);
        sdp::wipe(body);
        if (!last.number)
            last.number = sdp::version_of(said);
        else if (last.of != now)
            ++*last.number;
        last.of = now;
        options.version = last.number;
    }
    return sdp::rewrite(said, lines, options);
}

} // namespace tandem::callcontrol
