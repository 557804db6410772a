// SPDX-License-Identifier: Apache-2.0
// See carry.hpp.
#include "dataplane/flow/carry.hpp"

#include <algorithm>

#include "dataplane/flow/side_internal.hpp"

namespace tandem::flow {

using namespace detail;

// --- keys
// -----------------------------------------------------------------------------------------------------------

bool key_moves::moved(crypto::key_pool::index old) const noexcept {
    return std::find(moved_.begin(), moved_.end(), old) != moved_.end();
}

std::optional<crypto::key_pool::index> key_moves::take(crypto::key_pool::index old) {
    if (!moved(old)) {
        moved_.push_back(old);
        return old;
    }
    const api::suite suite = pool_[old].suite;
    const auto second = pool_.take(suite);
    if (!second)
        return std::nullopt;
    crypto::session_keys raw = pool_[old].cold().raw;
    const bool built = builder_.build(suite, raw, pool_[*second]);
    crypto::wipe(&raw, sizeof raw);
    made_.push_back(*second);
    join_counts(old, *second);
    return built ? second : std::nullopt;
}

void key_moves::carry_counts() noexcept {
    for (const auto& [from, to] : counts_) {
        crypto::key_object &old = pool_[from], &now = pool_[to];
        now.rtp_packets = std::max(now.rtp_packets, old.rtp_packets);
        now.cold().rtcp_packets = std::max(now.cold().rtcp_packets, old.cold().rtcp_packets);
    }
}

void key_moves::undo() noexcept {
    for (const auto key : made_)
        pool_.release(key);
}

namespace {

struct place {
    const side* of = nullptr;
    unsigned slot = 0;
};

// The old epoch with this very key.
[[nodiscard]] place find_key(const old_sides& from, const crypto::key_pool& pool,
                             const crypto::session_keys& raw) noexcept {
    for (const side* old : {from.first, from.second})
        for (unsigned slot = 0; old != nullptr && slot < max_epochs; ++slot)
            if (const std::uint64_t entry = load_epoch(*old, slot);
                entry != 0 && crypto::equal_constant_time(&pool[key_index(entry)].cold().raw, &raw, sizeof raw))
                return {old, slot};
    return {};
}

// What is counted of a side's keys goes on, so that what is new is told from what was.
void adopt_numbers(side& to, const old_sides& from) noexcept {
    for (const side* old : {from.first, from.second})
        if (old != nullptr && old->generation != 0) {
            const bool first = to.generation == 0;
            to.highest_epoch = first ? old->highest_epoch : std::max(to.highest_epoch, old->highest_epoch);
            if (first || newer(old->generation, to.generation))
                to.generation = old->generation;
        }
}

// An old epoch's key under the same generation, as `number`, with `mki` on the wire.
[[nodiscard]] bool put_epoch(side& to, unsigned slot, const place& old, std::optional<crypto::key_pool::index> key,
                             std::uint32_t number, std::uint32_t mki) noexcept {
    if (!key)
        return false;
    to.numbers[slot] = number;
    to.generations[slot] = old.of->generations[old.slot];
    to.epochs[slot] = std::uint64_t{*key + 1} << 32 | (to.mki_length == 0 ? 0 : mki);
    return true;
}

// The object for an old one's; two epochs of one key have one here, too.
[[nodiscard]] std::optional<crypto::key_pool::index> take_key(const side& to, const side& from, unsigned slot,
                                                              key_moves& moves) {
    const auto old = key_index(load_epoch(from, slot));
    for (unsigned before = 0; before < slot; ++before)
        if (const std::uint64_t entry = load_epoch(from, before); entry != 0 && key_index(entry) == old)
            return key_index(to.epochs[before]);
    return moves.take(old);
}

// The first one's epochs, in their slots; the second one's are the same keys.
[[nodiscard]] api::status keep_keys(side& to, const old_sides& from, key_moves& moves) {
    for (unsigned slot = 0; slot < max_epochs; ++slot)
        if (const std::uint64_t entry = load_epoch(*from.first, slot); entry != 0)
            if (!put_epoch(to, slot, {from.first, slot}, take_key(to, *from.first, slot, moves),
                           from.first->numbers[slot], mki_of(entry)))
                return api::status::table_full;
    to.sending = load_sending(*from.first);
    for (unsigned slot = 0; from.second != nullptr && slot < max_epochs; ++slot) {
        const std::uint64_t entry = load_epoch(*from.second, slot);
        if (entry == 0)
            continue;
        const place same = find_key({.first = from.first}, moves.pool(), moves.pool()[key_index(entry)].cold().raw);
        if (same.of == nullptr)
            return api::status::bad_epoch; // two flows of one leg have the same keys
        moves.join_counts(key_index(entry), key_index(to.epochs[same.slot]));
    }
    return api::status::ok;
}

// A key that is said to be fresh, but is an old one's: its object, its generation, its count of packets.
[[nodiscard]] api::status put_known_key(side& to, const place& old, const api::epoch_key& key, key_moves& moves) {
    if (to.mki_length != 0 && key.mki > mki_mask(to.mki_length))
        return api::status::bad_epoch; // as install() says
    if (!put_epoch(to, old.slot, old, moves.take(key_index(load_epoch(*old.of, old.slot))), key.epoch, key.mki))
        return api::status::table_full;
    to.highest_epoch = std::max(to.highest_epoch, key.epoch);
    if (to.which == api::side::out)
        to.sending = static_cast<std::uint8_t>(old.slot + 1);
    return api::status::ok;
}

[[nodiscard]] api::status put_new_key(side& to, const api::epoch_key& key, key_moves& moves) {
    if (const auto status = install(to, moves.pool(), moves.builder(), key); status != api::status::ok)
        return status;
    for (unsigned slot = 0; slot < max_epochs; ++slot)
        if (to.epochs[slot] != 0)
            moves.made(key_index(to.epochs[slot]));
    return to.which == api::side::out ? switch_to(to, key.epoch) : api::status::ok;
}

[[nodiscard]] api::status fresh_key(side& to, old_sides& from, const api::epoch_key& key, key_moves& moves) {
    crypto::session_keys raw{};
    if (key.key_length > sizeof key.key || key.salt_length > sizeof key.salt ||
        !crypto::derive_session_keys(to.suite, {key.key, key.key_length}, {key.salt, key.salt_length}, raw))
        return to.suite == api::suite::clear ? api::status::bad_suite : api::status::bad_key_length;
    const place known = find_key(from, moves.pool(), raw);
    crypto::wipe(&raw, sizeof raw);
    if (known.of != nullptr && known.of->suite == to.suite)
        return put_known_key(to, known, key, moves);
    if (known.of != nullptr) { // AES_CM_128 with another length of its tag: the key stream is the same one
        adopt_numbers(to, from);
        from.streams = true;
    }
    const auto status = put_new_key(to, key, moves);
    if (status == api::status::ok && known.of != nullptr) {
        to.generations[0] = known.of->generations[known.slot];
        moves.join_counts(key_index(load_epoch(*known.of, known.slot)), key_index(to.epochs[0]));
    }
    return status;
}

} // namespace

api::status plan_side(side& to, api::side which, const api::side_config& config, old_sides& from,
                      api::key_choice choice, const api::epoch_key* key, key_moves& moves) {
    if (const auto status = init_side(to, which, config.suite, config.mki_length); status != api::status::ok)
        return status;
    from.streams = from.first != nullptr && from.first->suite == config.suite;
    if (from.streams)
        adopt_numbers(to, from);
    if (choice == api::key_choice::fresh)
        return key == nullptr ? api::status::ok : fresh_key(to, from, *key, moves);
    const bool same = from.streams && config.suite != api::suite::clear && from.first->mki_length == config.mki_length;
    return same ? keep_keys(to, from, moves) : api::status::ok;
}

bool shares_key(const side& a, const side& b, const crypto::key_pool& pool) noexcept {
    for (const std::uint64_t entry : a.epochs)
        if (entry != 0 && find_key({.first = &b}, pool, pool[key_index(entry)].cold().raw).of != nullptr)
            return true;
    return false;
}

// --- streams
// -----------------------------------------------------------------------------------------------------------

namespace {

// The side as a whole, but for what was planned.
void take_all(side& to, const side& from) noexcept {
    const side planned = to;
    to = from;
    to.suite = planned.suite;
    to.mki_length = planned.mki_length;
    to.sending = planned.sending;
    to.highest_epoch = planned.highest_epoch;
    to.generation = planned.generation;
    for (unsigned slot = 0; slot < max_epochs; ++slot) {
        to.epochs[slot] = planned.epochs[slot];
        to.numbers[slot] = planned.numbers[slot];
        to.generations[slot] = planned.generations[slot];
    }
}

// An epoch of which packets were accepted is not used for the first time. The next one turns to its stream anew.
void note_used(side& to, const side& from) noexcept {
    for (unsigned slot = 0; slot < max_epochs; ++slot) {
        const bool goes_on = to.epochs[slot] != 0 && from.epochs[slot] != 0 && from.epoch_used[slot] != 0 &&
                             to.numbers[slot] == from.numbers[slot] && to.generations[slot] == from.generations[slot];
        to.epoch_used[slot] = goes_on ? static_cast<std::uint8_t>(max_streams + 1) : std::uint8_t{0};
    }
}

[[nodiscard]] bool take_offsets(side& to, stream_pool& streams, const side& from) noexcept {
    return !any_stream(const_cast<side&>(from), streams, [&](const stream_ref& known) {
        if ((*known.id & id_in_use) == 0 || upper_of(*known.id) == 0)
            return false;
        api::drop why{};
        const stream_ref place = free_or_new_place(to, streams, why);
        if (place)
            rtp::commit_store(*place.id,
                              with_upper(id_in_use | static_cast<std::uint32_t>(*known.id), upper_of(*known.id)));
        return !place;
    });
}

} // namespace

bool carry_streams(side& to, stream_pool& streams, const old_sides& from, std::uint8_t carries) noexcept {
    static_assert(unsigned{rtp_streams} == api::carries_rtp && unsigned{rtcp_streams} == api::carries_rtcp);
    if (from.first == nullptr)
        return true;
    if (!from.streams)
        return to.which == api::side::in || take_offsets(to, streams, *from.first);
    bool room = true;
    if (from.whole)
        take_all(to, *from.first);
    else
        room = take_streams(to, streams, *from.first, carries);
    if (to.suite != api::suite::clear)
        note_used(to, *from.first);
    return room && (from.second == nullptr || take_streams(to, streams, *from.second, rtcp_streams));
}

// --- record and counters
// -----------------------------------------------------------------------------------------------------------

void carry_source(record& to, const record& from) noexcept {
    const bool same = to.source == from.source && (to.source != api::source_policy::signalled ||
                                                   same_address(to.signalled_source, from.signalled_source));
    if (!same || from.seen == 0)
        return;
    to.window_ends_ns = from.window_ends_ns;
    store_rule(to, from.rule, from.source_since_ns);
    switch_source(to, from.from());
}

void carry_remotes(route& to, std::uint8_t carries, const route* rtp, const route* rtcp) noexcept {
    const auto muxes = [](const route& r) { return r.rtp_out == r.rtcp_out; };
    if ((carries & api::carries_rtp) != 0 && to.rtp_remote.port == 0 && rtp != nullptr)
        to.rtp_remote = rtp->rtp_remote;
    if ((carries & api::carries_rtcp) == 0 || to.rtcp_remote.port != 0)
        return;
    if (muxes(to) && (carries & api::carries_rtp) != 0)
        to.rtcp_remote = to.rtp_remote;
    else if (rtcp != nullptr && muxes(to) == muxes(*rtcp))
        to.rtcp_remote = rtcp->rtcp_remote;
}

bool is_sent_elsewhere(const route& named, std::uint8_t carries, const route* rtp, const route* rtcp) noexcept {
    return ((carries & api::carries_rtp) != 0 && named.rtp_remote.port != 0 && rtp != nullptr &&
            !same_address(named.rtp_remote, rtp->rtp_remote)) ||
           ((carries & api::carries_rtcp) != 0 && named.rtcp_remote.port != 0 && rtcp != nullptr &&
            !same_address(named.rtcp_remote, rtcp->rtcp_remote));
}

void carry_counters(api::flow_stats& to, const api::flow_stats& from, std::uint8_t carries, bool errors) noexcept {
    if ((carries & api::carries_rtp) != 0) {
        api::bump(to.rx_packets, from.rx_packets);
        api::bump(to.rx_bytes, from.rx_bytes);
        api::bump(to.tx_packets, from.tx_packets);
        api::bump(to.tx_bytes, from.tx_bytes);
        api::bump(to.expected, from.expected);
    }
    if ((carries & api::carries_rtcp) != 0) {
        api::bump(to.rtcp_rx_packets, from.rtcp_rx_packets);
        api::bump(to.rtcp_tx_packets, from.rtcp_tx_packets);
        api::bump(to.reports, from.reports);
        api::put(to.reported_loss, from.reported_loss);
        api::put(to.reported_jitter, from.reported_jitter);
        api::put(to.reported_jitter_max, std::max(api::read(to.reported_jitter_max), from.reported_jitter_max));
    }
    if (errors) {
        api::bump(to.auth_failures, from.auth_failures);
        api::bump(to.replays, from.replays);
        api::bump(to.other_drops, from.other_drops);
        api::bump(to.tx_dropped, from.tx_dropped);
    }
    api::put(to.last_packet_ns, std::max(api::read(to.last_packet_ns), from.last_packet_ns));
    api::put(to.epoch_in, from.epoch_in);
}

void carry_counters(std::span<api::flow_stats> all, record_column records, const succession& flow) noexcept {
    for (std::size_t i = 0; i < flow.in.size(); ++i)
        if (const slot_index from = flow.in[i]; from != no_slot)
            carry_counters(all[flow.to], all[from], records[flow.to].carries & records[from].carries, flow.errors[i]);
}

} // namespace tandem::flow
