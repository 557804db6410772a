// SPDX-License-Identifier: Apache-2.0
// See service_rules.hpp.
#include "controlplane/session/service_rules.hpp"

#include <algorithm>
#include <charconv>

namespace tandem::session {
namespace {

// "198.51.100.0/24", an address alone, IPv6 in brackets.
std::optional<service_network> parse_network(std::string_view text) {
    const bool bracketed = text.size() > 2 && text.front() == '[' && text.back() == ']';
    std::string host(bracketed ? text.substr(1, text.size() - 2) : text);
    if (host.find('/') == std::string::npos)
        host += bracketed ? "/128" : "/32";
    std::error_code error;
    if (bracketed) {
        const auto read = asio::ip::make_network_v6(host, error);
        return error ? std::nullopt : std::optional<service_network>(read.canonical());
    }
    const auto read = asio::ip::make_network_v4(host, error);
    return error ? std::nullopt : std::optional<service_network>(read.canonical());
}

bool holds(const asio::ip::network_v4& n, const asio::ip::address& a) {
    return a.is_v4() && asio::ip::network_v4(a.to_v4(), n.prefix_length()).canonical() == n;
}
bool holds(const asio::ip::network_v6& n, const asio::ip::address& a) {
    return a.is_v6() && asio::ip::network_v6(a.to_v6(), n.prefix_length()).canonical() == n;
}

} // namespace

std::optional<service_rule> parse_service(std::string_view text) {
    constexpr std::string_view udp = "/udp";
    const auto kind = text.ends_with(udp) ? service_kind::udp : service_kind::tcp;
    if (kind == service_kind::udp)
        text.remove_suffix(udp.size());
    const auto colon = text.rfind(':');
    if (colon == std::string_view::npos)
        return std::nullopt;
    const auto network = parse_network(text.substr(0, colon));
    const auto port = text.substr(colon + 1);
    std::uint16_t number = 0;
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
    const bool some = error == std::errc{} && end == port.data() + port.size() && number != 0;
    if (!network || (port != "*" && !some))
        return std::nullopt;
    return service_rule{*network, number, kind};
}

bool may_reach(const std::vector<service_rule>& rules, const link::endpoint& to, service_kind kind) {
    if (to.address.is_v6() && to.address.to_v6().is_v4_mapped())
        return false; // IPv4 is written as such
    if (to.address.is_unspecified() || to.address.is_multicast())
        return false; // the kernel takes the first for loopback
    return std::ranges::any_of(rules, [&](const service_rule& r) {
        const auto fits = [&](const auto& n) {
            return holds(n, to.address) && (!to.address.is_loopback() || n.network().is_loopback());
        };
        return r.kind == kind && std::visit(fits, r.network) && (r.port == 0 || r.port == to.port);
    });
}

} // namespace tandem::session
