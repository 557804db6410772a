// SPDX-License-Identifier: Apache-2.0
// One side of a flow, the worker's part (side.hpp): indices. The order of stores is the subject here: whatever a crash
// leaves, no index that was handed on is handed on again, and what was not published does not exist.
#include "dataplane/flow/side_usual.hpp"

#include <algorithm>

#include "dataplane/rtp/index.hpp"
#include "dataplane/rtp/packet.hpp"
#include "dataplane/rtp/suite.hpp"

namespace tandem::flow {

using namespace detail;

namespace {

using api::drop;
using rtp::commit_store;

// The slot of the newest key; only where several are installed their numbers (a cold line) decide.
[[nodiscard]] int newest_slot(const side& what) noexcept {
    int found = -1;
    for (unsigned slot = 0; slot < max_epochs; ++slot)
        if (load_epoch(what, slot) != 0 &&
            (found < 0 || what.numbers[slot] > what.numbers[static_cast<unsigned>(found)]))
            found = static_cast<int>(slot);
    return found;
}

// --- a packet of a stream under the key in a slot. As long as the same stream goes on under the same key, nothing of
// the cold line changes: epoch_used says so, and installing a key there resets it.

[[nodiscard]] bool is_settled(const side& what, const stream_ref& in, unsigned slot) noexcept {
    return what.epoch_used[slot] == in.at + 1;
}
// Before its index is taken.
void turn_to(side& what, const stream_ref& to, unsigned slot) noexcept {
    if (newer(what.generations[slot], to.rest->last_generation))
        to.rest->last_generation = what.generations[slot];
    to.rest->last_use = ++what.clock;
    std::atomic_signal_fence(std::memory_order_seq_cst);
}
// When all else is noted.
void settle(side& what, const stream_ref& in, unsigned slot) noexcept {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    what.epoch_used[slot] = static_cast<std::uint8_t>(in.at + 1);
}

// --- in: what was heard under which key. Until a packet of a stream was accepted under a new key nothing under that
// key can be a replay, so its sequence may begin anew there (has_another_index says why).

[[nodiscard]] constexpr std::uint64_t heard_flag(bool rtcp) noexcept {
    return rtcp ? id_rtcp_heard : id_rtp_heard;
}
[[nodiscard]] bool is_unheard(const side& in, const stream_ref& of, unsigned slot, bool rtcp) noexcept {
    const std::uint16_t under = in.generations[slot];
    return newer(under, heard_under(*of.id)) || (under == heard_under(*of.id) && (*of.id & heard_flag(rtcp)) == 0);
}
// Its sequence began anew under a newer key: what this one protects is of the sequence before.
[[nodiscard]] bool is_outdated(const side& in, const stream_ref& of, unsigned slot) noexcept {
    return (*of.id & id_anew) != 0 && newer(heard_under(*of.id), in.generations[slot]);
}
// `flags`: of the kind that was heard, or none.
void note_heard(const side& in, const stream_ref& of, unsigned slot, std::uint64_t flags) noexcept {
    const std::uint16_t under = in.generations[slot];
    if (newer(under, heard_under(*of.id)))
        commit_store(*of.id, (with_upper(*of.id, under) & ~(id_rtp_heard | id_rtcp_heard)) | flags);
    else if (under == heard_under(*of.id))
        commit_store(*of.id, *of.id | flags);
}

// --- parsing
// ----------------------------------------------------------------------------------------------------------

[[nodiscard]] drop refuse(crypto::op& op, drop reason) noexcept {
    op.result = reason;
    op.key = nullptr;
    return reason;
}

// The slot whose key is to be tried, or why there is none. Two epochs with one MKI have one key: the newer is meant.
[[nodiscard]] drop choose_epoch(const side& in, const std::uint8_t* mki, int& slot) noexcept {
    if (in.mki_length == 0) {
        slot = newest_slot(in);
        return slot < 0 ? drop::srtp_no_key : drop::none;
    }
    const std::uint32_t wanted = read_mki(mki, in.mki_length);
    bool any = false;
    slot = -1;
    for (unsigned i = 0; i < max_epochs; ++i) {
        const std::uint64_t entry = load_epoch(in, i);
        any |= entry != 0;
        if (entry != 0 && mki_of(entry) == wanted &&
            (slot < 0 || in.numbers[i] > in.numbers[static_cast<unsigned>(slot)]))
            slot = static_cast<int>(i);
    }
    return slot >= 0 ? drop::none : any ? drop::srtp_unknown_mki : drop::srtp_no_key;
}

[[nodiscard]] drop check_clear(const crypto::op& op) noexcept {
    if (op.rtcp)
        return rtp::compound_valid(op.packet, op.length) ? drop::none : drop::rtcp_malformed;
    return rtp::padding_valid(op.packet, op.length, op.header) ? drop::none : drop::rtp_malformed;
}

// The index of a received packet and whether it may be new.
[[nodiscard]] drop choose_index(const side& in, const stream_ref& known, crypto::op& op) noexcept {
    if (!known) {
        if (!op.rtcp)
            op.index = op.sequence;
        return drop::none;
    }
    if (is_outdated(in, known, op.slot))
        return drop::srtp_no_key;
    const rtp::replay_window& window = known.window(op.rtcp);
    if (!op.rtcp) {
        op.index = rtp::guess_index(window.next(), op.sequence);
        if (op.index > rtp::max_rtp_index)
            return drop::key_exhausted;
    }
    const drop seen = window.check(op.index);
    if (seen == drop::none || !is_unheard(in, known, op.slot, op.rtcp))
        return seen;
    if (!op.rtcp)
        op.index = op.sequence;
    return drop::none;
}

// --- counting
// ---------------------------------------------------------------------------------------------------------

// One more packet under the key; false where its limit (RFC 3711 9.2) is reached.
[[nodiscard]] bool count_packet(crypto::key_object& key, crypto::op& op) noexcept {
    constexpr std::uint64_t rtcp_limit = rtp::max_rtcp_packets;
    if (op.rtcp) {
        std::uint32_t& packets = key.cold().rtcp_packets;
        if (packets >= rtcp_limit)
            return false;
        op.key_limit = ++packets == rtcp_limit / 8 * 7;
        return true;
    }
    return usual::count_packet(key, op);
}

// RFC 3550 A.3, by index: how many more the sender sent, as far as the highest sequence number tells.
[[nodiscard]] std::uint32_t newly_expected(std::uint64_t next_before, std::uint64_t index) noexcept {
    if (next_before == 0)
        return 1;
    return index >= next_before ? static_cast<std::uint32_t>(index + 1 - next_before) : 0;
}

// Likewise by its sequence number alone: a restart counts as one packet.
[[nodiscard]] std::uint32_t newly_expected(int ahead) noexcept {
    if (!rtp::in_sequence(ahead))
        return 1;
    return ahead >= 0 ? static_cast<std::uint32_t>(ahead) + 1 : 0;
}

// A clear in-side remembers SSRCs for the expected count and, as nothing tells a restart from a stray packet, for what
// a jump of the sequence is (RFC 3550 A.1). Nothing is refused here.
void track_clear(side& in, stream_pool& streams, crypto::op& op) noexcept {
    if (op.rtcp)
        return;
    stream_ref of = find_stream(in, streams, op.ssrc);
    drop why{};
    const bool fresh = !of;
    if (fresh)
        of = make_room(in, streams, why);
    rtp::replay_window& window = *of.rtp;
    const std::uint64_t next = window.next();
    const int ahead = fresh ? 0 : rtp::distance(next, op.sequence);
    op.expected = newly_expected(ahead);
    if (!rtp::in_sequence(ahead)) {
        if ((*of.id & id_awaiting) == 0 || upper_of(*of.id) != op.sequence) {
            op.course = crypto::sequence_is::stray;
            commit_store(*of.id, with_upper(*of.id | id_awaiting, static_cast<std::uint16_t>(op.sequence + 1)));
            return;
        }
        op.course = crypto::sequence_is::anew;
    }
    if (!is_settled(in, of, 0)) {
        turn_to(in, of, 0);
        settle(in, of, 0);
    }
    if (fresh || op.course == crypto::sequence_is::anew)
        window.begin_at(op.sequence);
    else if (ahead >= 0)
        window.update(next + static_cast<unsigned>(ahead));
    if (fresh)
        commit_store(*of.id, id_in_use | op.ssrc);
    else if ((*of.id & id_awaiting) != 0)
        commit_store(*of.id, with_upper(*of.id & ~id_awaiting, 0));
}

// Once more, under another index: another packet of the burst moved this one's stream after its index was guessed, or
// (where `another` says so) the roll-over counter is not what was guessed.
[[nodiscard]] bool try_again(const side& in, const stream_pool& streams, crypto::engine& engine, crypto::op& op,
                             bool another) noexcept {
    if (op.rtcp)
        return false;
    const stream_ref known = find_stream(in, streams, op.ssrc);
    crypto::op second = op;
    second.result = drop::none;
    const bool clarified = known && choose_index(in, known, second) == drop::none && second.index != op.index;
    if (!clarified && another)
        second.index = known && known.rtp->started() ? op.sequence : std::uint64_t{1} << 16 | op.sequence;
    if (second.index == op.index)
        return false;
    engine.restore(op);
    engine.unprotect({&second, 1});
    op = second;
    return op.result == drop::none;
}

// The first packet of a stream under a new key, below what it had before. Packets under older keys are refused from
// here on: their windows are gone.
void begin_anew(const side& in, const stream_ref& of, crypto::op& op) noexcept {
    note_heard(in, of, op.slot, 0);
    commit_store(*of.id, *of.id | id_anew);
    rtp::replay_window& window = of.window(op.rtcp);
    if (!op.rtcp) { // its sequence numbers may go on all the same
        const int ahead = rtp::distance(window.next(), op.sequence);
        op.expected = newly_expected(ahead);
        if (!rtp::in_sequence(ahead))
            op.course = crypto::sequence_is::anew;
    }
    window.begin_at(op.index);
}

// The index of a packet that is to be sent, and how far its sequence number is moved for it. As the source's, as long
// as that goes on; where it does not, or where this side has lost its track (nothing was sent on for long), the next
// one: the receiver's guess of the roll-over counter never fails, no index comes again.
[[nodiscard]] drop choose_out_index(const stream_ref& of, crypto::op& op, std::uint16_t& offset) noexcept {
    const rtp::replay_window& window = *of.rtp;
    const std::uint64_t next = window.next();
    offset = upper_of(*of.id);
    op.index = rtp::guess_index(next, static_cast<std::uint16_t>(op.sequence + offset));
    bool lost = false;
    if (op.index >= next) [[likely]] {
        lost = next != 0 && op.index - next > std::uint64_t{op.expected} + rtp::max_dropout;
    } else {
        const drop seen = window.check(op.index);
        lost = seen == drop::srtp_too_old;
        if (seen == drop::srtp_replay && op.course != crypto::sequence_is::anew)
            return drop::tx_index_reused;
    }
    const bool anew = op.course == crypto::sequence_is::anew && next != 0;
    if (lost || anew) [[unlikely]] {
        if (op.expected == 0)
            return drop::tx_index_reused; // late, from before what this side knows
        op.index = next + (anew ? 1 : 0); // the packet that was not confirmed shows as lost
        offset = static_cast<std::uint16_t>(op.index - op.sequence);
    }
    return op.index > rtp::max_rtp_index ? drop::key_exhausted : drop::none;
}

} // namespace

// --- worker: in
// -------------------------------------------------------------------------------------------------------

drop prepare_unprotect(const side& in, const crypto::key_pool& pool, const stream_pool& streams, std::uint8_t* data,
                       std::uint32_t length, crypto::op& op) noexcept {
    op = {};
    if (usual::prepare_unprotect(in, pool, data, length, op))
        return drop::none;
    op = {};
    op.packet = data;
    op.length = length;
    const rtp::parsed parsed = rtp::parse(data, length);
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
    const std::size_t trailer = rtp::trailer_length(in.suite, op.rtcp, in.mki_length);
    if (length < op.header + trailer)
        return refuse(op, drop::srtp_truncated);
    const std::uint8_t* mki = mki_in(in, data, length, op.rtcp);
    int slot = -1;
    if (const drop problem = choose_epoch(in, mki, slot); problem != drop::none)
        return refuse(op, problem);
    const std::uint64_t entry = load_epoch(in, static_cast<unsigned>(slot));
    if (entry == 0)
        return refuse(op, drop::srtp_no_key); // retired this moment
    op.slot = static_cast<std::uint8_t>(slot);
    op.key = &pool[key_index(entry)];

    if (op.rtcp) {
        const std::uint32_t word = rtp::load32(mki - rtp::srtcp_index_length);
        if ((word & rtp::rtcp_encrypted) == 0)
            return refuse(op, drop::srtp_clear_rtcp);
        op.index = word & rtp::max_rtcp_index;
    }
    const drop problem = choose_index(in, find_stream(in, streams, op.ssrc), op);
    return problem == drop::none ? drop::none : refuse(op, problem);
}

bool has_another_index(const side& in, const stream_pool& streams, const crypto::op& op) noexcept {
    if (op.rtcp || in.suite == api::suite::clear)
        return false;
    const stream_ref known = find_stream(in, streams, op.ssrc);
    if (!known || !known.rtp->started())
        return op.index == op.sequence;
    return op.index != op.sequence && is_unheard(in, known, op.slot, false);
}

drop commit_unprotect(side& in, crypto::key_pool& pool, stream_pool& streams, crypto::engine& engine, crypto::op& op,
                      bool another) noexcept {
    if (usual::commit_unprotect(in, pool, op))
        return drop::none;
    if (in.suite == api::suite::clear) {
        if (op.result == drop::none)
            track_clear(in, streams, op);
        return op.result;
    }
    if (op.result == drop::srtp_auth && !try_again(in, streams, engine, op, another))
        return drop::srtp_auth;
    if (op.result != drop::none)
        return op.result;

    stream_ref of = find_stream(in, streams, op.ssrc);
    const bool fresh = !of;
    bool anew = false;
    drop problem = drop::none;
    if (fresh) {
        of = make_room(in, streams, problem);
    } else if (is_outdated(in, of, op.slot)) {
        problem = drop::srtp_no_key;
    } else if (const auto& window = of.window(op.rtcp); op.index < window.next()) {
        // Late; or an equal packet of this burst came before; or not of the sequence that there was.
        problem = window.check(op.index);
        const bool another_one = !op.rtcp && op.index != rtp::guess_index(window.next(), op.sequence);
        anew = (problem != drop::none || another_one) && is_unheard(in, of, op.slot, op.rtcp);
    }
    if (problem != drop::none && !anew)
        return refuse(op, problem);
    const std::uint64_t entry = load_epoch(in, op.slot);
    if (entry == 0 || &pool[key_index(entry)] != op.key)
        return refuse(op, drop::srtp_no_key); // retired while the burst was under way
    crypto::key_object& key = pool[key_index(entry)];
    if (!count_packet(key, op))
        return refuse(op, drop::key_exhausted);

    op.first_use = in.epoch_used[op.slot] == 0;
    const std::uint64_t heard = heard_flag(op.rtcp);
    const bool settled = is_settled(in, of, op.slot) && (*of.id & heard) != 0;
    if (!settled)
        turn_to(in, of, op.slot);
    rtp::replay_window& window = of.window(op.rtcp);
    if (anew) {
        begin_anew(in, of, op);
    } else {
        if (!op.rtcp)
            op.expected = newly_expected(window.next(), op.index);
        window.update(op.index);
    }
    if (!settled) {
        if (fresh)
            commit_store(*of.id, with_upper(id_in_use | heard | op.ssrc, in.generations[op.slot]));
        else
            note_heard(in, of, op.slot, heard);
        settle(in, of, op.slot);
    }
    if (op.first_use || op.key_limit)
        op.epoch = epoch_of(in, op);
    return drop::none;
}

bool is_newest(const side& in, const stream_pool& streams, const crypto::op& op) noexcept {
    const stream_ref known = find_stream(in, streams, op.ssrc);
    return !known || known.window(op.rtcp).next() == op.index + 1;
}

std::uint32_t epoch_of(const side& what, const crypto::op& op) noexcept {
    return what.numbers[op.slot];
}

// --- worker: out
// ------------------------------------------------------------------------------------------------------

drop prepare_protect(side& out, crypto::key_pool& pool, stream_pool& streams, std::uint32_t room,
                     crypto::op& op) noexcept {
    op.key = nullptr;
    op.result = drop::none;
    op.key_limit = false;
    if (usual::prepare_protect(out, pool, room, op))
        return drop::none;
    op.mki_length = out.mki_length;
    if (out.suite == api::suite::clear) {
        if (const std::uint16_t offset = offset_of(out, streams, op.ssrc); offset != 0 && !op.rtcp)
            rtp::store16(op.packet + 2, static_cast<std::uint16_t>(op.sequence + offset));
        return drop::none;
    }
    if (op.course == crypto::sequence_is::stray)
        return refuse(op, drop::sequence_jump);
    const std::uint8_t sending = load_sending(out);
    const std::uint64_t entry = sending == 0 ? 0 : load_epoch(out, sending - 1U);
    if (entry == 0)
        return refuse(op, drop::srtp_no_key);
    if (room < rtp::trailer_length(out.suite, op.rtcp, out.mki_length))
        return refuse(op, drop::no_room);

    stream_ref of = find_stream(out, streams, op.ssrc);
    const bool fresh = !of;
    std::uint16_t offset = 0;
    drop problem = drop::none;
    if (fresh) {
        op.index = op.rtcp ? 0 : op.sequence;
        of = make_room(out, streams, problem);
    } else if (op.rtcp) {
        op.index = of.rest->rtcp.next();
        offset = upper_of(*of.id);
        if (op.index > rtp::max_rtcp_index)
            problem = drop::key_exhausted;
    } else {
        problem = choose_out_index(of, op, offset);
    }
    if (problem != drop::none)
        return refuse(op, problem);
    crypto::key_object& key = pool[key_index(entry)];
    if (!count_packet(key, op))
        return refuse(op, drop::key_exhausted);

    op.slot = static_cast<std::uint8_t>(sending - 1);
    if (!is_settled(out, of, op.slot)) {
        turn_to(out, of, op.slot);
        settle(out, of, op.slot);
    }
    if (!fresh && offset != upper_of(*of.id)) [[unlikely]]
        commit_store(*of.id, with_upper(*of.id, offset));
    of.window(op.rtcp).update(op.index);
    if (fresh)
        commit_store(*of.id, id_in_use | op.ssrc);
    if (offset != 0 && !op.rtcp) [[unlikely]]
        rtp::store16(op.packet + 2, static_cast<std::uint16_t>(op.index));
    if (op.key_limit)
        op.epoch = epoch_of(out, op);
    op.mki = mki_of(entry);
    op.key = &key;
    return drop::none;
}

std::uint16_t offset_of(const side& out, const stream_pool& streams, std::uint32_t ssrc) noexcept {
    const stream_ref known = find_stream(out, streams, ssrc);
    return known ? upper_of(*known.id) : std::uint16_t{0};
}

bool has_offsets(const side& out, const stream_pool& streams) noexcept {
    return any_stream(const_cast<side&>(out), streams, [](const stream_ref& of) { return upper_of(*of.id) != 0; });
}

// Of which stream, the packet does not say (RFC 4588 5.3 leaves it to signalling, or to what was asked for): of the one
// whose last packets it fits best. A retransmission is of the last second or two, and streams begin at random, so
// another one of the same flow is taken by mistake once in hundreds.
void shift_original(const side& out, const stream_pool& streams, crypto::op& op) noexcept {
    if (op.length < std::uint32_t{op.header} + 2)
        return;
    std::uint8_t* const at = op.packet + op.header;
    const std::uint16_t original = rtp::load16(at);
    std::uint16_t nearest = 0xffff, offset = 0;
    static_cast<void>(any_stream(const_cast<side&>(out), streams, [&](const stream_ref& of) {
        if (*of.id == 0 || is_of(*of.id, op.ssrc) || !of.rtp->started())
            return false;
        const std::uint16_t moved = upper_of(*of.id);
        const auto behind = static_cast<std::uint16_t>(of.rtp->next() - 1 - original - moved);
        if (behind <= nearest) {
            nearest = behind;
            offset = moved;
        }
        return false;
    }));
    rtp::store16(at, static_cast<std::uint16_t>(original + offset));
}

} // namespace tandem::flow
