// SPDX-License-Identifier: Apache-2.0
// Inside of io: which kernel links lead out of one of our ports, read from RTM_NEWLINK: the port's own interface, and
// 802.1Q interfaces upon it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

struct nlmsghdr;

namespace tandem::io {

struct link {
    std::uint16_t port;
    std::uint16_t vlan; // 0 = untagged
    std::uint16_t mtu;
    std::array<std::uint8_t, 6> mac;
    bool up;
    bool loopback; // the host itself: what is sent there is for one of the kernel's own addresses
    bool operator==(const link&) const = default;
};

// Nothing where the link is none of ours.
[[nodiscard]] std::optional<link> read_link(const nlmsghdr* message, std::span<const unsigned> port_ifindexes);

} // namespace tandem::io
