// SPDX-License-Identifier: Apache-2.0
// Sequence numbers in RTCP: what a receiver reports of a stream whose sequence was moved on its way is moved back, so
// that its source knows its own packets again. In clear, in place; no length changes. Pure; never touches a byte beyond
// the length given, whatever the packet's own lengths and counts say. Any thread.
//
//   SR, RR (RFC 3550 6.4)               each block: extended highest sequence number
//   generic NACK (RFC 4585 6.2.1)       each entry: PID; the bit mask is relative to it
//   congestion control (RFC 8888 3.1)   each stream: begin_seq
//   XR (RFC 3611 4.1 to 4.3, 4.6)       blocks that begin with SSRC, begin_seq, end_seq; so RFC 5725's and RFC 7097's
// The sender information of an SR, and what counts packets, octets or time, has none.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dataplane/rtp/packet.hpp"

namespace tandem::rtp {

inline constexpr std::uint8_t rtcp_transport_feedback = 205, rtcp_extended_report = 207;
inline constexpr std::uint8_t generic_nack = 1, congestion_control = 11; // of transport feedback: FMT

namespace detail {

constexpr void move16(std::uint8_t* at, std::uint16_t by) noexcept {
    store16(at, static_cast<std::uint16_t>(load16(at) + by));
}

// `packet`: one of a compound, `size` bytes, all of them there.
template <class F>
constexpr void move_reports(std::uint8_t* packet, std::size_t size, F&& by) {
    const std::size_t first = rtcp_fixed_header + (packet[1] == rtcp_sender_report ? 20 : 0);
    unsigned count = packet[0] & 0x1f;
    for (std::size_t at = first; count > 0 && at + report_block <= size; at += report_block, --count)
        // Extended: the cycles rise with the sum and never fall below 0. A source that began anew counts from there.
        if (const std::uint16_t move = by(load32(packet + at)); move != 0)
            store32(packet + at + 8, load32(packet + at + 8) + move);
}

template <class F>
constexpr void move_feedback(std::uint8_t* packet, std::size_t size, F&& by) {
    const std::uint8_t format = packet[0] & 0x1f;
    if (format == generic_nack && size >= 12) {
        if (const std::uint16_t move = by(load32(packet + 8)); move != 0)
            for (std::size_t at = 12; at + 4 <= size; at += 4)
                move16(packet + at, move);
    } else if (format == congestion_control) {
        for (std::size_t at = 8; at + 8 + 4 <= size;) { // the last word is a time
            if (const std::uint16_t move = by(load32(packet + at)); move != 0)
                move16(packet + at + 4, move);
            at += 8 + (std::size_t{load16(packet + at + 6)} * 2 + 3) / 4 * 4;
        }
    }
}

template <class F>
constexpr void move_extended(std::uint8_t* packet, std::size_t size, F&& by) {
    constexpr std::uint32_t with_sequences = 1U << 1 | 1U << 2 | 1U << 3 | 1U << 6 | 1U << 10 | 1U << 25;
    for (std::size_t at = 8; at + 4 <= size;) {
        const std::size_t block = std::size_t{4} * (std::size_t{load16(packet + at + 2)} + 1);
        if (block > size - at)
            break;
        const std::uint8_t type = packet[at];
        if (type < 32 && (with_sequences >> type & 1) != 0 && block >= 12)
            if (const std::uint16_t move = by(load32(packet + at + 4)); move != 0) {
                move16(packet + at + 8, move);
                move16(packet + at + 10, move);
            }
        at += block;
    }
}

} // namespace detail

// `by(ssrc)`: what is to be added to sequence numbers of that source, 0 for most. Up to the first packet of the
// compound that is not whole.
template <class F>
constexpr void move_sequences(std::uint8_t* data, std::size_t length, F&& by) {
    for (std::size_t at = 0; length - at >= rtcp_fixed_header;) {
        const std::size_t size = std::size_t{4} * (std::size_t{load16(data + at + 2)} + 1);
        if (data[at] >> 6 != 2 || size > length - at)
            break;
        const std::uint8_t type = data[at + 1];
        if (size >= rtcp_fixed_header) {
            if (type == rtcp_sender_report || type == rtcp_receiver_report)
                detail::move_reports(data + at, size, by);
            else if (type == rtcp_transport_feedback)
                detail::move_feedback(data + at, size, by);
            else if (type == rtcp_extended_report)
                detail::move_extended(data + at, size, by);
        }
        at += size;
    }
}

} // namespace tandem::rtp
