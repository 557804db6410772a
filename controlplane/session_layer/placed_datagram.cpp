// SPDX-License-Identifier: Apache-2.0
// See placed_datagram.hpp.
#include "controlplane/session_layer/placed_datagram.hpp"

#include <algorithm>

namespace tandem::session_layer {
namespace {

constexpr std::size_t before_address = 3;

template <class Address>
std::optional<placed_datagram> read_as(std::span<const std::uint8_t> all, std::uint16_t port) {
    typename Address::bytes_type octets;
    if (all.size() < octets.size())
        return std::nullopt;
    std::copy_n(all.begin(), octets.size(), octets.begin());
    return placed_datagram{{Address(octets), port}, all.subspan(octets.size())};
}

} // namespace

void write_placed(const link::endpoint& peer, std::span<const std::uint8_t> octets, std::vector<std::uint8_t>& to) {
    to.push_back(peer.address.is_v6() ? 6 : 4);
    to.push_back(static_cast<std::uint8_t>(peer.port >> 8));
    to.push_back(static_cast<std::uint8_t>(peer.port));
    const auto append = [&to](const auto& bytes) { to.insert(to.end(), bytes.begin(), bytes.end()); };
    if (peer.address.is_v6())
        append(peer.address.to_v6().to_bytes());
    else
        append(peer.address.to_v4().to_bytes());
    append(octets);
}

std::optional<placed_datagram> read_placed(std::span<const std::uint8_t> all) {
    if (all.size() < before_address)
        return std::nullopt;
    const auto port = static_cast<std::uint16_t>(all[1] << 8 | all[2]);
    const auto rest = all.subspan(before_address);
    if (port == 0)
        return std::nullopt;
    if (all[0] == 4)
        return read_as<asio::ip::address_v4>(rest, port);
    if (all[0] == 6)
        return read_as<asio::ip::address_v6>(rest, port);
    return std::nullopt;
}

} // namespace tandem::session_layer
