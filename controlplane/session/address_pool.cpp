// SPDX-License-Identifier: Apache-2.0
// Inner address pool. See address_pool.hpp.
#include "controlplane/session/address_pool.hpp"

#include <algorithm>

namespace tandem::session {
namespace {

constexpr std::uint32_t most = 1U << 24; // units; more than any gateway has

std::uint32_t last_number(unsigned host_bits, bool broadcast) {
    const std::uint32_t all = host_bits >= 24 ? most : (1U << host_bits) - 1;
    return broadcast && all > 0 ? all - 1 : all;
}

} // namespace

address_pool::address_pool(std::optional<asio::ip::network_v4> n4, std::optional<asio::ip::network_v6> n6)
    : network4_(n4), network6_(n6) {
    last_ = network4_ || network6_ ? most : 0;
    if (network4_)
        last_ = std::min(last_, last_number(32U - network4_->prefix_length(), true));
    if (network6_)
        last_ = std::min(last_, last_number(128U - network6_->prefix_length(), false));
}

address_pool::addresses address_pool::at(std::uint32_t number) const {
    addresses result;
    if (network4_)
        result.emplace_back(asio::ip::address_v4(network4_->network().to_uint() + number));
    if (network6_) {
        auto bytes = network6_->network().to_bytes();
        for (unsigned i = 0; i < 4; ++i)
            bytes[15 - i] = static_cast<std::uint8_t>(bytes[15 - i] | number >> 8 * i);
        result.emplace_back(asio::ip::address_v6(bytes));
    }
    return result;
}

std::optional<std::uint32_t> address_pool::number_of(const asio::ip::address& address) const {
    std::uint32_t number = 0;
    if (address.is_v4() && network4_) {
        number = address.to_v4().to_uint() - network4_->network().to_uint();
    } else if (address.is_v6() && network6_) {
        const auto bytes = address.to_v6().to_bytes();
        const auto base = network6_->network().to_bytes();
        for (unsigned i = 12; i < 16; ++i)
            number = number << 8 | static_cast<std::uint32_t>(bytes[i] ^ base[i]);
    }
    if (number < first || number > last_)
        return std::nullopt;
    const auto expected = at(number);
    return std::ranges::find(expected, address) != expected.end() ? std::optional(number) : std::nullopt;
}

std::optional<address_pool::addresses> address_pool::of(const std::string& unit) {
    if (const auto known = numbers_.find(unit); known != numbers_.end())
        return at(known->second);
    while (next_ <= last_ && taken_.contains(next_))
        ++next_;
    std::uint32_t number = 0;
    if (next_ <= last_) {
        number = next_++;
    } else {
        while (!freed_.empty() && taken_.contains(freed_.front()))
            freed_.pop_front();
        if (freed_.empty())
            return std::nullopt;
        number = freed_.front();
        freed_.pop_front();
    }
    numbers_.emplace(unit, number);
    taken_.insert(number);
    return at(number);
}

bool address_pool::restore(const std::string& unit, const addresses& stored) {
    std::optional<std::uint32_t> number;
    for (const auto& address : stored)
        if (!number)
            number = number_of(address);
    if (!number || numbers_.contains(unit) || !taken_.insert(*number).second)
        return false;
    numbers_.emplace(unit, *number);
    return true;
}

void address_pool::forget(const std::string& unit) {
    const auto known = numbers_.find(unit);
    if (known == numbers_.end())
        return;
    taken_.erase(known->second);
    freed_.push_back(known->second);
    numbers_.erase(known);
}

unsigned address_pool::prefix_length(const asio::ip::address& address) const {
    if (address.is_v4())
        return network4_ ? network4_->prefix_length() : 32U;
    return network6_ ? network6_->prefix_length() : 128U;
}

} // namespace tandem::session
