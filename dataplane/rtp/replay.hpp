// SPDX-License-Identifier: Apache-2.0
// Replay window over packet indices (RFC 3711 3.3.2), for what is received and, as a guard against two-time pads, for
// what is sent. One per (SSRC, side, RTP or RTCP). Owner thread: the worker that owns the flow; no locks.
//
// check() never changes state, so a forged packet cannot move the window; update() only after the tag was verified.
//
// The object lives in memory that survives `kill -9` at any instruction. What must be true then: no index that was ever
// handed on is taken again. `next_` (highest index + 1) is one aligned 64-bit store made before the packet is handed
// on, and recover(), run once on restart, treats every index below `next_` as seen. So no order of the bitmap's stores
// matters; the price is only that packets which were reordered across the crash are refused.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <type_traits>

#include "dataplane/api/drops.hpp"

namespace tandem::rtp {

// One store that another process may find half a program later: never torn, never moved behind what follows it.
constexpr void commit_store(std::uint64_t& where, std::uint64_t value) noexcept {
    if (std::is_constant_evaluated()) {
        where = value;
        return;
    }
    std::atomic_ref<std::uint64_t>(where).store(value, std::memory_order_release);
    std::atomic_thread_fence(std::memory_order_release); // later stores (the packet leaving) stay behind it
    std::atomic_signal_fence(std::memory_order_seq_cst);
}

class replay_window {
public:
    static constexpr std::uint64_t size = 128; // RFC 3711 asks for at least 64

    // none, srtp_replay or srtp_too_old.
    [[nodiscard]] constexpr api::drop check(std::uint64_t index) const noexcept {
        if (index >= next_)
            return api::drop::none;
        if (next_ - 1 - index >= size)
            return api::drop::srtp_too_old;
        return (word(index) & bit(index)) != 0 ? api::drop::srtp_replay : api::drop::none;
    }

    // `index` was accepted (or is about to be sent): remembered before this returns.
    constexpr void update(std::uint64_t index) noexcept {
        if (index < next_) {
            word(index) |= bit(index);
            std::atomic_signal_fence(std::memory_order_seq_cst);
            return;
        }
        if (index - next_ >= size)
            seen_ = {};
        else
            for (std::uint64_t skipped = next_; skipped < index; ++skipped)
                word(skipped) &= ~bit(skipped);
        word(index) |= bit(index);
        commit_store(next_, index + 1);
    }

    // The first index of a sequence that begins anew, also below those so far: nothing else of it was seen. Not for
    // what is sent, nor for a key under which this window was moved: there it would let packets in again.
    constexpr void begin_at(std::uint64_t index) noexcept {
        seen_ = {};
        word(index) |= bit(index);
        commit_store(next_, index + 1);
    }

    constexpr void clear() noexcept {
        seen_ = {};
        commit_store(next_, 0);
    }

    // After a crash: whatever the bitmap says, every index below `next_` counts as seen.
    constexpr void recover() noexcept { seen_ = {~std::uint64_t{0}, ~std::uint64_t{0}}; }

    [[nodiscard]] constexpr bool started() const noexcept { return next_ != 0; }
    [[nodiscard]] constexpr std::uint64_t next() const noexcept { return next_; } // highest index + 1; 0 = none yet

    // For a copy by another thread than the owner, which then takes every index below it for seen.
    [[nodiscard]] std::uint64_t shared_next() const noexcept {
        return std::atomic_ref<std::uint64_t>(const_cast<std::uint64_t&>(next_)).load(std::memory_order_acquire);
    }
    // Another window's content: bit i of `seen`, the least significant of [0] first, is index next - 1 - i.
    static constexpr replay_window restored(std::uint64_t next, const std::uint64_t (&seen)[2]) noexcept {
        replay_window made;
        for (std::uint64_t i = 0; i < size && i < next; ++i)
            if ((seen[i / 64] >> i % 64 & 1) != 0)
                made.word(next - 1 - i) |= bit(next - 1 - i);
        made.next_ = next;
        return made;
    }

private:
    // A circular bitmap: index i has bit i % size, so that moving the window copies nothing.
    [[nodiscard]] static constexpr std::uint64_t bit(std::uint64_t index) noexcept {
        return std::uint64_t{1} << (index % 64);
    }
    [[nodiscard]] constexpr std::uint64_t& word(std::uint64_t index) noexcept { return seen_[index / 64 % 2]; }
    [[nodiscard]] constexpr const std::uint64_t& word(std::uint64_t index) const noexcept {
        return seen_[index / 64 % 2];
    }

    alignas(8) std::uint64_t next_ = 0;
    std::array<std::uint64_t, size / 64> seen_{};
};
static_assert(sizeof(replay_window) == 24 && std::is_trivially_copyable_v<replay_window>);

} // namespace tandem::rtp
