// SPDX-License-Identifier: Apache-2.0
// Addresses as text (RFC 5952 by inet_ntop).
#include "tools/agent/device/text.hpp"

#include <array>

#include <arpa/inet.h>
#include <fmt/format.h>

namespace tandem::agent {

std::string to_text(const ip_bytes& ip) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    const bool ipv4 = is_ipv4(ip);
    const auto* shown = ::inet_ntop(ipv4 ? AF_INET : AF_INET6, ip.data() + (ipv4 ? 12 : 0), text.data(), text.size());
    return shown == nullptr ? std::string("?") : std::string(shown);
}

std::string to_text(const endpoint& point) {
    return is_ipv4(point.ip) ? fmt::format("{}:{}", to_text(point.ip), point.port)
                             : fmt::format("[{}]:{}", to_text(point.ip), point.port);
}

} // namespace tandem::agent
