// SPDX-License-Identifier: Apache-2.0
// A log-linear histogram of nanoseconds: 64 steps for each power of two, so a percentile is at most 1.6 % off;
// recording is an increment. Owner: the load's one thread.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace tandem::load {

class histogram {
public:
    void record(std::uint64_t ns) noexcept {
        ++buckets_[index_of(ns)];
        ++count_;
        if (ns > max_)
            max_ = ns;
    }
    // The value that `share` (0 to 1) of what was recorded does not exceed; 0 where nothing was recorded.
    [[nodiscard]] std::uint64_t percentile(double share) const noexcept {
        const auto wanted = static_cast<std::uint64_t>(share * static_cast<double>(count_) + 0.5);
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < buckets_.size(); ++i)
            if (seen += buckets_[i]; seen != 0 && seen >= wanted)
                return value_of(i) < max_ ? value_of(i) : max_;
        return max_;
    }
    [[nodiscard]] std::uint64_t max() const noexcept { return max_; }
    [[nodiscard]] std::uint64_t count() const noexcept { return count_; }

private:
    static constexpr unsigned steps_log = 6, steps = 1u << steps_log;

    static std::size_t index_of(std::uint64_t v) noexcept {
        if (v < steps)
            return v;
        const auto power = static_cast<unsigned>(std::bit_width(v)) - 1 - steps_log;
        return (power + 1) * steps + ((v >> power) - steps);
    }
    static std::uint64_t value_of(std::size_t i) noexcept { // the bucket's upper end
        if (i < steps)
            return i;
        const std::size_t power = i / steps - 1;
        return ((steps + i % steps + 1) << power) - 1;
    }

    std::array<std::uint64_t, (64 - steps_log + 1) * steps> buckets_{};
    std::uint64_t count_ = 0, max_ = 0;
};

} // namespace tandem::load
