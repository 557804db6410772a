// SPDX-License-Identifier: Apache-2.0
// protocol::ip_address and endpoint from and to asio's. Apart from message.hpp, which stays free of asio (it is
// fuzzed).
#pragma once

#include <asio/ip/address.hpp>

#include "controlplane/protocol/types.hpp"

namespace tandem::protocol {

[[nodiscard]] inline ip_address to_wire(const asio::ip::address& address) {
    if (address.is_v6())
        return {address.to_v6().to_bytes()};
    return {asio::ip::make_address_v6(asio::ip::v4_mapped, address.to_v4()).to_bytes()};
}

[[nodiscard]] inline asio::ip::address from_wire(const ip_address& wire) {
    const asio::ip::address_v6 v6(wire.bytes);
    if (v6.is_v4_mapped())
        return asio::ip::make_address_v4(asio::ip::v4_mapped, v6);
    return v6;
}

[[nodiscard]] inline endpoint to_wire(const asio::ip::address& address, std::uint16_t port) {
    return {to_wire(address), port};
}

} // namespace tandem::protocol
