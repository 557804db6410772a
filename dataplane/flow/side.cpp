// SPDX-License-Identifier: Apache-2.0
// One side of a flow, the worker's part (side.hpp): streams and indices. The order of stores is the subject here:
// whatever a crash leaves, no index that was handed on is handed on again, and what was not published does not exist.
#include "dataplane/flow/side_internal.hpp"

#include <algorithm>

#include "dataplane/media/index.hpp"
#include "dataplane/media/packet.hpp"
#include "dataplane/media/suite.hpp"

namespace tandem::flow {

using namespace detail;

namespace {

using api::drop;
using media::commit_store;

// The slot of the newest key; only where several are installed their generations (a cold line) decide.
[[nodiscard]] int newest_slot(const side& what) noexcept {
    int found = -1;
    for (unsigned slot = 0; slot < max_epochs; ++slot)
        if (load_epoch(what, slot) != 0 &&
            (found < 0 || what.generations[slot] > what.generations[static_cast<unsigned>(found)]))
            found = static_cast<int>(slot);
    return found;
}

// --- streams
// ----------------------------------------------------------------------------------------------------------

[[nodiscard]] int find_stream(const side& what, std::uint32_t ssrc) noexcept {
    if (what.first_id == (id_in_use | ssrc)) [[likely]]
        return 0;
    for (unsigned i = 1; i < max_streams; ++i)
        if (what.more_ids[i - 1] == (id_in_use | ssrc))
            return static_cast<int>(i);
    return -1;
}

// Whether a stream may be forgotten: no key that it was used under can be used again. in: no such key is installed (its
// packets cannot be replayed); out: the key now sent under is newer (its indices cannot repeat).
[[nodiscard]] bool forgettable(const side& what, const stream_rest& of) noexcept {
    if (what.suite == api::suite::clear)
        return true;
    if (what.which == api::side::out) {
        const std::uint8_t sending = load_sending(what);
        return sending != 0 && what.generations[sending - 1] > of.last_generation;
    }
    for (unsigned slot = 0; slot < max_epochs; ++slot)
        if (load_epoch(what, slot) != 0 && what.generations[slot] <= of.last_generation)
            return false;
    return true;
}

// A zeroed slot that is not in use yet; -1 where every stream is still needed. The longest unused goes.
[[nodiscard]] int make_room(side& what) noexcept {
    int found = -1;
    for (unsigned i = 0; i < max_streams; ++i) {
        if (what.id(i) == 0) {
            found = static_cast<int>(i);
            break;
        }
        if (forgettable(what, what.rest(i)) &&
            (found < 0 ||
             what.clock - what.rest(i).last_use > what.clock - what.rest(static_cast<unsigned>(found)).last_use))
            found = static_cast<int>(i);
    }
    if (found >= 0) {
        const auto at = static_cast<unsigned>(found);
        commit_store(what.id(at), 0);
        what.rtp(at) = {};
        what.rest(at) = {};
        // The next packet in this place turns to it anew. A slot without a key is the control thread's (install resets
        // it).
        for (unsigned i = 0; i < max_epochs; ++i)
            if ((what.suite == api::suite::clear || load_epoch(what, i) != 0) && what.epoch_used[i] == at + 1)
                what.epoch_used[i] = static_cast<std::uint8_t>(max_streams + 1);
    }
    return found;
}

void publish_stream(side& what, int at, std::uint32_t ssrc) noexcept {
    commit_store(what.id(static_cast<unsigned>(at)), id_in_use | ssrc);
}

// A packet of a stream under the key in a slot. As long as the same stream goes on under the same key, nothing of the
// cold line changes: epoch_used says so, and installing a key there resets it.
void touch(side& what, unsigned at, unsigned slot) noexcept {
    if (what.epoch_used[slot] == at + 1) [[likely]]
        return;
    stream_rest& used = what.rest(at);
    used.last_generation = std::max(used.last_generation, what.generations[slot]);
    used.last_use = ++what.clock;
    std::atomic_signal_fence(std::memory_order_seq_cst); // noted before it is said to be
    what.epoch_used[slot] = static_cast<std::uint8_t>(at + 1);
}

// --- parsing
// ----------------------------------------------------------------------------------------------------------

[[nodiscard]] drop refuse(crypto::op& op, drop reason) noexcept {
    op.result = reason;
    op.key = nullptr;
    return reason;
}

[[nodiscard]] std::uint32_t read_mki(const std::uint8_t* at, std::uint8_t length) noexcept {
    std::uint32_t value = 0;
    for (unsigned i = 0; i < length; ++i)
        value = value << 8 | at[i];
    return value;
}

// The slot whose key is to be tried, or why there is none.
[[nodiscard]] drop choose_epoch(const side& in, const std::uint8_t* mki, int& slot) noexcept {
    if (in.mki_length == 0) {
        slot = newest_slot(in);
        return slot < 0 ? drop::srtp_no_key : drop::none;
    }
    const std::uint32_t wanted = read_mki(mki, in.mki_length);
    bool any = false;
    for (unsigned i = 0; i < max_epochs; ++i) {
        const std::uint64_t entry = load_epoch(in, i);
        any |= entry != 0;
        if (entry != 0 && (epoch_number(entry) & mki_mask(in.mki_length)) == wanted) {
            slot = static_cast<int>(i);
            return drop::none;
        }
    }
    return any ? drop::srtp_unknown_mki : drop::srtp_no_key;
}

[[nodiscard]] drop check_clear(const crypto::op& op) noexcept {
    if (op.rtcp)
        return media::compound_valid(op.packet, op.length) ? drop::none : drop::rtcp_malformed;
    return media::padding_valid(op.packet, op.length, op.header) ? drop::none : drop::rtp_malformed;
}

// The index of a received packet and whether it may be new; `at` is negative for a new SSRC.
[[nodiscard]] drop choose_index(const side& in, int at, crypto::op& op) noexcept {
    if (op.rtcp)
        return at < 0 ? drop::none : in.rest(static_cast<unsigned>(at)).rtcp.check(op.index);
    if (at < 0) {
        op.index = op.sequence;
        return drop::none;
    }
    const media::replay_window& window = in.rtp(static_cast<unsigned>(at));
    op.index = media::guess_index(window.next(), op.sequence);
    return op.index > media::max_rtp_index ? drop::key_exhausted : window.check(op.index);
}

// --- counting
// ---------------------------------------------------------------------------------------------------------

// One more packet under the key; false where its limit (RFC 3711 9.2) is reached.
[[nodiscard]] bool count_packet(crypto::key_object& key, crypto::op& op) noexcept {
    constexpr std::uint64_t rtp_limit = media::max_rtp_packets, rtcp_limit = media::max_rtcp_packets;
    if (op.rtcp) {
        std::uint32_t& packets = key.cold().rtcp_packets;
        if (packets >= rtcp_limit)
            return false;
        op.key_limit = ++packets == rtcp_limit / 8 * 7;
        return true;
    }
    if (key.rtp_packets >= rtp_limit)
        return false;
    op.key_limit = ++key.rtp_packets == rtp_limit / 8 * 7;
    return true;
}

// RFC 3550 A.3, by index: how many more the sender sent, as far as the highest sequence number tells.
[[nodiscard]] std::uint32_t newly_expected(std::uint64_t next_before, std::uint64_t index) noexcept {
    if (next_before == 0)
        return 1;
    return index >= next_before ? static_cast<std::uint32_t>(index + 1 - next_before) : 0;
}

// A clear in-side remembers SSRCs only for the expected count; nothing is refused.
void track_clear(side& in, crypto::op& op) noexcept {
    constexpr std::uint64_t max_dropout = 3000; // RFC 3550 A.1: a larger jump is a restart
    if (op.rtcp)
        return;
    int place = find_stream(in, op.ssrc);
    const bool fresh = place < 0;
    if (fresh)
        place = make_room(in);
    if (place < 0)
        return;
    const auto at = static_cast<unsigned>(place);
    media::replay_window& window = in.rtp(at);
    const std::uint64_t next = window.next();
    const std::uint64_t index = media::guess_index(next, op.sequence);
    const bool restart = next != 0 && (index > next + max_dropout || index + max_dropout < next);
    if (restart)
        window = {};
    op.expected = newly_expected(restart ? 0 : next, restart ? op.sequence : index);
    window.update(restart ? op.sequence : index);
    touch(in, at, 0);
    if (fresh)
        publish_stream(in, place, op.ssrc);
}

// Another packet of the burst moved this one's stream after its index was guessed: try the new guess once.
[[nodiscard]] bool try_again(const side& in, crypto::engine& engine, crypto::op& op) noexcept {
    if (op.rtcp)
        return false;
    const int at = find_stream(in, op.ssrc);
    if (at < 0)
        return false;
    const std::uint64_t tried = op.index;
    crypto::op second = op;
    second.result = drop::none;
    if (choose_index(in, at, second) != drop::none || second.index == tried)
        return false;
    engine.restore(op);
    engine.unprotect({&second, 1});
    op = second;
    return op.result == drop::none;
}

} // namespace

// --- worker: in
// -------------------------------------------------------------------------------------------------------

drop prepare_unprotect(const side& in, const crypto::key_pool& pool, std::uint8_t* data, std::uint32_t length,
                       crypto::op& op) noexcept {
    op = {};
    op.packet = data;
    op.length = length;
    const media::parsed parsed = media::parse(data, length);
    op.rtcp = parsed.rtcp;
    if (parsed.problem != drop::none)
        return refuse(op, parsed.problem);
    op.header = parsed.header;
    op.sequence = parsed.sequence;
    op.ssrc = parsed.ssrc;
    if (in.suite == api::suite::clear) {
        const drop problem = check_clear(op);
        return problem == drop::none ? drop::none : refuse(op, problem);
    }

    op.mki_length = in.mki_length;
    const std::size_t trailer = media::trailer_length(in.suite, op.rtcp, in.mki_length);
    if (length < op.header + trailer)
        return refuse(op, drop::srtp_truncated);
    // AEAD: the MKI is the last field; AES-CM: the tag follows it.
    const bool aead = api::info(in.suite).aead;
    const std::uint8_t* mki = data + length - in.mki_length - (aead ? 0 : media::tag_length(in.suite, op.rtcp));
    int slot = -1;
    if (const drop problem = choose_epoch(in, mki, slot); problem != drop::none)
        return refuse(op, problem);
    const std::uint64_t entry = load_epoch(in, static_cast<unsigned>(slot));
    if (entry == 0)
        return refuse(op, drop::srtp_no_key); // retired this moment
    op.slot = static_cast<std::uint8_t>(slot);
    op.epoch = epoch_number(entry);
    op.key = &pool[key_index(entry)];

    if (op.rtcp) {
        const std::uint32_t word = media::load32(mki - media::srtcp_index_length);
        if ((word & media::rtcp_encrypted) == 0)
            return refuse(op, drop::srtp_clear_rtcp);
        op.index = word & media::max_rtcp_index;
    }
    const drop problem = choose_index(in, find_stream(in, op.ssrc), op);
    return problem == drop::none ? drop::none : refuse(op, problem);
}

drop commit_unprotect(side& in, crypto::key_pool& pool, crypto::engine& engine, crypto::op& op) noexcept {
    if (in.suite == api::suite::clear) {
        if (op.result == drop::none)
            track_clear(in, op);
        return op.result;
    }
    if (op.result == drop::srtp_auth && !try_again(in, engine, op))
        return drop::srtp_auth;
    if (op.result != drop::none)
        return op.result;

    int place = find_stream(in, op.ssrc);
    const bool fresh = place < 0;
    if (!fresh) { // an equal packet of this burst may have come before
        const auto known = static_cast<unsigned>(place);
        const drop problem = op.rtcp ? in.rest(known).rtcp.check(op.index) : in.rtp(known).check(op.index);
        if (problem != drop::none)
            return refuse(op, problem);
    } else if (place = make_room(in); place < 0) {
        return refuse(op, drop::ssrc_limit);
    }
    const std::uint64_t entry = load_epoch(in, op.slot);
    if (entry == 0 || epoch_number(entry) != op.epoch)
        return refuse(op, drop::srtp_no_key); // retired while the burst was under way
    if (!count_packet(pool[key_index(entry)], op))
        return refuse(op, drop::key_exhausted);

    const auto at = static_cast<unsigned>(place);
    op.first_use = in.epoch_used[op.slot] == 0;
    touch(in, at, op.slot);
    if (op.rtcp) {
        in.rest(at).rtcp.update(op.index);
    } else {
        media::replay_window& window = in.rtp(at);
        op.expected = newly_expected(window.next(), op.index);
        window.update(op.index);
    }
    if (fresh)
        publish_stream(in, place, op.ssrc);
    return drop::none;
}

bool is_newest(const side& in, const crypto::op& op) noexcept {
    const int at = find_stream(in, op.ssrc);
    if (at < 0)
        return true;
    const auto known = static_cast<unsigned>(at);
    return (op.rtcp ? in.rest(known).rtcp : in.rtp(known)).next() == op.index + 1;
}

// --- worker: out
// ------------------------------------------------------------------------------------------------------

drop prepare_protect(side& out, crypto::key_pool& pool, std::uint32_t room, crypto::op& op) noexcept {
    op.key = nullptr;
    op.result = drop::none;
    op.key_limit = false;
    op.mki_length = out.mki_length;
    if (out.suite == api::suite::clear)
        return drop::none;
    const std::uint8_t sending = load_sending(out);
    const std::uint64_t entry = sending == 0 ? 0 : load_epoch(out, sending - 1U);
    if (entry == 0)
        return refuse(op, drop::srtp_no_key);
    if (room < media::trailer_length(out.suite, op.rtcp, out.mki_length))
        return refuse(op, drop::no_room);

    int place = find_stream(out, op.ssrc);
    const bool fresh = place < 0;
    if (fresh) {
        op.index = op.rtcp ? 0 : op.sequence;
    } else if (op.rtcp) {
        op.index = out.rest(static_cast<unsigned>(place)).rtcp.next();
        if (op.index > media::max_rtcp_index)
            return refuse(op, drop::key_exhausted);
    } else {
        const media::replay_window& window = out.rtp(static_cast<unsigned>(place));
        op.index = media::guess_index(window.next(), op.sequence);
        if (op.index > media::max_rtp_index)
            return refuse(op, drop::key_exhausted);
        if (window.check(op.index) != drop::none)
            return refuse(op, drop::tx_index_reused);
    }
    if (fresh && (place = make_room(out)) < 0)
        return refuse(op, drop::ssrc_limit);
    crypto::key_object& key = pool[key_index(entry)];
    if (!count_packet(key, op))
        return refuse(op, drop::key_exhausted);

    const auto at = static_cast<unsigned>(place);
    touch(out, at, sending - 1U);
    (op.rtcp ? out.rest(at).rtcp : out.rtp(at)).update(op.index);
    if (fresh)
        publish_stream(out, place, op.ssrc);
    op.slot = static_cast<std::uint8_t>(sending - 1);
    op.epoch = epoch_number(entry);
    op.mki = op.epoch;
    op.key = &key;
    return drop::none;
}

} // namespace tandem::flow
