// SPDX-License-Identifier: Apache-2.0
// Counters of sessions and of their connections, generated from the two counters.def. Owner: the control plane's
// io_context.
#pragma once

#include <cstdint>
#include <string_view>

#include "controlplane/tunnel/counters.hpp"

namespace tandem::session {

struct counters : tunnel::counters {
#define X(name, text) std::uint64_t name = 0;
#include "controlplane/session/counters.def"
#undef X

    // visit(name, text, value) for each, in order.
    template <class Visitor>
    void for_each(Visitor&& visit) const {
        tunnel::counters::for_each(visit);
#define X(name, text) visit(std::string_view(#name), std::string_view(text), name);
#include "controlplane/session/counters.def"
#undef X
    }
};

} // namespace tandem::session
