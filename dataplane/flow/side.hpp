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

// One SSRC: indices continue across epochs (RFC 3711 3.3.1). in: windows of what was accepted; out: of what was sent.
struct stream {
    media::replay_window rtp;
    media::replay_window rtcp;     // out: only next() counts, the next SRTCP index
    std::uint32_t last_generation; // of the newest key that it was used under
    std::uint32_t last_use;        // side::clock at its last packet
    std::uint64_t reserved;
};
static_assert(sizeof(stream) == 64);

struct alignas(64) side {
    api::suite suite;
    std::uint8_t mki_length;
    api::side which;
    std::uint32_t generation;              // counts installed keys
    std::uint64_t epochs[max_epochs];      // (key index + 1) << 32 | epoch number; 0 = empty; one store publishes
    std::uint32_t generations[max_epochs]; // of the key in that slot: a higher one is newer
    std::uint8_t sending;                  // out: slot + 1 of the epoch now sent under; 0 = none
    std::uint8_t epoch_used[max_epochs];   // in: a packet authenticated under the epoch in that slot
    std::uint64_t expected;                // in: RTP packets by sequence numbers (RFC 3550 A.3), summed over SSRCs
    std::uint32_t clock;                   // packets, for the age of streams
    std::uint32_t highest_epoch;           // ever installed (counts once generation > 0)
    std::uint64_t ids[max_streams];        // in use << 32 | SSRC; written last
    stream streams[max_streams];
};
static_assert(sizeof(side) == 128 + 64 * max_streams);
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

// A hint for the burst, some packets ahead: the side's header, its SSRCs, its first stream (most flows have one).
inline void prefetch(const side& what) noexcept {
    __builtin_prefetch(&what);
    __builtin_prefetch(&what.ids);
    __builtin_prefetch(&what.streams[0]);
}

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
