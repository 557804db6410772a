// SPDX-License-Identifier: Apache-2.0
// How a worker spends its time: one TSC reading per stage and burst, sums in api::worker_sight (the worker's own lines
// of the stats segment). Owner: the worker's thread. The TSC is read without a fence: a reading may move by a few
// instructions, which is nothing against a burst's stage.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include <rte_cycles.h>

#include "dataplane/api/stats.hpp"

namespace tandem::pipeline {

class stopwatch {
public:
    explicit stopwatch(api::worker_sight& to) noexcept : to_(to), second_(rte_get_tsc_hz()) {}

    void start(unsigned lcore, unsigned cpu) noexcept {
        to_ = {};
        to_.started_tsc = rte_rdtsc();
        to_.lcore = lcore;
        to_.cpu = cpu;
    }
    // The control thread's changes come first: from here on packets may wait.
    void hold() noexcept {
        if (waiting_since_ == 0)
            waiting_since_ = rte_rdtsc();
    }
    // The ports are asked now.
    void poll() noexcept {
        last_ = rte_rdtsc();
        if (waiting_since_ != 0)
            note_gap(last_ - waiting_since_);
        waiting_since_ = 0;
        begin_ = last_;
    }
    void passed(api::stage stage, unsigned packets) noexcept {
        const std::uint64_t now = rte_rdtsc();
        to_.stage_tsc[static_cast<std::size_t>(stage)] += now - last_;
        to_.stage_packets[static_cast<std::size_t>(stage)] += packets;
        last_ = now;
    }
    // The end of a round that took packets; it counts as waiting until the next poll.
    void round_done(unsigned packets) noexcept {
        to_.busy_tsc += last_ - begin_;
        ++to_.burst_sizes[static_cast<std::size_t>(std::bit_width(packets) - 1)];
        waiting_since_ = begin_;
    }

private:
    void note_gap(std::uint64_t gap) noexcept {
        to_.longest_gap_tsc = std::max(to_.longest_gap_tsc, gap);
        if (last_ - window_begin_ > second_) {
            to_.longest_gap_second_tsc = window_longest_;
            window_longest_ = 0;
            window_begin_ = last_;
        }
        window_longest_ = std::max(window_longest_, gap);
    }

    api::worker_sight& to_;
    std::uint64_t second_;
    std::uint64_t begin_ = 0;         // of the round
    std::uint64_t last_ = 0;          // reading
    std::uint64_t waiting_since_ = 0; // 0 = nothing can have waited
    std::uint64_t window_begin_ = 0;
    std::uint64_t window_longest_ = 0;
};

} // namespace tandem::pipeline
