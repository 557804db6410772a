// SPDX-License-Identifier: Apache-2.0
// The decision (design section 9).
#include "controlplane/policy/engine.hpp"

namespace tandem::policy {

decision engine::explain(const question&) const {
    return {by_name(settings_.default_level),
            "default",
            {{"default", settings_.default_level, "nothing else is known", true}}};
}

decision engine::decide(const question& call) {
    return explain(call);
}

level engine::by_name(std::string_view name) const {
    if (const auto* row = settings_.levels.find(name))
        return *row;
    if (const auto* row = settings_.levels.find(settings_.default_level))
        return *row;
    return {};
}

} // namespace tandem::policy
