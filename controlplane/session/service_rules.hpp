// SPDX-License-Identifier: Apache-2.0
// Which services units may reach by streams: addresses and ports, none where nothing is said. TCP, but where a rule
// says UDP. Pure. Any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <variant>
#include <vector>

#include <asio/ip/network_v4.hpp>
#include <asio/ip/network_v6.hpp>

#include "controlplane/link/endpoint.hpp"

namespace tandem::session {

using service_network = std::variant<asio::ip::network_v4, asio::ip::network_v6>;
enum class service_kind : std::uint8_t { tcp, udp };
struct service_rule {
    service_network network;
    std::uint16_t port = 0; // 0 = any
    service_kind kind = service_kind::tcp;
};

// "198.51.100.0/24:80", "198.51.100.7:*", "[2001:db8::/32]:443", "198.51.100.7:53/udp"
[[nodiscard]] std::optional<service_rule> parse_service(std::string_view text);
// An address of the other family is not meant, nor is loopback but where a rule names it; multicast, 0.0.0.0 and ::
// never.
[[nodiscard]] bool may_reach(const std::vector<service_rule>&, const link::endpoint&, service_kind = service_kind::tcp);

} // namespace tandem::session
