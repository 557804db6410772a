// SPDX-License-Identifier: Apache-2.0
// The usual packet, inline: RTP with a fixed header, of its side's first SSRC, going on in sequence, under a key that
// this stream was used under before. It reads and writes line 0 of the side and of the key alone. Each function does
// what side.hpp's of the same name does with such a packet; of any other it says false and has changed nothing: then
// that one decides. Both are one rule: side.cpp asks here first.
//
// Owner: the worker that owns the flow.
#pragma once

#include <cstdint>

#include "dataplane/flow/side_internal.hpp"
#include "dataplane/rtp/index.hpp"
#include "dataplane/rtp/packet.hpp"
#include "dataplane/rtp/suite.hpp"

namespace tandem::flow::usual {

inline constexpr int farthest = rtp::max_dropout; // ahead of what is expected next

// Version 2, no padding, extension or CSRC (RFC 3550 5.1), and no RTCP (RFC 5761 4).
[[nodiscard]] inline bool is_plain_rtp(const std::uint8_t* data, std::uint32_t length) noexcept {
    return length >= rtp::rtp_fixed_header && data[0] == 0x80 && static_cast<std::uint8_t>(data[1] - 192) > 31;
}

inline void begin(crypto::op& op, std::uint8_t* data, std::uint32_t length) noexcept {
    op.packet = data;
    op.length = length;
    op.ssrc = rtp::load32(data + 8);
    op.header = rtp::rtp_fixed_header;
    op.sequence = rtp::load16(data + 2);
    op.rtcp = false;
    op.result = api::drop::none;
    op.first_use = op.key_limit = false;
    op.course = crypto::sequence_is::going_on;
}

// The one epoch that a packet with this MKI can be of; none where there may be several.
[[nodiscard]] inline int only_slot(const side& in, const std::uint8_t* mki) noexcept {
    if (in.mki_length == 0 && (detail::load_epoch(in, 1) | detail::load_epoch(in, 2)) == 0)
        return detail::load_epoch(in, 0) != 0 ? 0 : -1;
    const std::uint32_t wanted = detail::read_mki(mki, in.mki_length);
    int found = -1;
    for (unsigned slot = 0; slot < max_epochs; ++slot) {
        const std::uint64_t entry = detail::load_epoch(in, slot);
        if (entry == 0 || (in.mki_length != 0 && detail::mki_of(entry) != wanted))
            continue;
        if (found >= 0)
            return -1;
        found = static_cast<int>(slot);
    }
    return found;
}

[[nodiscard]] inline bool prepare_unprotect(const side& in, const crypto::key_pool& pool, std::uint8_t* data,
                                            std::uint32_t length, crypto::op& op) noexcept {
    if (!is_plain_rtp(data, length))
        return false;
    begin(op, data, length);
    if (in.suite == api::suite::clear) {
        op.key = nullptr;
        op.mki_length = 0;
        return true;
    }
    op.mki_length = in.mki_length;
    if (length < rtp::rtp_fixed_header + rtp::trailer_length(in.suite, false, in.mki_length))
        return false;
    const std::uint64_t next = in.first_rtp.next();
    const int ahead = rtp::distance(next, op.sequence);
    op.index = next + static_cast<unsigned>(ahead);
    if (!detail::is_of(in.first_id, op.ssrc) || (in.first_id & detail::id_anew) != 0 || next == 0 || ahead < 0 ||
        ahead > farthest || op.index > rtp::max_rtp_index)
        return false;
    const int slot = only_slot(in, detail::mki_in(in, data, length, false));
    const std::uint64_t entry = slot < 0 ? 0 : detail::load_epoch(in, static_cast<unsigned>(slot));
    if (entry == 0) // or retired this moment
        return false;
    op.slot = static_cast<std::uint8_t>(slot);
    op.key = &pool[detail::key_index(entry)];
    return true;
}

// One more RTP packet under the key; false where its limit is reached.
[[nodiscard]] inline bool count_packet(crypto::key_object& key, crypto::op& op) noexcept {
    if (key.rtp_packets >= rtp::max_rtp_packets)
        return false;
    op.key_limit = ++key.rtp_packets == rtp::max_rtp_packets / 8 * 7;
    return true;
}

[[nodiscard]] inline bool settled(const side& what, const crypto::op& op, unsigned slot) noexcept {
    return detail::is_of(what.first_id, op.ssrc) && what.epoch_used[slot] == 1;
}

[[nodiscard]] inline bool commit_clear(side& in, crypto::op& op) noexcept {
    const std::uint64_t next = in.first_rtp.next();
    const int ahead = rtp::distance(next, op.sequence);
    if (!settled(in, op, 0) || (in.first_id & detail::id_awaiting) != 0 || ahead < 0 || ahead > farthest)
        return false;
    in.first_rtp.update(next + static_cast<unsigned>(ahead));
    op.expected = static_cast<std::uint32_t>(ahead) + 1;
    return true;
}

[[nodiscard]] inline bool commit_unprotect(side& in, crypto::key_pool& pool, crypto::op& op) noexcept {
    if (op.result != api::drop::none || op.rtcp)
        return false;
    if (op.key == nullptr)
        return in.suite == api::suite::clear && commit_clear(in, op);
    constexpr std::uint64_t flags = detail::id_anew | detail::id_rtp_heard;
    const std::uint64_t next = in.first_rtp.next(), entry = detail::load_epoch(in, op.slot);
    if (!settled(in, op, op.slot) || (in.first_id & flags) != detail::id_rtp_heard || next == 0 || op.index < next ||
        entry == 0)
        return false;
    crypto::key_object& key = pool[detail::key_index(entry)];
    if (&key != op.key || !count_packet(key, op))
        return false;
    op.expected = static_cast<std::uint32_t>(op.index + 1 - next);
    in.first_rtp.update(op.index);
    if (op.key_limit) [[unlikely]]
        op.epoch = in.numbers[op.slot];
    return true;
}

[[nodiscard]] inline bool prepare_protect(side& out, crypto::key_pool& pool, std::uint32_t room,
                                          crypto::op& op) noexcept {
    if (op.rtcp || op.course != crypto::sequence_is::going_on || out.suite == api::suite::clear)
        return false;
    const std::uint8_t sending = detail::load_sending(out);
    const std::uint64_t entry = sending == 0 ? 0 : detail::load_epoch(out, sending - 1U);
    const std::uint64_t next = out.first_rtp.next();
    const int ahead = rtp::distance(next, op.sequence);
    const std::uint64_t index = next + static_cast<unsigned>(ahead);
    if (entry == 0 || !settled(out, op, sending - 1U) || detail::upper_of(out.first_id) != 0 || next == 0 ||
        ahead < 0 || ahead > farthest || index > rtp::max_rtp_index)
        return false;
    if (room < rtp::trailer_length(out.suite, false, out.mki_length))
        return false;
    crypto::key_object& key = pool[detail::key_index(entry)];
    if (!count_packet(key, op))
        return false;
    out.first_rtp.update(index);
    op.index = index;
    op.slot = static_cast<std::uint8_t>(sending - 1);
    op.mki_length = out.mki_length;
    op.mki = detail::mki_of(entry);
    op.key = &key;
    if (op.key_limit) [[unlikely]]
        op.epoch = out.numbers[op.slot];
    return true;
}

} // namespace tandem::flow::usual
