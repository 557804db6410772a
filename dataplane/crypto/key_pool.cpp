// SPDX-License-Identifier: Apache-2.0
// The key pool: one state byte per key (dense, so that a search touches few lines), then the objects. Control thread.
#include "dataplane/crypto/key_pool.hpp"

#include <algorithm>
#include <cstring>

namespace tandem::crypto {

namespace {
[[nodiscard]] std::size_t states_bytes(std::uint32_t capacity) noexcept {
    return (std::size_t{capacity} + 63) / 64 * 64;
}
} // namespace

std::size_t key_pool::bytes(std::uint32_t capacity) noexcept {
    return states_bytes(capacity) + std::size_t{capacity} * sizeof(key_object);
}

key_pool::key_pool(void* memory, std::uint32_t capacity) noexcept
    : states_(static_cast<std::uint8_t*>(memory)),
      // The objects are implicit-lifetime data in shared memory; nothing is constructed.
      objects_(reinterpret_cast<key_object*>(static_cast<std::uint8_t*>(memory) + states_bytes(capacity))),
      capacity_(capacity) {}

std::uint32_t key_pool::used() const noexcept {
    return static_cast<std::uint32_t>(
        std::count_if(states_, states_ + capacity_, [](std::uint8_t value) { return value != free_; }));
}

std::optional<key_pool::index> key_pool::take() noexcept {
    const auto taken = [this](index at) {
        states_[at] = taken_;
        ++in_use_;
        return at;
    };
    while (!released_.empty()) {
        const index at = released_.back();
        released_.pop_back();
        if (states_[at] == free_)
            return taken(at);
    }
    for (; next_ < capacity_; ++next_)
        if (states_[next_] == free_)
            return taken(next_++);
    return std::nullopt;
}

void key_pool::release(index at) noexcept {
    if (at >= capacity_ || states_[at] == free_)
        return;
    wipe(&objects_[at], sizeof(key_object));
    states_[at] = free_;
    if (in_use_ != 0)
        --in_use_;
    released_.push_back(at);
}

void key_pool::recover_begin() noexcept {
    for (index at = 0; at < capacity_; ++at)
        if (states_[at] == marked_)
            states_[at] = taken_;
}

void key_pool::mark(index at) noexcept {
    if (at < capacity_)
        states_[at] = marked_;
}

void key_pool::recover_end(engine& with) noexcept {
    constexpr index at_once = 8; // the states are padded to 64
    in_use_ = 0;
    next_ = 0;
    released_.clear();
    for (index word = 0; word < capacity_; word += at_once) {
        std::uint64_t states = 0;
        std::memcpy(&states, states_ + word, sizeof states);
        for (index at = word; states != 0 && at < std::min(word + at_once, capacity_); ++at) {
            if (states_[at] == taken_) { // no side names it
                wipe(&objects_[at], sizeof(key_object));
                states_[at] = free_;
            } else if (states_[at] == marked_) {
                keep(objects_[at], with);
                states_[at] = taken_;
                ++in_use_;
            }
        }
    }
}

// Expanded by another engine, or another version of it: once more.
void key_pool::keep(key_object& key, engine& with) noexcept {
    if (key.fingerprint == with.fingerprint())
        return;
    session_keys raw = key.raw;
    const std::uint64_t rtp = key.rtp_packets;
    const std::uint64_t rtcp = key.rtcp_packets;
    static_cast<void>(with.build(key.suite, raw, key));
    key.rtp_packets = rtp;
    key.rtcp_packets = rtcp;
    wipe(&raw, sizeof raw);
}

} // namespace tandem::crypto
