// SPDX-License-Identifier: Apache-2.0
// An IP address as text, as asio's to_string() makes it: that goes through the C library's formatted output, which is
// felt where a call writes a dozen addresses several times. Pure; any thread.
#pragma once

#include <array>
#include <asio/ip/address.hpp>
#include <charconv>
#include <string>

namespace tandem::protocol {

[[nodiscard]] inline std::string address_text(const asio::ip::address& address) {
    if (!address.is_v4())
        return address.to_string();
    std::array<char, 16> text{};
    char* at = text.data();
    for (const auto part : address.to_v4().to_bytes()) {
        if (at != text.data())
            *at++ = '.';
        at = std::to_chars(at, text.data() + text.size(), part).ptr;
    }
    return {text.data(), at};
}

} // namespace tandem::protocol
