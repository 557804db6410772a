// SPDX-License-Identifier: Apache-2.0
// The default decision: every call gets the configured default level.
#include "controlplane/policy/decide.hpp"

namespace tandem::policy {

default_decider::default_decider(level_table table, std::string default_level)
    : table_(std::move(table)), default_(std::move(default_level)) {}

decision default_decider::decide(std::string_view, std::string_view) const {
    return {by_name(default_), "default level"};
}

level default_decider::by_name(std::string_view name) const {
    if (const auto* row = table_.find(name))
        return *row;
    if (const auto* row = table_.find(default_))
        return *row;
    return {};
}

} // namespace tandem::policy
