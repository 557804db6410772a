// SPDX-License-Identifier: Apache-2.0
// What goes along when a flow takes the place of others (store::replace): the keys, planned by the control thread
// beside the flows in force; streams, source and remotes, copied by their worker between two bursts; counters, which
// lie in the stats segment. Here is what is carried over; when, and that it is all or nothing, is store_replace.cpp's.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "dataplane/api/stats.hpp"
#include "dataplane/crypto/key_pool.hpp"
#include "dataplane/flow/memory.hpp"
#include "dataplane/flow/port_table.hpp"

namespace tandem::flow {

// The old sides that a new one goes on with.
struct old_sides {
    const side* first = nullptr;  // null = none: it begins anew
    const side* second = nullptr; // the RTCP's, where two flows become one
    bool streams = false;         // indices and windows go along; plan_side() says so
    bool whole = false;           // nobody else takes the first one's places: they are taken as they are
};

// Key objects of one group's new sides. An old one is used by the first new side that goes on with it, so that its
// count of packets goes on (RFC 3711 9.2); for another side of an un-mux it is made a second time.
class key_moves {
public:
    key_moves(crypto::key_pool& pool, crypto::engine& builder) noexcept : pool_(pool), builder_(builder) {}

    // The object that a new side may name for an old side's; nothing where the pool is full.
    [[nodiscard]] std::optional<crypto::key_pool::index> take(crypto::key_pool::index old);
    // An object that was made for a new side.
    void made(crypto::key_pool::index key) { made_.push_back(key); }
    // The two count the same packets: where one was made from the other, or both go on as one.
    void join_counts(crypto::key_pool::index from, crypto::key_pool::index to) { counts_.push_back({from, to}); }

    void carry_counts() noexcept; // on the worker
    void undo() noexcept;         // nothing came of it: what was made is wiped
    [[nodiscard]] bool moved(crypto::key_pool::index old) const noexcept;
    [[nodiscard]] crypto::key_pool& pool() noexcept { return pool_; }
    [[nodiscard]] crypto::engine& builder() noexcept { return builder_; }

private:
    struct pair {
        crypto::key_pool::index from, to;
    };
    crypto::key_pool& pool_;
    crypto::engine& builder_;
    std::vector<crypto::key_pool::index> moved_, made_;
    std::vector<pair> counts_;
};

// Control thread: a new side with its keys, not in force yet. `key`: the first epoch's where `choice` is fresh, or
// null. The old sides are only read, and only what this thread owns of them.
[[nodiscard]] api::status plan_side(side& to, api::side which, const api::side_config& config, old_sides& from,
                                    api::key_choice choice, const api::epoch_key* key, key_moves& moves);

// Is a key of the one a key of the other, too?
[[nodiscard]] bool shares_key(const side& a, const side& b, const crypto::key_pool& pool) noexcept;

// Worker, between two bursts: the streams into a planned side of a flow that carries this (api::carries). A side of
// another suite keeps what the sequence numbers were moved by. False where there is no room for them.
[[nodiscard]] bool carry_streams(side& to, stream_pool& streams, const old_sides& from, std::uint8_t carries) noexcept;

// Worker: who was heard, where that still counts.
void carry_source(record& to, const record& from) noexcept;

// A remote that the new flow does not name (port 0) is where it was, for what it carries. `rtp`, `rtcp`: the ways of
// the old flows that carried these; null = none. Where the out-leg turns to mux or from it, RTCP's follows or is not
// known.
void carry_remotes(route& to, std::uint8_t carries, const route* rtp, const route* rtcp) noexcept;
// Does a remote that the new flow names differ from where the old ones sent to?
[[nodiscard]] bool is_sent_elsewhere(const route& named, std::uint8_t carries, const route* rtp,
                                     const route* rtcp) noexcept;

// A new flow and the old ones (by slot; no_slot: none) whose state it goes on with.
struct succession {
    slot_index to = no_slot;
    std::array<slot_index, 2> in{no_slot, no_slot}; // whose in-sides: RTP's first, where they are two
    std::array<slot_index, 2> out{no_slot, no_slot};
    std::array<bool, 2> errors{}; // of in: what that one counted of refused packets is this one's
};

// Counters, by what both flows carry (api::carries); `errors`: those of refused packets too.
void carry_counters(api::flow_stats& to, const api::flow_stats& from, std::uint8_t carries, bool errors) noexcept;
void carry_counters(std::span<api::flow_stats> all, record_column records, const succession& flow) noexcept; // by slot

} // namespace tandem::flow
