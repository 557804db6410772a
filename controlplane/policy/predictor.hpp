// SPDX-License-Identifier: Apache-2.0
// From what is known of a pair's calls to a level (RIM-26, RIM-36). A predictor is small on purpose: whatever can be
// read out of the history can be one. Pure; owner thread: io_context.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/policy/config.hpp"
#include "controlplane/protocol/profile.hpp"

namespace tandem::policy {

struct prediction {
    std::string level; // empty: nothing
    std::string text;  // for people
};

class predictor {
public:
    virtual ~predictor() = default;
    [[nodiscard]] virtual std::string_view
    name() const noexcept = 0; // "duration": the rule is "call profile: duration"
    [[nodiscard]] virtual prediction predict(const protocol::summary& history) const = 0;
};

// By how long the pair's calls last: mean, median or last, against rising thresholds.
[[nodiscard]] std::unique_ptr<predictor> make_duration_predictor(const config& settings);
// By a number of the history: its calls, or its failures.
[[nodiscard]] std::unique_ptr<predictor> make_count_predictor(std::string name, std::size_t protocol::summary::*of,
                                                              std::vector<count_step> steps);

// Those that the configuration switches on (gives thresholds to), in the order in which they are asked.
[[nodiscard]] std::vector<std::unique_ptr<predictor>> make_predictors(const config& settings);

} // namespace tandem::policy
