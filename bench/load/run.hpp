// SPDX-License-Identifier: Apache-2.0
// The loop: send what is due, take what came, by turns, in one thread; then listen a while longer.
#pragma once

#include <cstdint>

#include "bench/load/traffic.hpp"

namespace tandem::load {

inline constexpr unsigned max_burst = 64;

struct outcome {
    double seconds = 0;             // from the first packet sent to the last
    std::uint64_t socket_drops = 0; // of our own receive buffers
    std::uint64_t late = 0;         // packets given up because the sender could not keep the rate
};

outcome run_streams(const options& given, traffic& t);

// Sends the frames of a file round and round on an interface; counts only.
outcome run_frames(const options& given, counts& total);

} // namespace tandem::load
