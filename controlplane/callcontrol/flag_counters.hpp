// SPDX-License-Identifier: Apache-2.0
// How often something was asked that we do not do, by its name. The names come from outside, so there are no more than
// `most`; what comes later counts together. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::callcontrol {

class flag_counters {
public:
    static constexpr std::size_t most = 64;

    void count(const std::vector<std::string>& names) {
        for (const auto& name : names)
            if (const auto known = counts_.find(name); known != counts_.end())
                ++known->second;
            else if (counts_.size() < most)
                counts_.emplace(name, 1);
            else
                ++others_;
    }
    [[nodiscard]] const std::map<std::string, std::uint64_t, std::less<>>& each() const noexcept { return counts_; }
    [[nodiscard]] std::uint64_t others() const noexcept { return others_; }

private:
    std::map<std::string, std::uint64_t, std::less<>> counts_;
    std::uint64_t others_ = 0;
};

} // namespace tandem::callcontrol
