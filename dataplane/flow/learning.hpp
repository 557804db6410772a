// SPDX-License-Identifier: Apache-2.0
// Where the leg of clear media is, learned from its packets (api::source_policy::learned, followed). For `window_ms`
// from the first packet on a likelier source takes the leg from one that is less so; then the address is the leg's only
// one. Another port of that address is heard at once; media goes there when the present one has been silent for a
// moment (a NAT gave the phone another), so that two ports do not throw the leg about. Asked only where a packet is not
// from the source that the last one came from. Owner: the flow's worker. No allocation.
#pragma once

#include "dataplane/flow/record.hpp"

namespace tandem::flow {

inline constexpr std::uint64_t port_silence_ns = 500'000'000;
inline constexpr std::uint64_t follow_ns = 100'000'000; // followed: the leg moves no more often

namespace detail {

[[nodiscard]] inline bool same_ip(const api::net_address& a, const api::net_address& b) noexcept {
    return __builtin_memcmp(a.ip, b.ip, sizeof a.ip) == 0;
}
[[nodiscard]] inline bool is_neighbour(const api::net_address& a, const api::net_address& b) noexcept {
    return __builtin_memcmp(a.ip, b.ip, is_ipv4(a.ip) ? 15 : 8) == 0; // an IPv4 one is mapped: 12 + 3
}
[[nodiscard]] inline bool is_given(const api::net_address& a) noexcept {
    static constexpr std::uint8_t none[16] = {};
    return __builtin_memcmp(a.ip, none, sizeof none) != 0;
}

} // namespace detail

// How likely a source is the leg's.
[[nodiscard]] inline api::source_rule rule_of(const record& f, const api::net_address& from) noexcept {
    using api::source_rule;
    const bool signalled = detail::is_given(f.signalled_source), sender = detail::is_given(f.received_from);
    if (signalled && detail::same_ip(f.signalled_source, from))
        return from.port == f.signalled_source.port ? source_rule::signalled : source_rule::address;
    if (sender && detail::same_ip(f.received_from, from))
        return source_rule::received_from;
    if ((signalled && detail::is_neighbour(f.signalled_source, from)) ||
        (sender && detail::is_neighbour(f.received_from, from)))
        return source_rule::network;
    return source_rule::anyone;
}

// May `from` speak for the leg now?
[[nodiscard]] inline bool may_speak(const record& f, const api::net_address& from, std::uint64_t now_ns) noexcept {
    if (f.seen == 0)
        return true;
    const bool open = now_ns < f.window_ends_ns;
    if (detail::same_ip(f.from(), from))
        return open || f.strict_port == 0 || f.from().port == from.port;
    return open && rule_of(f, from) > f.rule;
}

// Only packets that were accepted meanwhile from other ports than the source's: it is silent. `accepted`: all packets
// that the flow has accepted, this one too.
[[nodiscard]] inline bool has_fallen_silent(record& f, std::uint64_t accepted, std::uint64_t now_ns) noexcept {
    if (f.others == 0 || accepted - f.others_of != f.others + 1ULL) { // the first, or the source spoke since
        f.others_since_ns = now_ns;
        f.others_of = accepted - 1;
        f.others = 0;
    }
    ++f.others;
    return now_ns - f.others_since_ns >= port_silence_ns;
}

// A packet from elsewhere that may speak was accepted: does the leg move there? Begins the window.
[[nodiscard]] inline bool moves_leg(record& f, const api::net_address& from, std::uint64_t accepted,
                                    std::uint64_t now_ns) noexcept {
    if (f.source == api::source_policy::followed) {
        if (f.seen != 0 && now_ns - f.source_since_ns < follow_ns)
            return false;
        store_rule(f, api::source_rule::followed, now_ns);
        return true;
    }
    const api::source_rule rule = rule_of(f, from);
    if (f.seen == 0)
        f.window_ends_ns = now_ns + std::uint64_t{f.window_ms} * 1'000'000;
    else if ((now_ns >= f.window_ends_ns || rule <= f.rule) && !has_fallen_silent(f, accepted, now_ns))
        return false;
    f.others = 0;
    store_rule(f, rule, now_ns);
    return true;
}

} // namespace tandem::flow
