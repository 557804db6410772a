// SPDX-License-Identifier: Apache-2.0
// Inner IP header checks. See inner_packet.hpp.
#include "controlplane/protocol/inner_packet.hpp"

#include <algorithm>

namespace tandem::protocol {
namespace {

std::size_t u16(std::span<const std::uint8_t> p, std::size_t at) noexcept {
    return static_cast<std::size_t>(p[at]) << 8 | p[at + 1];
}

ip_address mapped(std::span<const std::uint8_t> four) noexcept {
    ip_address a;
    a.bytes[10] = a.bytes[11] = 0xFF;
    std::ranges::copy(four, a.bytes.begin() + 12);
    return a;
}

} // namespace

std::optional<inner_addresses> parse_inner(std::span<const std::uint8_t> packet) noexcept {
    if (packet.size() >= 20 && packet[0] >> 4 == 4) {
        const std::size_t header = (packet[0] & 0x0FU) * 4U;
        if (header < 20 || u16(packet, 2) < header || u16(packet, 2) != packet.size())
            return std::nullopt;
        return inner_addresses{mapped(packet.subspan(12, 4)), mapped(packet.subspan(16, 4))};
    }
    if (packet.size() >= 40 && packet[0] >> 4 == 6) {
        if (u16(packet, 4) + 40 != packet.size())
            return std::nullopt;
        inner_addresses a;
        std::ranges::copy(packet.subspan(8, 16), a.source.bytes.begin());
        std::ranges::copy(packet.subspan(24, 16), a.destination.bytes.begin());
        return a;
    }
    return std::nullopt;
}

} // namespace tandem::protocol
