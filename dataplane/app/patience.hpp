// SPDX-License-Identifier: Apache-2.0
// For a data plane whose turn came while the one before is still ending. Any thread.
#pragma once

#include <unistd.h>

namespace tandem::app {

inline constexpr unsigned patience_ms = 1000;

// What the one before still has is given up within some ms of its end: it is asked for again, without a holder once.
template <class Function>
auto patiently(bool held, Function attempt, unsigned most_ms = patience_ms) {
    constexpr unsigned pause_us = 1000;
    for (unsigned i = 0; held && i < most_ms; ++i) {
        if (auto done = attempt())
            return done;
        usleep(pause_us);
    }
    return attempt();
}

} // namespace tandem::app
