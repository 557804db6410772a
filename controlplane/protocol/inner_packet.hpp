// SPDX-License-Identifier: Apache-2.0
// The two addresses of an inner IP packet, for routing and against spoofing. Pure; no checksum is looked at.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "controlplane/protocol/types.hpp"

namespace tandem::protocol {

struct inner_addresses {
    ip_address source, destination;
};

// Nothing where the header is cut or its length is not the packet's (RFC 791, RFC 8200; no jumbograms).
[[nodiscard]] std::optional<inner_addresses> parse_inner(std::span<const std::uint8_t> packet) noexcept;

} // namespace tandem::protocol
