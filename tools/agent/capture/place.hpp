// SPDX-License-Identifier: Apache-2.0
// Addresses between the kernel's form and asio's.
#pragma once

#include <algorithm>
#include <cstdint>

#include <arpa/inet.h>
#include <asio/ip/address.hpp>

#include "bpf/loader/capture.hpp"

namespace tandem::agent {

[[nodiscard]] inline bpf::capture_place place_of(const asio::ip::address& address, std::uint16_t port,
                                                 std::uint8_t protocol) {
    bpf::capture_place place{};
    place.family = address.is_v6() ? 6 : 4;
    place.protocol = protocol;
    place.port = htons(port);
    if (address.is_v6())
        std::ranges::copy(address.to_v6().to_bytes(), place.ip);
    else
        std::ranges::copy(address.to_v4().to_bytes(), place.ip);
    return place;
}

[[nodiscard]] inline asio::ip::address address_of(const bpf::capture_place& place) {
    asio::ip::address_v6::bytes_type six;
    asio::ip::address_v4::bytes_type four;
    std::copy_n(place.ip, six.size(), six.begin());
    std::copy_n(place.ip, four.size(), four.begin());
    if (place.family == 6)
        return asio::ip::address_v6(six);
    return asio::ip::address_v4(four);
}

[[nodiscard]] inline std::uint16_t port_of(const bpf::capture_place& place) noexcept {
    return ntohs(place.port);
}

} // namespace tandem::agent
