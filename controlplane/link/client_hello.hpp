// SPDX-License-Identifier: Apache-2.0
// Whether a whole ClientHello waits in a socket (RFC 8446 5.1, 4.1.2), by a look that takes nothing out. Until then a
// connection costs a descriptor and no TLS state.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include <sys/socket.h>

namespace tandem::link {

// Bytes that must be there before it is known whether it is one and whole. Not more than `seen` holds: it is whole, or
// no ClientHello, which TLS then says.
[[nodiscard]] inline std::size_t hello_needs(std::span<const std::uint8_t> seen) noexcept {
    constexpr std::size_t header = 6; // of the record, and the message's type
    constexpr std::uint8_t handshake = 22, version = 3, client_hello = 1;
    if (!seen.empty() && seen[0] != handshake)
        return 1;
    if (seen.size() < header)
        return header;
    if (seen[1] != version || seen[5] != client_hello)
        return header;
    constexpr std::size_t largest = 16384;
    return 5 + std::min<std::size_t>(static_cast<std::size_t>(seen[3]) << 8 | seen[4], largest);
}

struct hello_look {
    std::size_t there; // 0: the peer has closed, or nothing is there
    std::size_t needed;
};

[[nodiscard]] inline hello_look look_for_hello(int socket) noexcept {
    std::array<std::uint8_t, 6> head{};
    const ssize_t seen = ::recv(socket, head.data(), head.size(), MSG_PEEK | MSG_DONTWAIT);
    if (seen <= 0)
        return {0, 1};
    const std::size_t needed = hello_needs(std::span(head).first(static_cast<std::size_t>(seen)));
    // MSG_TRUNC of TCP: counted, not copied.
    const ssize_t there = ::recv(socket, nullptr, needed, MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC);
    return {there > 0 ? static_cast<std::size_t>(there) : 0, needed};
}

} // namespace tandem::link
