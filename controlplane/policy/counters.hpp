// SPDX-License-Identifier: Apache-2.0
// Counters of policy, generated from counters.def. Owner: the control plane's io_context.
#pragma once

#include <cstdint>
#include <string_view>

namespace tandem::policy {

struct counters {
#define X(name, text) std::uint64_t name = 0;
#include "controlplane/policy/counters.def"
#undef X

    // visit(name, text, value) for each, in order.
    template <class Visitor>
    void for_each(Visitor&& visit) const {
#define X(name, text) visit(std::string_view(#name), std::string_view(text), name);
#include "controlplane/policy/counters.def"
#undef X
    }
};

} // namespace tandem::policy
