// SPDX-License-Identifier: Apache-2.0
// Inner addresses: the gateway has host 1 of each network, units the following ones. A unit keeps its number, the same
// in IPv4 and IPv6, until it is forgotten; numbers never used before go first, so that a freed one rests as long as it
// can. Pure; no thread of its own.
#pragma once

#include <asio/ip/address.hpp>
#include <asio/ip/network_v4.hpp>
#include <asio/ip/network_v6.hpp>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace tandem::session {

class address_pool {
public:
    using addresses = std::vector<asio::ip::address>;

    address_pool(std::optional<asio::ip::network_v4>, std::optional<asio::ip::network_v6>);

    [[nodiscard]] addresses gateway() const { return at(1); }
    // The unit's; nothing where all are taken.
    [[nodiscard]] std::optional<addresses> of(const std::string& unit);
    // As it was before a restart. False where the networks were changed or the number is another unit's.
    bool restore(const std::string& unit, const addresses&);
    void forget(const std::string& unit);
    [[nodiscard]] std::uint32_t capacity() const noexcept { return last_ >= first ? last_ - first + 1 : 0; }
    // One that a unit has or may get; not the gateway's own.
    [[nodiscard]] bool is_units(const asio::ip::address& a) const { return number_of(a).has_value(); }
    [[nodiscard]] unsigned prefix_length(const asio::ip::address&) const;

private:
    static constexpr std::uint32_t first = 2;
    [[nodiscard]] addresses at(std::uint32_t number) const;
    [[nodiscard]] std::optional<std::uint32_t> number_of(const asio::ip::address&) const;

    std::optional<asio::ip::network_v4> network4_;
    std::optional<asio::ip::network_v6> network6_;
    std::uint32_t last_ = 0;
    std::uint32_t next_ = first;
    std::deque<std::uint32_t> freed_;
    std::unordered_map<std::string, std::uint32_t> numbers_;
    std::unordered_set<std::uint32_t> taken_;
};

} // namespace tandem::session
