// SPDX-License-Identifier: Apache-2.0
// `tandem-agent paths`: which network the running agent is on, what the others are like, and why it moved.
#pragma once

#include <cstdio>
#include <string>

namespace tandem::agent {

struct paths_view {
    bool json = false;
    bool watch = false;     // again each second until a signal ends it
    unsigned rounds = 0;    // of watch; 0: without end
    std::size_t moves = 16; // the last so many
};

// The exit status.
[[nodiscard]] int show_paths(const std::string& run_dir, const paths_view& view);

// For tests: a status's "paths" as the tables that people see.
[[nodiscard]] std::string paths_text(const std::string& status, std::size_t moves);

} // namespace tandem::agent
