// SPDX-License-Identifier: Apache-2.0
#include "tools/agent/capture/settings.hpp"

#include <algorithm>
#include <charconv>

#include <asio/ip/address.hpp>

namespace tandem::agent {

bool read_prefix(std::string_view text, bpf::capture_rule& rule) {
    const auto slash = text.find('/');
    asio::error_code error;
    const auto address = asio::ip::make_address(std::string(text.substr(0, slash)), error);
    if (error || (address.is_v6() && (address.to_v6().is_v4_mapped() || address.to_v6().scope_id() != 0)))
        return false;
    rule.ip6 = address.is_v6();
    const unsigned most = rule.ip6 ? 128 : 32;
    unsigned length = most;
    if (slash != std::string_view::npos) {
        const auto digits = text.substr(slash + 1);
        const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
        if (code != std::errc{} || end != digits.data() + digits.size() || length > most)
            return false;
    }
    rule.prefix_length = static_cast<std::uint8_t>(length);
    rule.ip = {};
    if (rule.ip6)
        rule.ip = address.to_v6().to_bytes();
    else
        std::ranges::copy(address.to_v4().to_bytes(), rule.ip.begin());
    for (unsigned bit = length; bit < most; ++bit)
        if ((rule.ip[bit / 8] >> (7 - bit % 8) & 1U) != 0)
            return false;
    return true;
}

bool same_destinations(const bpf::capture_rule& a, const bpf::capture_rule& b) noexcept {
    return a.kind == b.kind && a.ip6 == b.ip6 && a.ip == b.ip && a.prefix_length == b.prefix_length && a.port == b.port;
}

} // namespace tandem::agent
