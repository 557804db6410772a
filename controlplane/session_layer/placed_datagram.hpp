// SPDX-License-Identifier: Apache-2.0
// What a stream of datagrams carries, where one socket has many peers: before each datagram who it is for, or from, in
// network byte order: 4 or 6 (8 bits), port (16 bits), address (4 or 16 octets). Pure. Any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "controlplane/link/endpoint.hpp"

namespace tandem::session_layer {

struct placed_datagram { // lives as long as what it was read from
    link::endpoint peer;
    std::span<const std::uint8_t> octets;
};

void write_placed(const link::endpoint& peer, std::span<const std::uint8_t> octets, std::vector<std::uint8_t>& to);
[[nodiscard]] std::optional<placed_datagram> read_placed(std::span<const std::uint8_t>);

} // namespace tandem::session_layer
