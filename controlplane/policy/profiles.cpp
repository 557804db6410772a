// SPDX-License-Identifier: Apache-2.0
// Call profiles in memory (profiles.hpp).
#include "controlplane/policy/profiles.hpp"

#include <algorithm>

namespace tandem::policy {

namespace {

std::string key_of(const std::string& one, const std::string& other) {
    const auto [a, b] = protocol::pair_of(one, other);
    return a + '\n' + b; // no name has a line's end
}

auto last_end(const protocol::profile& of) {
    return of.calls.empty() ? std::chrono::system_clock::time_point{} : of.calls.back().ended;
}

} // namespace

std::size_t profile_memory::trim() {
    std::size_t gone = 0;
    for (; index_.size() > most_; ++gone) {
        index_.erase(key_of(rows_.front().a, rows_.front().b));
        rows_.pop_front();
    }
    return gone;
}

std::size_t profile_memory::put(protocol::profile one) {
    auto key = key_of(one.a, one.b);
    if (const auto found = index_.find(key); found != index_.end()) {
        rows_.erase(found->second);
        index_.erase(found);
    }
    if (one.calls.empty())
        return 0;
    one.calls.shrink_to_fit();
    index_.emplace(std::move(key), rows_.insert(rows_.end(), std::move(one)));
    return trim();
}

std::size_t profile_memory::replace(std::vector<protocol::profile> all) {
    std::sort(all.begin(), all.end(), [](const auto& x, const auto& y) { return last_end(x) < last_end(y); });
    rows_.clear();
    index_.clear();
    const auto extra = all.size() > most_ ? all.size() - most_ : 0;
    index_.reserve(all.size() - extra);
    std::size_t gone = extra;
    for (auto one = all.begin() + static_cast<std::ptrdiff_t>(extra); one != all.end(); ++one)
        gone += put(std::move(*one));
    return gone;
}

std::size_t profile_memory::set_most(std::size_t most) {
    most_ = most;
    return trim();
}

const protocol::profile* profile_memory::find(const std::string& one, const std::string& other) const {
    const auto found = index_.find(key_of(one, other));
    return found == index_.end() ? nullptr : &*found->second;
}

} // namespace tandem::policy
