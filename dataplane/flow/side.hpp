// SPDX-License-Identifier: Apache-2.0
// One side of a flow: what it takes to receive (in) or send (out) RTP and RTCP under a suite. Plain data without a
// pointer, in memory that survives the process; every function here keeps it safe against `kill -9` between any two
// stores. Sources: RFC 3711 3.3, 3.4, 9.2; RFC 5761.
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
#include <optional>
#include <span>
#include <type_traits>

#include "dataplane/api/contract.hpp"
#include "dataplane/api/drops.hpp"
#include "dataplane/crypto/engine.hpp"
#include "dataplane/crypto/key_pool.hpp"
#include "dataplane/flow/stream_pool.hpp"

namespace tandem::flow {

inline constexpr unsigned max_epochs = 3;
inline constexpr unsigned own_streams = 1;   // SSRCs that a side has a place of its own for: most see one
inline constexpr unsigned max_streams = 64;  // SSRCs in force at once, the others in the pool
inline constexpr unsigned clear_streams = 8; // that a clear in-side remembers: anyone can send there

struct alignas(64) side {
    // Line 0: all that an RTP packet of the first SSRC reads or writes (most flows have one).
    api::suite suite;
    std::uint8_t mki_length;
    api::side which;
    std::uint8_t sending;                // out: slot + 1 of the epoch now sent under; 0 = none
    std::uint8_t epoch_used[max_epochs]; // stream + 1 of the last packet under the epoch in that slot; 0 = not used yet
    std::uint64_t epochs[max_epochs];    // (key index + 1) << 32 | MKI; 0 = empty; one store publishes
    std::uint64_t first_id;              // stream id (side_internal.hpp): SSRC, in use, offset; written last
    rtp::replay_window first_rtp;
    // Line 1: RTCP, another stream or another epoch than before.
    stream_rest first_rest;
    std::uint32_t numbers[max_epochs];     // the control plane's, of the epoch in that slot: a higher one is newer
    std::uint32_t highest_epoch;           // ever installed (counts once generation != 0)
    std::uint16_t generations[max_epochs]; // of the key in that slot: two epochs of equal keys have the same
    std::uint16_t generation;              // counts different keys, never 0 again
    std::uint32_t clock;                   // turns from one stream to another, for the age of streams
    std::uint32_t more;                    // of the pool, with further SSRCs: the first place + 1; 0 = none
};
static_assert(offsetof(side, first_rtp) + sizeof(rtp::replay_window) == 64, "line 0");
static_assert(sizeof(side) == 128);
static_assert(std::is_trivially_copyable_v<side> && std::is_standard_layout_v<side>);

// --- control thread
// ---------------------------------------------------------------------------------------------------

// A side without keys; mki_length 0..4 (0 where the suite is clear).
[[nodiscard]] api::status init_side(side& what, api::side which, api::suite suite, std::uint8_t mki_length) noexcept;

// Derives, expands into an unused key object and publishes. in: accepted at once (without an MKI the newest is the one
// tried). out: held ready, except that the first one is sent under at once. The same epoch with the same key again: ok;
// with another key, or an MKI that another key in force has: bad_epoch. Out-epochs only rise, so that no key comes back
// after its SSRCs may be forgotten. A key equal to one that is installed is that key: one object, one generation, one
// count of packets.
[[nodiscard]] api::status install(side& what, crypto::key_pool& pool, crypto::engine& engine,
                                  const api::epoch_key& key) noexcept;

// out: sent under from now on. bad_epoch where it is not installed, or older than the one now sent under.
[[nodiscard]] api::status switch_to(side& what, std::uint32_t epoch) noexcept;

struct retired {
    api::status status;                         // ok or bad_epoch
    std::optional<crypto::key_pool::index> key; // pool.release() it after quiescence; nothing: another epoch has it
};
[[nodiscard]] retired retire(side& what, std::uint32_t epoch) noexcept;

// Every epoch at once, for a flow's removal: unpublishes, returns how many key indices it wrote.
unsigned retire_all(side& what, crypto::key_pool::index (&keys)[max_epochs]) noexcept;

// Installed epochs, newest first; returns their number.
unsigned list_epochs(const side& what, std::uint32_t (&epochs)[max_epochs]) noexcept;
// Epoch now sent under; 0 where there is none.
[[nodiscard]] std::uint32_t sending_epoch(const side& what) noexcept;

// Once per side on restart, before any packet, between recover_begin() and recover_end() of both pools: every index up
// to the highest counts as seen, half-made streams vanish, keys and places in use are marked.
void recover(side& what, crypto::key_pool& pool, const stream_pool& streams) noexcept;

// Gives the pool its places back, for a flow's removal.
void release_streams(side& what, const stream_pool& streams) noexcept;

// --- streams from elsewhere (side_streams.cpp). A side that was copied as a whole (`to = from`) is the same one twice:
// one of the two is in force, the other is abandoned, so that wiping it takes nothing from the first.
void abandon(side& what) noexcept;

enum stream_kinds : unsigned { rtp_streams = 1, rtcp_streams = 2 };
// Adds what `from` knows of its SSRCs, as far as `kinds` go, to a side of the same kind (two flows become one, one
// becomes two). False where the pool has no room: the side is then not fit to be used.
[[nodiscard]] bool take_streams(side& to, stream_pool& streams, const side& from, unsigned kinds) noexcept;

// What there is of each SSRC, every index below the highest taken for seen; returns the number. Any thread.
unsigned list_streams(const side& what, const stream_pool& streams,
                      std::span<api::stream_state, max_streams> to) noexcept;

// A stream from a copy, into a side that has had no key yet: it counts as used under the first one. bad_state where it
// cannot be true, is known already, or where there is no place.
[[nodiscard]] api::status put_stream(side& what, stream_pool& streams, const api::stream_state& state) noexcept;

// --- worker
// -----------------------------------------------------------------------------------------------------------

// A hint for the burst, some packets ahead: all that most packets need of a side.
TANDEM_PREFETCHES void prefetch(const side& what) noexcept {
    __builtin_prefetch(&what, 0, 2);
}
// The first line of the key that a packet will most likely be under, once the side itself is near. The engine asks for
// the others.
TANDEM_PREFETCHES void prefetch_key(const side& what, const crypto::key_pool& pool) noexcept {
    const std::uint8_t sending = __atomic_load_n(&what.sending, __ATOMIC_RELAXED);
    const std::uint64_t entry = __atomic_load_n(&what.epochs[sending != 0 ? sending - 1 : 0], __ATOMIC_RELAXED);
    if (entry != 0)
        __builtin_prefetch(&pool[static_cast<std::uint32_t>(entry >> 32) - 1], 0, 2);
}

// Is this the highest index of its SSRC? After commit_unprotect, which moved the window.
[[nodiscard]] bool is_newest(const side& in, const stream_pool& streams, const crypto::op& op) noexcept;

// The number of the epoch that an op's key is of (op.epoch holds it only where something is to be told).
[[nodiscard]] std::uint32_t epoch_of(const side& what, const crypto::op& op) noexcept;

// Parses (RTP or RTCP, clear or protected) and makes the op ready; changes no state. Where the side is clear op.key is
// null. `data`, `length`: the UDP payload. op.rtcp, .header, .ssrc, .sequence are set where drop::none is returned.
[[nodiscard]] api::drop prepare_unprotect(const side& in, const crypto::key_pool& pool, const stream_pool& streams,
                                          std::uint8_t* data, std::uint32_t length, crypto::op& op) noexcept;

// After a wrong tag: might it be right under another roll-over counter? For an SSRC that was not heard yet that is 1
// (its packets before the first wrap were lost), for one that was not heard under a new key yet it is 0 (RFC 3711 3.3.1
// lets it go on, RFC 4568 7.1.4 begin anew; peers do either). Whoever sends forged packets chooses such an SSRC: the
// caller grants a bounded number of tries.
[[nodiscard]] bool has_another_index(const side& in, const stream_pool& streams, const crypto::op& op) noexcept;

// After engine.unprotect: makes the stream, moves the window, finds two equal packets of one burst. Call it in the
// packets' order for every op that prepare accepted, also one that failed (op.result): nothing changes then, but a
// packet whose index another packet of the same burst has clarified is tried once more, and one with another index
// where `another` says so.
[[nodiscard]] api::drop commit_unprotect(side& in, crypto::key_pool& pool, stream_pool& streams, crypto::engine& engine,
                                         crypto::op& op, bool another = false) noexcept;

// The op as commit_unprotect left it (clear packet at op.packet, op.length) is made ready to be sent. `room`: bytes
// free behind the packet. The index is recorded as sent before this returns; an index sent before is refused. Where the
// source's sequence began anew the packet's is changed, so that the indices go on. A clear side only undoes what an
// earlier one of its leg has changed.
[[nodiscard]] api::drop prepare_protect(side& out, crypto::key_pool& pool, stream_pool& streams, std::uint32_t room,
                                        crypto::op& op) noexcept;

// --- what follows from changed sequences
// The sequence on the wire minus the source's, of an SSRC that an out-side has sent; 0 for others.
[[nodiscard]] std::uint16_t offset_of(const side& out, const stream_pool& streams, std::uint32_t ssrc) noexcept;
[[nodiscard]] bool has_offsets(const side& out, const stream_pool& streams) noexcept;
// The original sequence number of a retransmission (RFC 4588; clear, before it is protected), as the receiver knows it.
void shift_original(const side& out, const stream_pool& streams, crypto::op& op) noexcept;

} // namespace tandem::flow
