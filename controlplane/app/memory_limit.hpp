// SPDX-License-Identifier: Apache-2.0
// How much memory this process may have and how much of it is in use, so that new calls are refused before the kernel
// kills the process for all of them: the limit of its control group (version 2 or 1, whichever level is the tightest),
// else the machine's memory. What is cached of files does not count: the kernel takes it back. Owner thread:
// io_context.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tandem::control {

class memory_limit {
public:
    struct state {
        std::uint64_t limit = 0; // bytes; 0 = none is known
        std::uint64_t used = 0;  // of these; what is free in the heap is in it
        std::uint64_t heap_free = 0;
        bool whole = false; // what is dear to ask for is in it: files, the heap
    };

    explicit memory_limit(std::string root = ""); // before /proc and the control groups' paths: for tests
    // Nothing, or why no call is to begin. One that begins is counted until the next look.
    [[nodiscard]] std::optional<std::string> no_room();
    [[nodiscard]] state look();
    // For an alarm: it was, at some look of the last ten seconds.
    [[nodiscard]] bool was_short() const noexcept;
    // How many more calls there is room for, about.
    [[nodiscard]] std::uint64_t calls_more();

private:
    struct group { // a level of the control groups that has a limit
        std::string limit, high, usage, statistics;
        const char* inactive;
        const char* active;
    };
    void find_groups();
    [[nodiscard]] std::optional<state> look_at(const group& one) const;
    [[nodiscard]] state machine() const;
    [[nodiscard]] static bool tight(const state& now, std::uint64_t begun);

    std::string root_;
    std::vector<group> groups_;
    state last_;
    std::uint64_t begun_ = 0; // calls since
    std::chrono::steady_clock::time_point looked_, trimmed_, short_;
};

} // namespace tandem::control
