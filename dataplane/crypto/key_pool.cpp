// SPDX-License-Identifier: Apache-2.0
// The key pool: one state byte per key (dense, so that a search touches few lines), then the objects. Control thread.
#include "dataplane/crypto/key_pool.hpp"

#include <algorithm>

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
    for (std::uint32_t tried = 0; tried < capacity_; ++tried) {
        const index at = hint_;
        hint_ = hint_ + 1 == capacity_ ? 0 : hint_ + 1;
        if (states_[at] == free_) {
            states_[at] = taken_;
            ++in_use_;
            return at;
        }
    }
    return std::nullopt;
}

void key_pool::release(index at) noexcept {
    if (at >= capacity_)
        return;
    wipe(&objects_[at], sizeof(key_object));
    if (states_[at] != free_ && in_use_ != 0)
        --in_use_;
    states_[at] = free_;
    hint_ = at; // a warm object is the next one taken
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
    std::uint32_t kept = 0;
    for (index at = 0; at < capacity_; ++at) {
        if (states_[at] == taken_) {
            release(at);
        } else if (states_[at] == marked_) {
            key_object& key = objects_[at];
            if (key.fingerprint != with.fingerprint()) {
                const session_keys raw = key.raw;
                const std::uint64_t rtp = key.rtp_packets;
                const std::uint64_t rtcp = key.rtcp_packets;
                static_cast<void>(with.build(key.suite, raw, key));
                key.rtp_packets = rtp;
                key.rtcp_packets = rtcp;
                wipe(const_cast<session_keys*>(&raw), sizeof raw);
            }
            states_[at] = taken_;
            ++kept;
        }
    }
    in_use_ = kept;
}

} // namespace tandem::crypto
