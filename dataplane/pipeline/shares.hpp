// SPDX-License-Identifier: Apache-2.0
// Who may ask for how much: each of `places` has `rate` at once and as many a second, whatever it asks. Strangers
// choose who they are, so the table does not grow: those that fall into one place share it. Owner: one worker. No
// allocation.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "dataplane/api/contract.hpp"

namespace tandem::pipeline {

template <std::size_t places, std::uint64_t rate>
class shares {
    static_assert(std::has_single_bit(places) && places > 1);

public:
    [[nodiscard]] bool take(std::uint64_t whose, std::uint64_t now_ns) noexcept {
        const bool left = has(whose, now_ns);
        if (left)
            use(whose, now_ns);
        return left;
    }
    [[nodiscard]] bool has(std::uint64_t whose, std::uint64_t now_ns) const noexcept {
        return now_ns >= used_until(whose, now_ns) + each_ns;
    }
    void use(std::uint64_t whose, std::uint64_t now_ns) noexcept { // one that it has
        used_until_[place(whose)] = used_until(whose, now_ns) + each_ns;
    }

private:
    static constexpr std::uint64_t each_ns = 1'000'000'000 / rate;
    [[nodiscard]] static std::size_t place(std::uint64_t whose) noexcept {
        return whose * 0x9e3779b97f4a7c15 >> (64 - std::countr_zero(places));
    }
    // Up to when its share is used up: never more than a second behind.
    [[nodiscard]] std::uint64_t used_until(std::uint64_t whose, std::uint64_t now_ns) const noexcept {
        const std::uint64_t used = used_until_[place(whose)];
        return now_ns - used > rate * each_ns ? now_ns - rate * each_ns : used;
    }
    std::array<std::uint64_t, places> used_until_{};
};

// An IPv4 address, or an IPv6 network (/64): the other half is its owner's to choose.
[[nodiscard]] inline std::uint64_t network_of(const api::net_address& from) noexcept {
    std::uint64_t high = 0, low = 0;
    std::memcpy(&high, from.ip, sizeof high);
    std::memcpy(&low, from.ip + 8, sizeof low);
    return high != 0 ? high : low;
}

} // namespace tandem::pipeline
