// SPDX-License-Identifier: Apache-2.0
// See stream_pool.hpp.
#include "dataplane/flow/stream_pool.hpp"

#include <algorithm>
#include <atomic>

#include "dataplane/crypto/keys.hpp"

namespace tandem::flow {

std::uint32_t stream_pool::used() const noexcept {
    return static_cast<std::uint32_t>(
        std::count_if(states_, states_ + capacity_, [](std::uint8_t s) { return s != free_; }));
}

std::optional<stream_pool::index> stream_pool::take_between(index from, index to, index& next) noexcept {
    constexpr index looks = 256; // four lines of states
    for (index n = std::min(looks, to - from); n > 0; --n) {
        const index at = next;
        next = at + 1 < to ? at + 1 : from;
        std::atomic_ref here(states_[at]);
        if (here.load(std::memory_order_relaxed) == free_ && here.exchange(taken_, std::memory_order_acquire) == free_)
            return at;
    }
    return std::nullopt;
}

std::optional<stream_pool::index> stream_pool::take(asker who) noexcept {
    const index half = capacity_ / 2;
    if (who == asker::authenticated)
        if (const auto at = take_between(half, capacity_, next_[1]))
            return at;
    return take_between(0, half, next_[0]);
}

void stream_pool::release(index at) const noexcept {
    if (at >= capacity_)
        return;
    crypto::wipe(&streams_[at], sizeof(stream));
    links_[at] = 0;
    std::atomic_ref(states_[at]).store(free_, std::memory_order_release);
}

void stream_pool::recover_begin() const noexcept {
    for (index at = 0; at < capacity_; ++at)
        if (states_[at] != free_)
            states_[at] = taken_;
}

bool stream_pool::mark(index at) const noexcept {
    if (at >= capacity_ || states_[at] != taken_)
        return false;
    states_[at] = marked_;
    return true;
}

void stream_pool::recover_end() const noexcept {
    for (index at = 0; at < capacity_; ++at)
        if (states_[at] == marked_)
            states_[at] = taken_;
        else if (states_[at] != free_)
            release(at);
}

} // namespace tandem::flow
