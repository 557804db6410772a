// SPDX-License-Identifier: Apache-2.0
// [names] of agent.toml.
#pragma once

#include <optional>
#include <vector>

#include "controlplane/link/endpoint.hpp"
#include "tools/agent/names/answers.hpp"

namespace tandem::agent {

struct name_settings {
    std::optional<link::endpoint> listen; // none: nobody is answered
    std::vector<link::endpoint> servers;  // asked for all other names, in this order
    name_answers answers;                 // of the [[forward]]s that have a name
};

} // namespace tandem::agent
