// SPDX-License-Identifier: Apache-2.0
// Where an end of a link is, whatever protocol carries it. The address knows its interface where it is link-local.
#pragma once

#include <asio/ip/address.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "controlplane/protocol/address_text.hpp"

namespace tandem::link {

struct endpoint {
    asio::ip::address address;
    std::uint16_t port = 0;
    friend bool operator==(const endpoint&, const endpoint&) = default;
};

// 192.0.2.1:4433, [2001:db8::1]:4433
[[nodiscard]] inline std::string text_of(const endpoint& e) {
    const auto host = protocol::address_text(e.address);
    return (e.address.is_v6() ? "[" + host + "]" : host) + ":" + std::to_string(e.port);
}

// And back; no names.
[[nodiscard]] std::optional<endpoint> parse_endpoint(std::string_view text);

} // namespace tandem::link
