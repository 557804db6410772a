// SPDX-License-Identifier: Apache-2.0
// RTP and RTCP packets as bytes: bounds of their headers (RFC 3550 5.1, 5.3.1, 6.4); demux.hpp tells them apart. Pure;
// never reads beyond the length given. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dataplane/api/drops.hpp"
#include "dataplane/rtp/demux.hpp"

namespace tandem::rtp {

[[nodiscard]] constexpr std::uint16_t load16(const std::uint8_t* from) noexcept {
    return static_cast<std::uint16_t>(from[0] << 8 | from[1]);
}
[[nodiscard]] constexpr std::uint32_t load32(const std::uint8_t* from) noexcept {
    return std::uint32_t{from[0]} << 24 | std::uint32_t{from[1]} << 16 | std::uint32_t{from[2]} << 8 | from[3];
}
constexpr void store16(std::uint8_t* to, std::uint16_t value) noexcept {
    to[0] = static_cast<std::uint8_t>(value >> 8);
    to[1] = static_cast<std::uint8_t>(value);
}
constexpr void store32(std::uint8_t* to, std::uint32_t value) noexcept {
    to[0] = static_cast<std::uint8_t>(value >> 24);
    to[1] = static_cast<std::uint8_t>(value >> 16);
    to[2] = static_cast<std::uint8_t>(value >> 8);
    to[3] = static_cast<std::uint8_t>(value);
}

inline constexpr std::size_t rtp_fixed_header = 12;
inline constexpr std::size_t rtcp_fixed_header = 8; // with the sender's SSRC; what SRTCP leaves in clear

// What the crypto needs of one packet.
struct parsed {
    api::drop problem = api::drop::none;
    bool rtcp = false;
    std::uint16_t header = 0;   // bytes that stay in clear: RTP with CSRCs and extension; RTCP 8
    std::uint16_t sequence = 0; // RTP
    std::uint32_t ssrc = 0;
};

[[nodiscard]] constexpr parsed parse_rtp(const std::uint8_t* data, std::size_t length) noexcept {
    if (length < rtp_fixed_header)
        return {api::drop::rtp_malformed};
    if (data[0] >> 6 != 2)
        return {api::drop::rtp_version};
    std::size_t header = rtp_fixed_header + std::size_t{4} * (data[0] & 0x0f);
    if ((data[0] & 0x10) != 0) {
        if (length < header + 4)
            return {api::drop::rtp_malformed};
        header += 4 + std::size_t{4} * load16(data + header + 2);
    }
    if (header > length || header > 0xffff)
        return {api::drop::rtp_malformed};
    return {api::drop::none, false, static_cast<std::uint16_t>(header), load16(data + 2), load32(data + 8)};
}

[[nodiscard]] constexpr parsed parse_rtcp(const std::uint8_t* data, std::size_t length) noexcept {
    if (length < rtcp_fixed_header)
        return {api::drop::rtcp_malformed, true};
    if (data[0] >> 6 != 2)
        return {api::drop::rtp_version, true};
    return {api::drop::none, true, rtcp_fixed_header, 0, load32(data + 4)};
}

// Either, or the reason why it is neither.
[[nodiscard]] constexpr parsed parse(const std::uint8_t* data, std::size_t length) noexcept {
    switch (classify(data, length)) {
    case kind::rtp:
        return parse_rtp(data, length);
    case kind::rtcp:
        return parse_rtcp(data, length);
    case kind::empty:
        return {api::drop::rtp_malformed};
    case kind::zrtp:
    case kind::turn_channel:
    case kind::other:
        return {api::drop::rtp_version};
    case kind::stun:
    case kind::dtls:
        break;
    }
    return {api::drop::stun_unexpected};
}

// RTP in clear: the padding count (RFC 3550 5.1) lies within the payload.
[[nodiscard]] constexpr bool padding_valid(const std::uint8_t* data, std::size_t length, std::size_t header) noexcept {
    if ((data[0] & 0x20) == 0)
        return true;
    return length > header && data[length - 1] != 0 && data[length - 1] <= length - header;
}

// RTCP in clear: every packet of the compound has version 2, a type of RTCP's range and lies within the length.
[[nodiscard]] constexpr bool compound_valid(const std::uint8_t* data, std::size_t length) noexcept {
    if (length < rtcp_fixed_header || length % 4 != 0)
        return false;
    for (std::size_t at = 0; at < length;) {
        if (length - at < 4 || data[at] >> 6 != 2 || data[at + 1] < 192 || data[at + 1] > 223)
            return false;
        at += std::size_t{4} * (std::size_t{load16(data + at + 2)} + 1);
        if (at > length)
            return false;
    }
    return true;
}

// What the report blocks of a compound say, together: the worst of each kind.
struct reports {
    std::uint32_t blocks = 0;
    std::uint32_t jitter = 0;    // in units of the RTP clock
    std::int32_t cumulative = 0; // packets lost since the start; below 0 with duplicates
    std::uint8_t fraction = 0;   // lost since the report before, of 256
};

inline constexpr std::uint8_t rtcp_sender_report = 200, rtcp_receiver_report = 201;
inline constexpr std::size_t report_block = 24;

// RTCP in clear: the report blocks of its sender and receiver reports (RFC 3550 6.4.1, 6.4.2), up to the first packet
// that is not whole. At most length / 24 blocks are read, whatever the counts say.
[[nodiscard]] constexpr reports read_reports(const std::uint8_t* data, std::size_t length) noexcept {
    reports out;
    for (std::size_t at = 0; length - at >= rtcp_fixed_header;) {
        const std::size_t size = std::size_t{4} * (std::size_t{load16(data + at + 2)} + 1);
        if (data[at] >> 6 != 2 || size > length - at)
            break;
        const std::uint8_t type = data[at + 1];
        const std::size_t first = rtcp_fixed_header + (type == rtcp_sender_report ? 20 : 0);
        unsigned count = type == rtcp_sender_report || type == rtcp_receiver_report ? data[at] & 0x1f : 0;
        for (std::size_t block = first; count > 0 && block + report_block <= size; block += report_block, --count) {
            const std::uint8_t* b = data + at + block;
            const auto cumulative = static_cast<std::int32_t>(load32(b + 4) << 8) >> 8;
            const std::uint32_t jitter = load32(b + 12);
            out.fraction = b[4] > out.fraction ? b[4] : out.fraction;
            out.cumulative = out.blocks == 0 || cumulative > out.cumulative ? cumulative : out.cumulative;
            out.jitter = jitter > out.jitter ? jitter : out.jitter;
            ++out.blocks;
        }
        at += size;
    }
    return out;
}

} // namespace tandem::rtp
