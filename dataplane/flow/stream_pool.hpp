// SPDX-License-Identifier: Apache-2.0
// Streams (one SSRC each) and the pool that a side takes further ones from when its own places are full: blocks in the
// state memory, shared by all flows and workers, so that a usual flow is no larger for the few that see many SSRCs.
//
// A block is taken by one atomic exchange (any worker, or the control thread) and linked to its side by one store after
// that; only packets that authenticated, and what is sent, make streams. It goes back, wiped, when its flow was wiped
// (control thread, after quiescence). What a kill left taken but not linked is wiped by recovery.
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
struct stream {
    rtp::replay_window rtp;
    stream_rest rest;
};
static_assert(sizeof(stream) == 56);

inline constexpr unsigned streams_in_block = 7;

struct alignas(64) stream_block {
    std::uint64_t next; // block + 1; 0 = the last one of its side
    std::uint64_t ids[streams_in_block];
    stream streams[streams_in_block];
};
static_assert(offsetof(stream_block, streams) == 64 && sizeof(stream_block) == 512);
static_assert(std::is_trivially_copyable_v<stream_block>);

// A view, as key_pool is: copy it freely.
class stream_pool {
public:
    using index = std::uint32_t;

    [[nodiscard]] static constexpr std::size_t bytes(std::uint32_t capacity) noexcept {
        return states_bytes(capacity) + std::size_t{capacity} * sizeof(stream_block);
    }
    stream_pool() noexcept = default; // without blocks
    // Over zeroed memory, or over memory that a predecessor filled: the same call, nothing is written.
    stream_pool(void* memory, std::uint32_t capacity) noexcept
        : states_(static_cast<std::uint8_t*>(memory)),
          blocks_(reinterpret_cast<stream_block*>(static_cast<std::byte*>(memory) + states_bytes(capacity))),
          capacity_(capacity) {}

    [[nodiscard]] std::uint32_t capacity() const noexcept { return capacity_; }
    [[nodiscard]] std::uint32_t used() const noexcept; // walks the states: control thread, rarely
    [[nodiscard]] stream_block& operator[](index at) const noexcept { return blocks_[at]; }

    // A wiped block. Looks at a bounded number of them and goes on there the next time: nothing where all of these are
    // taken. Neither locks nor waits.
    [[nodiscard]] std::optional<index> take() noexcept;
    // Wipes, then frees. No worker may still read it.
    void release(index at) const noexcept;

    // Restart: begin, then mark() every block that a side names (flow::recover does), then end: the rest is wiped and
    // free.
    void recover_begin() const noexcept;
    // False where there is no such block, or where another side names it already.
    [[nodiscard]] bool mark(index at) const noexcept;
    void recover_end() const noexcept;

private:
    enum state : std::uint8_t { free_, taken_, marked_ };
    [[nodiscard]] static constexpr std::size_t states_bytes(std::uint32_t capacity) noexcept {
        return (std::size_t{capacity} + 63) / 64 * 64;
    }

    std::uint8_t* states_ = nullptr; // dense, apart from the blocks: a search touches few lines
    stream_block* blocks_ = nullptr;
    std::uint32_t capacity_ = 0;
    index next_ = 0; // where take() goes on
};

} // namespace tandem::flow
