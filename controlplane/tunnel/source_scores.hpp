// SPDX-License-Identifier: Apache-2.0
// How many handshakes a source has asked for lately that led to no unit: who floods goes behind those who do not. A
// source is an IPv4 /24 or an IPv6 /64; an address that a unit has come from counts by itself, not with its neighbours.
// Sources share places by a hash that nobody outside knows, so there are no more places, whoever comes. Pure; one
// thread.
#pragma once

#include <algorithm>
#include <array>
#include <asio/ip/address.hpp>
#include <chrono>
#include <cstdint>
#include <random>

namespace tandem::tunnel {

class source_scores {
public:
    using clock = std::chrono::steady_clock;
    static constexpr std::chrono::seconds halved_after{10};
    static constexpr std::size_t places = 16'384; // a power of two

    // Of one source; lives as long as this.
    class place {
    public:
        [[nodiscard]] std::uint32_t score(clock::time_point now) {
            const std::int64_t period = now.time_since_epoch() / halved_after;
            if (period != period_) {
                score_ = period - period_ > 31 ? 0 : score_ >> (period - period_);
                period_ = period;
            }
            return score_;
        }
        void begun(clock::time_point now) { score_ = score(now) + 1; }
        void took_back() { score_ -= std::min(score_, 1U); } // it led to a unit

    private:
        std::uint32_t score_ = 0;
        std::int64_t period_ = 0;
    };

    [[nodiscard]] place& of(const asio::ip::address& from) {
        const bool known = known_[hash(from, 128) % places] == tag(from);
        return (known ? by_address_ : by_prefix_)[hash(from, known ? 128 : 64) % places];
    }
    // A unit came from there.
    void prove(const asio::ip::address& from) { known_[hash(from, 128) % places] = tag(from); }

private:
    static_assert((places & (places - 1)) == 0);

    [[nodiscard]] std::uint64_t hash(const asio::ip::address& of, unsigned bits) const {
        std::uint64_t value = seed_ + bits;
        const auto mix = [&value](std::uint64_t word) {
            value = (value ^ word) * 0x9e3779b97f4a7c15;
            value ^= value >> 29;
        };
        if (of.is_v4()) {
            mix(of.to_v4().to_uint() >> (bits == 128 ? 0 : 8));
        } else {
            const auto bytes = of.to_v6().to_bytes();
            for (unsigned i = 0; i < (bits == 128 ? 16U : 8U); ++i)
                mix(bytes[i]);
        }
        mix(seed_);
        return value;
    }
    [[nodiscard]] std::uint32_t tag(const asio::ip::address& of) const {
        return static_cast<std::uint32_t>(hash(of, 128) >> 32) | 1U;
    }
    const std::uint64_t seed_ = std::random_device()() | std::uint64_t{std::random_device()()} << 32;
    std::array<place, places> by_prefix_{}, by_address_{};
    std::array<std::uint32_t, places> known_{}; // a digest of the address; 0: none
};

} // namespace tandem::tunnel
