// SPDX-License-Identifier: Apache-2.0
// The history of a pair of addresses (profile.hpp): exact over at most 64 calls, so no sketch is needed.
#include "controlplane/protocol/profile.hpp"

#include <algorithm>

namespace tandem::protocol {

namespace {
constexpr std::chrono::hours told_late{48};
}

void profile::add(const past_call& call) {
    // Two gateways may tell of their calls in another order than these ended. A clock that was wrong for a while must
    // not put a call so far from where it belongs that it stays for ever, or never gets in.
    auto after = calls.end();
    while (after != calls.begin() && std::prev(after)->ended > call.ended &&
           std::prev(after)->ended - call.ended < told_late)
        --after;
    calls.insert(after, call);
    if (calls.size() > most_calls)
        calls.erase(calls.begin(), calls.end() - static_cast<std::ptrdiff_t>(most_calls));
    ++total;
}

std::pair<std::string, std::string> pair_of(const std::string& one, const std::string& other) {
    return one < other ? std::pair{one, other} : std::pair{other, one};
}

summary summarize(const profile& of, std::chrono::system_clock::time_point now, std::chrono::hours age) {
    summary result;
    std::vector<std::chrono::milliseconds> answered;
    answered.reserve(of.calls.size());
    std::chrono::milliseconds sum{};
    for (const auto& call : of.calls) {
        if (now - call.ended >= age)
            continue;
        result.failures += call.failed ? 1 : 0;
        if (call.failed && call.duration <= std::chrono::milliseconds::zero())
            continue; // never answered: it has no length
        answered.push_back(call.duration);
        sum += call.duration;
    }
    result.calls = answered.size();
    if (answered.empty())
        return result;
    result.last = answered.back();
    result.mean = sum / static_cast<std::int64_t>(answered.size());
    const auto middle = answered.begin() + static_cast<std::ptrdiff_t>(answered.size() / 2);
    std::nth_element(answered.begin(), middle, answered.end());
    result.median = answered.size() % 2 != 0 ? *middle : (*std::max_element(answered.begin(), middle) + *middle) / 2;
    return result;
}

} // namespace tandem::protocol
