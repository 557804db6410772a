// SPDX-License-Identifier: Apache-2.0
// Streams (one SSRC each) and the pool that a side takes its further ones from, after the first: places of one line in
// the state memory, shared by all flows and workers, so that a usual flow is no larger for the few that see many SSRCs.
//
// A place is taken by one atomic exchange (any worker, or the control thread) and linked to its side by one store after
// that. Packets that authenticated, and what is sent, may have any place; clear media, which anyone can send, has the
// first half of them at most. It goes back, wiped, when its flow was wiped (control thread, after quiescence). What a
// kill left taken but not linked is wiped by recovery.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>

#include "dataplane/rtp/replay.hpp"

namespace tandem::flow {

// What a stream has besides its RTP window.
struct stream_rest {
    rtp::replay_window rtcp;       // out: only next() counts, the next SRTCP index
    std::uint32_t last_use;        // side::clock when it was last turned to
    std::uint16_t last_generation; // of the newest key that it was used under
    std::uint16_t reserved;
};
// in: windows of what was accepted; out: of what was sent. Indices continue across epochs (RFC 3711 3.3.1).
struct alignas(64) stream {
    std::uint64_t id; // side_internal.hpp; written last
    rtp::replay_window rtp;
    stream_rest rest;
};
static_assert(sizeof(stream) == 64 && std::is_trivially_copyable_v<stream>);

// A view, as key_pool is: copy it freely.
class stream_pool {
public:
    using index = std::uint32_t;

    [[nodiscard]] static constexpr std::size_t bytes(std::uint32_t capacity) noexcept {
        return states_bytes(capacity) + links_bytes(capacity) + std::size_t{capacity} * sizeof(stream);
    }
    // Of one place, with its state and its link.
    static constexpr std::size_t bytes_each = sizeof(stream) + sizeof(std::uint32_t) + 1;

    stream_pool() noexcept = default; // without places
    // Over zeroed memory, or over memory that a predecessor filled: the same call, nothing is written.
    stream_pool(void* memory, std::uint32_t capacity) noexcept
        : states_(static_cast<std::uint8_t*>(memory)),
          links_(reinterpret_cast<std::uint32_t*>(states_ + states_bytes(capacity))),
          streams_(reinterpret_cast<stream*>(states_ + states_bytes(capacity) + links_bytes(capacity))),
          capacity_(capacity), next_{0, capacity / 2} {}

    [[nodiscard]] std::uint32_t capacity() const noexcept { return capacity_; }
    [[nodiscard]] std::uint32_t used() const noexcept; // walks the states: control thread, rarely
    [[nodiscard]] stream& operator[](index at) const noexcept { return streams_[at]; }
    // The next one of the same side, + 1; 0 = none. Apart from the streams: one line has the links of 16.
    [[nodiscard]] std::uint32_t& link(index at) const noexcept { return links_[at]; }

    // A wiped place. Looks at a bounded number of them and goes on there the next time: nothing where all of these are
    // taken. Neither locks nor waits.
    enum class asker : std::uint8_t { authenticated, anyone };
    [[nodiscard]] std::optional<index> take(asker who = asker::authenticated) noexcept;
    // Wipes, then frees. No worker may still read it.
    void release(index at) const noexcept;

    // Restart: begin, then mark() every place that a side names (flow::recover does), then end: the rest is wiped and
    // free.
    void recover_begin() const noexcept;
    // False where there is no such place, or where another side names it already.
    [[nodiscard]] bool mark(index at) const noexcept;
    void recover_end() const noexcept;

private:
    enum state : std::uint8_t { free_, taken_, marked_ };
    [[nodiscard]] static constexpr std::size_t states_bytes(std::uint32_t capacity) noexcept {
        return (std::size_t{capacity} + 63) / 64 * 64;
    }
    [[nodiscard]] static constexpr std::size_t links_bytes(std::uint32_t capacity) noexcept {
        return (std::size_t{capacity} * sizeof(std::uint32_t) + 63) / 64 * 64;
    }
    [[nodiscard]] std::optional<index> take_between(index from, index to, index& next) noexcept;

    std::uint8_t* states_ = nullptr; // dense, apart from the streams: a search touches few lines
    std::uint32_t* links_ = nullptr;
    stream* streams_ = nullptr;
    std::uint32_t capacity_ = 0;
    index next_[2] = {}; // where take() goes on, in each half
};

} // namespace tandem::flow
