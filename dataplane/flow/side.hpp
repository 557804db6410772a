// SPDX-License-Identifier: Apache-2.0
// One side of a flow: what it takes to receive (in) or send (out) RTP and RTCP under a suite. Plain data without a
// pointer, in memory that survives the process; every function here keeps it safe against `kill -9` between any two
// stores. Sources: RFC 3711 3.3, 3.4, 9.2; RFC 5761; design sections 5 and 7; reliability goal 1.
//
// Threads: the worker that owns the flow calls prepare_*/commit_*; the control thread init_side, install, switch_to,
// retire and recover. What the control thread publishes to a live side is one 64-bit (epochs) or 8-bit (sending) store;
// a retired key is released only after the workers passed a quiescent point (the caller's duty).
//
// A burst in the pipeline, one crypto::op per packet:
//   prepare_unprotect (each) -> engine.unprotect(ops) -> commit_unprotect (each) -> prepare_protect (each) ->
//   engine.protect(ops)
// Each prepare/commit returns drop::none or the reason, and leaves it in op.result too, so engines skip that op.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "dataplane/api/contract.hpp"
#include "dataplane/api/drops.hpp"
#include "dataplane/crypto/engine.hpp"
#include "dataplane/crypto/key_pool.hpp"
#include "dataplane/media/replay.hpp"

namespace tandem::flow {

inline constexpr unsigned max_epochs = 3;
inline constexpr unsigned max_streams = 8; // SSRCs in force at once on one side

// What a stream (one SSRC) has besides its RTP window.
struct stream_rest {
    media::replay_window rtcp;     // out: only next() counts, the next SRTCP index
    std::uint32_t last_generation; // of the newest key that it was used under
    std::uint32_t last_use;        // side::clock when it was last turned to
};
// in: windows of what was accepted; out: of what was sent. Indices continue across epochs (RFC 3711 3.3.1).
struct stream {
    media::replay_window rtp;
    stream_rest rest;
};
static_assert(sizeof(stream) == 56);

struct alignas(64) side {
    // Line 0: all that an RTP packet of the first SSRC reads or writes (most flows have one).
    api::suite suite;
    std::uint8_t mki_length;
    api::side which;
    std::uint8_t sending;                // out: slot + 1 of the epoch now sent under; 0 = none
    std::uint8_t epoch_used[max_epochs]; // stream + 1 of the last packet under the epoch in that slot; 0 = not used yet
    std::uint64_t epochs[max_epochs];    // (key index + 1) << 32 | epoch number; 0 = empty; one store publishes
    std::uint64_t first_id;              // in use << 32 | SSRC; written last
    media::replay_window first_rtp;
    // Line 1: RTCP, another stream or another epoch than before.
    stream_rest first_rest;
    std::uint32_t generation;              // counts installed keys
    std::uint32_t generations[max_epochs]; // of the key in that slot: a higher one is newer
    std::uint32_t clock;                   // turns from one stream to another, for the age of streams
    std::uint32_t highest_epoch;           // ever installed (counts once generation > 0)
    std::uint64_t reserved;
    // The other SSRCs.
    std::uint64_t more_ids[max_streams - 1];
    stream more[max_streams - 1];

