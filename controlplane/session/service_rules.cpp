// SPDX-License-Identifier: Apache-2.0
// See service_rules.hpp.
#include "controlplane/session/service_rules.hpp"

#include <algorithm>
#include <charconv>

#include "controlplane/protocol/address_asio.hpp"

namespace tandem::session {
namespace {

template <class T>
std::optional<T> number(std::string_view text, T most) {
    T value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || error != std::errc{} || end != text.data() + text.size() || value > most)
        return std::nullopt;
    return value;
}

struct parts {
    std::string_view host, port;
    bool bracketed;
};

std::optional<parts> split(std::string_view text) {
    const auto colon = text.rfind(':');
    if (colon == std::string_view::npos)
        return std::nullopt;
    auto host = text.substr(0, colon);
    const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
    if (bracketed)
        host = host.substr(1, host.size() - 2);
    return parts{host, text.substr(colon + 1), bracketed};
}

std::optional<asio::ip::address> address(std::string_view text, bool bracketed) {
    std::error_code error;
    const auto parsed = asio::ip::make_address(std::string(text), error);
    return !error && parsed.is_v6() == bracketed ? std::optional(parsed) : std::nullopt;
}

} // namespace

std::optional<service_rule> parse_service(std::string_view text) {
    const auto whole = split(text);
    if (!whole)
        return std::nullopt;
    const auto slash = whole->host.find('/');
    const auto network = address(whole->host.substr(0, slash), whole->bracketed);
    const auto port = whole->port == "*" ? std::optional<std::uint16_t>(0) : number<std::uint16_t>(whole->port, 65535);
    if (!network || !port || (*port == 0 && whole->port != "*"))
        return std::nullopt;
    const unsigned most = network->is_v4() ? 32 : 128;
    const auto bits =
        slash == std::string_view::npos ? std::optional(most) : number<unsigned>(whole->host.substr(slash + 1), most);
    if (!bits)
        return std::nullopt;
    return service_rule{*network, *bits, *port};
}

bool may_reach(const std::vector<service_rule>& rules, const link::endpoint& to) noexcept {
    if (to.address.is_v6() && to.address.to_v6().is_v4_mapped())
        return false; // IPv4 is written as such
    const auto wanted = protocol::to_wire(to.address).bytes;
    const std::size_t first = to.address.is_v4() ? 12 : 0; // of the octets that count
    return std::ranges::any_of(rules, [&](const service_rule& r) {
        if (r.network.is_v4() != to.address.is_v4() || (to.address.is_loopback() && !r.network.is_loopback()))
            return false;
        const auto own = protocol::to_wire(r.network).bytes;
        const auto whole = first + r.bits / 8;
        const unsigned mask = 0xff00U >> r.bits % 8 & 0xffU;
        return std::equal(wanted.begin() + static_cast<std::ptrdiff_t>(first),
                          wanted.begin() + static_cast<std::ptrdiff_t>(whole),
                          own.begin() + static_cast<std::ptrdiff_t>(first)) &&
               (mask == 0 || (wanted[whole] & mask) == (own[whole] & mask)) && (r.port == 0 || r.port == to.port);
    });
}

} // namespace tandem::session
