// SPDX-License-Identifier: Apache-2.0
// How often a packet with a wrong tag may be tried under another roll-over counter (flow::has_another_index): whoever
// sends forged packets of made-up SSRCs chooses that, and each try costs as much as a packet. So a source's network has
// `tries` at once and as many a second, whatever it sends. A true stream needs one. Owner: one worker. No allocation.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "dataplane/api/contract.hpp"

namespace tandem::pipeline {

class second_tries {
public:
    static constexpr std::uint64_t tries = 32;

    [[nodiscard]] bool take(const api::net_address& from, std::uint64_t now_ns) noexcept {
        constexpr std::uint64_t each_ns = 1'000'000'000 / tries;
        // The time up to which its tries are used up: never more than a second behind.
        std::uint64_t& used = used_until_[share(from)];
        if (now_ns - used > tries * each_ns)
            used = now_ns - tries * each_ns;
        if (now_ns < used + each_ns)
            return false;
        used += each_ns;
        return true;
    }

private:
    // Of an IPv4 address, or of an IPv6 network (/64): the other half is its owner's to choose.
    [[nodiscard]] static std::size_t share(const api::net_address& from) noexcept {
        std::uint64_t high = 0, low = 0;
        std::memcpy(&high, from.ip, sizeof high);
        std::memcpy(&low, from.ip + 8, sizeof low);
        return (high != 0 ? high : low) * 0x9e3779b97f4a7c15 >> 56;
    }

    std::array<std::uint64_t, 256> used_until_{};
};

} // namespace tandem::pipeline
