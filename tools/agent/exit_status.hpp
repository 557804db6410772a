// SPDX-License-Identifier: Apache-2.0
// How the program tandem-agent ends, and what it says then.
#pragma once

#include <cstdio>
#include <fmt/core.h>
#include <string>

namespace tandem::agent {

inline constexpr int exit_ok = 0, exit_failed = 1, exit_usage = 2, exit_unreachable = 3;

inline int complain(const std::string& text, int code) {
    fmt::print(stderr, "tandem-agent: {}\n", text);
    return code;
}

} // namespace tandem::agent
