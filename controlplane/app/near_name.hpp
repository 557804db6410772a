// SPDX-License-Identifier: Apache-2.0
// "did you mean": the known name that is nearest to a mistyped one. Pure; for the control plane and tandemctl.
#pragma once

#include <algorithm>
#include <numeric>
#include <string_view>
#include <vector>

namespace tandem::ops {

// Levenshtein's distance, two letters that changed places as one.
[[nodiscard]] inline std::size_t distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> before, last(b.size() + 1), now(b.size() + 1);
    std::iota(last.begin(), last.end(), 0U);
    for (std::size_t i = 1; i <= a.size(); ++i) {
        now[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            now[j] = std::min({last[j] + 1, now[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0U : 1U)});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = std::min(now[j], before[j - 2] + 1);
        }
        before = last;
        last.swap(now);
    }
    return last[b.size()];
}

// Empty where none is near.
[[nodiscard]] inline std::string_view near_name(std::string_view given, const std::vector<std::string_view>& names) {
    std::string_view best;
    std::size_t least = (given.size() < 5 ? 1 : std::max<std::size_t>(2, given.size() / 4)) + 1;
    if (given.size() > 64)
        return best;
    for (const auto name : names)
        if (const auto far = distance(given, name); far < least) {
            least = far;
            best = name;
        }
    return best;
}

} // namespace tandem::ops
