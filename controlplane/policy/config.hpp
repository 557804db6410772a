// SPDX-License-Identifier: Apache-2.0
// Policy as the operator writes it: /etc/tandem/levels.toml, or the same tables in controlplane.toml where no such file
// is named. Read whole or refused whole, with line and column. Pure values; any thread.
#pragma once

#include <chrono>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "controlplane/policy/levels.hpp"

namespace tandem::policy {

// "a call of these two that is expected to last this long gets this level": thresholds rise, levels do too.
struct duration_step {
    std::chrono::seconds at_least{};
    std::string level;
};
// The second predictor: by how many calls, or how many of them failed.
struct count_step {
    std::size_t at_least = 0;
    std::string level;
};

struct config {
    level_table levels = level_table::built_in(); // weakest first
    std::string default_level = "standard";
    std::string floor, ceiling;                                // level names; empty = the table's ends
    std::vector<std::pair<std::string, std::string>> prefixes; // dialled prefix -> level
    bool any_unit_may_make_keys = false;                       // honour a unit's wish for key_source unit or both
    std::set<std::string> units_may_make_keys;                 // of these only
    // Call profiles.
    std::string duration_of = "median";  // "median", "mean" or "last"
    std::size_t least_calls = 3;         // fewer say nothing
    std::chrono::hours age{24 * 90};     // older calls do not count
    std::size_t most_profiles = 100'000; // in memory; the pair that was quiet longest goes first
    std::vector<duration_step> duration{{std::chrono::seconds(300), "elevated"}, {std::chrono::seconds(900), "high"}};
    std::vector<count_step> calls, failures; // empty: these predictors are off
};

} // namespace tandem::policy
