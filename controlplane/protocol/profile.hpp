// SPDX-License-Identifier: Apache-2.0
// What is known of the calls between two addresses (RIM-25 to RIM-27, RIM-36): the last calls, bounded, from which
// count, mean, median and failures follow exactly over those that are not too old. The gateway and the unit each keep
// such; this room is what both share. Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace tandem::protocol {

struct past_call {
    std::chrono::system_clock::time_point ended;
    std::chrono::milliseconds duration{}; // answered to ended; 0 where it was never answered
    bool failed = false;                  // never answered, or ended by a fault
    friend bool operator==(const past_call&, const past_call&) = default;
};

// The pair is unordered: a < b always.
struct profile {
    static constexpr std::size_t most_calls = 64; // remembered; older ones go
    std::string a, b;
    std::vector<past_call> calls; // oldest first
    std::uint64_t total = 0;      // ever, failures included

    void add(const past_call& call);
    friend bool operator==(const profile&, const profile&) = default;
};

[[nodiscard]] std::pair<std::string, std::string> pair_of(const std::string& one, const std::string& other);

// Over the calls that are younger than `age` at `now`.
struct summary {
    std::size_t calls = 0, failures = 0; // answered ones; those that failed
    std::chrono::milliseconds mean{}, median{}, last{};
};
[[nodiscard]] summary summarize(const profile& of, std::chrono::system_clock::time_point now, std::chrono::hours age);

} // namespace tandem::protocol
