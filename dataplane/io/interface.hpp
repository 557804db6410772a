// SPDX-License-Identifier: Apache-2.0
// Inside of io: what the kernel says about an interface, and whether we may use AF_XDP at all.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <tl/expected.hpp>

namespace tandem::io {

struct interface_info {
    unsigned ifindex = 0;
    std::uint16_t mtu = 0;
    bool loopback = false;
};

[[nodiscard]] tl::expected<interface_info, std::string> find_interface(const std::string& name);
[[nodiscard]] tl::expected<void, std::string> check_privileges();

// Lets the kernel take from lo what comes from an address of its own: calls' media, for programs on this host.
[[nodiscard]] bool accept_own_senders();

// IFF_UP, IFF_RUNNING ...; nothing where there is no interface of that index any more.
[[nodiscard]] std::optional<unsigned> interface_flags(unsigned ifindex) noexcept;

} // namespace tandem::io