    [[nodiscard]] std::uint64_t& id(unsigned at) noexcept { return at == 0 ? first_id : more_ids[at - 1]; }
    [[nodiscard]] media::replay_window& rtp(unsigned at) noexcept { return at == 0 ? first_rtp : more[at - 1].rtp; }
    [[nodiscard]] stream_rest& rest(unsigned at) noexcept { return at == 0 ? first_rest : more[at - 1].rest; }
    [[nodiscard]] std::uint64_t id(unsigned at) const noexcept { return at == 0 ? first_id : more_ids[at - 1]; }
    [[nodiscard]] const media::replay_window& rtp(unsigned at) const noexcept {
        return at == 0 ? first_rtp : more[at - 1].rtp;
    }
    [[nodiscard]] const stream_rest& rest(unsigned at) const noexcept {
        return at == 0 ? first_rest : more[at - 1].rest;
    }
};
static_assert(offsetof(side, first_rtp) + sizeof(media::replay_window) == 64, "line 0");
static_assert(offsetof(side, more_ids) == 128 && sizeof(side) == 576);
static_assert(std::is_trivially_copyable_v<side> && std::is_standard_layout_v<side>);

// --- control thread
// ---------------------------------------------------------------------------------------------------

// A side without keys; mki_length 0..4 (0 where the suite is clear).
[[nodiscard]] api::status init_side(side& what, api::side which, api::suite suite, std::uint8_t mki_length) noexcept;

// Derives, expands into an unused key object and publishes. in: accepted at once (without an MKI the newest is the one
// tried). out: held ready, except that the first one is sent under at once. The same epoch with the same key again: ok;
// with another key: bad_epoch. Out-epochs only rise, so that no key comes back after its SSRCs may be forgotten.
[[nodiscard]] api::status install(side& what, crypto::key_pool& pool, crypto::engine& engine,
                                  const api::epoch_key& key) noexcept;

// out: sent under from now on. bad_epoch where it is not installed, or older than the one now sent under.
[[nodiscard]] api::status switch_to(side& what, std::uint32_t epoch) noexcept;

struct retired {
    api::status status;          // ok or bad_epoch
    crypto::key_pool::index key; // ok: pool.release() it after quiescence
};
[[nodiscard]] retired retire(side& what, std::uint32_t epoch) noexcept;

// Every epoch at once, for a flow's removal: unpublishes, returns how many key indices it wrote.
unsigned retire_all(side& what, crypto::key_pool::index (&keys)[max_epochs]) noexcept;

// Installed epochs, newest first; returns their number.
unsigned list_epochs(const side& what, std::uint32_t (&epochs)[max_epochs]) noexcept;
// Epoch now sent under; 0 where there is none.
[[nodiscard]] std::uint32_t sending_epoch(const side& what) noexcept;

// Once per side on restart, before any packet, between pool.recover_begin() and pool.recover_end(): every index up to
// the highest counts as seen, half-made streams vanish, keys in use are marked.
void recover(side& what, crypto::key_pool& pool) noexcept;

// --- worker
// -----------------------------------------------------------------------------------------------------------

// A hint for the burst, some packets ahead: all that most packets need of a side.
TANDEM_PREFETCHES void prefetch(const side& what) noexcept {
    __builtin_prefetch(&what, 0, 2);
}
// The key that a packet will most likely be under, once the side itself is near.
TANDEM_PREFETCHES void prefetch_key(const side& what, const crypto::key_pool& pool, std::size_t length) noexcept {
    const std::uint8_t sending = __atomic_load_n(&what.sending, __ATOMIC_RELAXED);
    const std::uint64_t entry = __atomic_load_n(&what.epochs[sending != 0 ? sending - 1 : 0], __ATOMIC_RELAXED);
    if (entry != 0)
        crypto::prefetch_key(pool[static_cast<std::uint32_t>(entry >> 32) - 1], what.suite, length);
}

// Is this the highest index of its SSRC? After commit_unprotect, which moved the window.
[[nodiscard]] bool is_newest(const side& in, const crypto::op& op) noexcept;

// Parses (RTP or RTCP, clear or protected) and makes the op ready; changes no state. Where the side is clear op.key is
// null. `data`, `length`: the UDP payload. op.rtcp, .header, .ssrc, .sequence, .epoch are set where drop::none is
// returned.
[[nodiscard]] api::drop prepare_unprotect(const side& in, const crypto::key_pool& pool, std::uint8_t* data,
                                          std::uint32_t length, crypto::op& op) noexcept;

// After engine.unprotect: makes the stream, moves the window, finds two equal packets of one burst. Call it in the
// packets' order for every op that prepare accepted, also one that failed (op.result): nothing changes then, but a
// packet whose index another packet of the same burst has clarified is tried once more.
[[nodiscard]] api::drop commit_unprotect(side& in, crypto::key_pool& pool, crypto::engine& engine,
                                         crypto::op& op) noexcept;

// The op as commit_unprotect left it (clear packet at op.packet, op.length) is made ready to be sent. `room`: bytes
// free behind the packet. The index is recorded as sent before this returns; an index sent before is refused.
[[nodiscard]] api::drop prepare_protect(side& out, crypto::key_pool& pool, std::uint32_t room, crypto::op& op) noexcept;

} // namespace tandem::flow
