// SPDX-License-Identifier: Apache-2.0
// Test support: every way that a model can go, step by step. A model is a value with steps() (what can happen now;
// nothing: it has come to its end), apply(step), at_the_end() and fingerprint() (equal where it goes on alike); they
// throw failure where something does not hold.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tandem::protocol::exploring {

struct failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};
inline void require(bool holds, const char* what) {
    if (!holds)
        throw failure(what);
}

struct explored {
    std::size_t states = 0, taken = 0, ends = 0, deepest = 0;
    std::string wrong; // what, and the steps that led there
};

// Depth first; a state that is on the way to itself would be a circle. `make` gives the first one, `told` a step in
// words. Says how much there was.
template <class Make, class Told>
explored explore(const char* name, Make make, Told told) {
    using model = decltype(make());
    using steps = decltype(std::declval<const model&>().steps());
    struct place {
        model at;
        steps ways;
        std::size_t next;
        std::uint64_t print;
    };
    const auto began = std::chrono::steady_clock::now();
    explored r;
    std::unordered_map<std::uint64_t, bool> seen; // true = on the way
    std::vector<place> way;
    const auto enter = [&](model&& m) {
        const auto print = m.fingerprint();
        const auto [at, fresh] = seen.emplace(print, true);
        require(fresh || !at->second, "a circle");
        if (!fresh)
            return;
        auto ways = m.steps();
        if (ways.empty()) {
            m.at_the_end();
            ++r.ends;
        }
        way.push_back({std::move(m), std::move(ways), 0, print});
        r.deepest = std::max(r.deepest, way.size());
    };
    try {
        enter(make());
        while (!way.empty()) {
            auto& top = way.back();
            if (top.next == top.ways.size()) {
                seen[top.print] = false;
                way.pop_back();
                continue;
            }
            const auto now = top.ways[top.next++];
            auto m = top.at;
            ++r.taken;
            m.apply(now);
            enter(std::move(m));
        }
    } catch (const failure& f) {
        r.wrong = std::string(f.what()) + ", after:";
        for (const auto& place : way)
            if (place.next > 0)
                r.wrong += "\n  " + told(place.ways[place.next - 1]);
    }
    r.states = seen.size();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    std::printf("%s: %zu states, %zu steps, %zu ends, %zu deep, %.1f s\n", name, r.states, r.taken, r.ends, r.deepest,
                took.count());
    return r;
}

// Sanitized, which is a hundred times slower, the plans with few states alone.
template <class Plan, std::size_t count>
std::vector<Plan> affordable(const Plan (&plans)[count]) {
    std::vector<Plan> all(std::begin(plans), std::end(plans));
#ifdef __SANITIZE_ADDRESS__
    std::erase_if(all, [](const Plan& p) { return !p.few; });
#endif
    return all;
}

} // namespace tandem::protocol::exploring
