// SPDX-License-Identifier: Apache-2.0
// Why each switch was made, and what came of it: the last ones. Pure.
#pragma once

#include <array>
#include <deque>

#include "tools/agent/roam/choice.hpp"

namespace tandem::agent {

enum class move_outcome : std::uint8_t {
    pending,  // the next connection is being made
    up,       // the primary is up over the new path
    failed,   // no gateway answered over it
    replaced, // another switch came first
    none,     // there was no path to go to
};
[[nodiscard]] const char* name_of(move_outcome outcome) noexcept;

struct path_move {
    decision made;
    std::string from_class, to_class;
    std::optional<int> from_dbm, to_dbm; // signals as they were
    std::optional<std::chrono::milliseconds> idle;
    std::chrono::system_clock::time_point wall;
    path_time at{};
    move_outcome outcome = move_outcome::pending;
    std::chrono::milliseconds took{0}; // until the outcome
};

class path_journal {
public:
    static constexpr std::size_t kept = 64;
    void add(path_move one);
    void end(const path_place& over, move_outcome outcome, path_time now); // of the last one, if it went there
    [[nodiscard]] const std::deque<path_move>& moves() const noexcept { return moves_; }
    [[nodiscard]] std::uint64_t count(move_kind kind) const noexcept { return kinds_[static_cast<std::size_t>(kind)]; }
    [[nodiscard]] std::uint64_t count(move_outcome how) const noexcept { return ends_[static_cast<std::size_t>(how)]; }

private:
    void close(path_move& last, move_outcome outcome, path_time now);
    std::deque<path_move> moves_; // oldest first
    std::array<std::uint64_t, 3> kinds_{};
    std::array<std::uint64_t, 5> ends_{};
};

// One sentence: "wlan0 (wifi) has no carrier".
[[nodiscard]] std::string explain(const path_move& move);

} // namespace tandem::agent
