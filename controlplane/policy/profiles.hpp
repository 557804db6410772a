// SPDX-License-Identifier: Apache-2.0
// Call profiles in memory, bounded: where there are too many, the pair that was quiet longest is put out (the store
// keeps it). Owner thread: the control plane's io_context.
#pragma once

#include <cstddef>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "controlplane/protocol/profile.hpp"

namespace tandem::policy {

class profile_memory {
public:
    explicit profile_memory(std::size_t most) : most_(most) {}

    // Both return how many had to go. A profile without calls is one that was removed.
    std::size_t replace(std::vector<protocol::profile> all);
    std::size_t put(protocol::profile one);
    std::size_t set_most(std::size_t most);
    // Of two canonical names, in any order.
    [[nodiscard]] const protocol::profile* find(const std::string& one, const std::string& other) const;
    [[nodiscard]] std::size_t size() const noexcept { return index_.size(); }

private:
    [[nodiscard]] std::size_t trim();

    std::size_t most_;
    std::list<protocol::profile> rows_; // the longest quiet first
    std::unordered_map<std::string, std::list<protocol::profile>::iterator> index_;
};

} // namespace tandem::policy
