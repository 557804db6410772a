// SPDX-License-Identifier: Apache-2.0
// What a test packet says of itself: who sent it and the how-many-eth it is. In RTP's payload, and in an APP packet of
// a compound RTCP (RFC 3550 6.7); so that it is known whatever the gateway does to headers.
#pragma once

#include <array>
#include <cstring>
#include <optional>

#include "tests/tools/oracle/srtp.hpp"

namespace tandem::oracle {

struct identity {
    std::uint32_t end = 0;
    std::uint64_t number = 0; // counted over RTP and RTCP
};

inline constexpr std::array<std::uint8_t, 4> identity_mark{'T', 'N', 'D', 'M'};
inline constexpr std::size_t rtp_identity_at = 12, rtcp_identity_at = 16, rtp_length = 60;

[[nodiscard]] inline bytes make_rtp(std::uint32_t ssrc, std::uint16_t sequence, std::uint32_t timestamp,
                                    const identity& who) {
    bytes packet(rtp_length, 0xd5);
    packet[0] = 0x80;
    packet[1] = 0;
    packet[2] = static_cast<std::uint8_t>(sequence >> 8);
    packet[3] = static_cast<std::uint8_t>(sequence);
    put32(packet, 4, timestamp);
    put32(packet, 8, ssrc);
    std::memcpy(packet.data() + rtp_identity_at, identity_mark.data(), 4);
    put32(packet, rtp_identity_at + 4, who.end);
    put64(packet, rtp_identity_at + 8, who.number);
    return packet;
}

// An empty receiver report, then APP: subtype 0, SSRC, name, data.
[[nodiscard]] inline bytes make_rtcp(std::uint32_t ssrc, const identity& who) {
    bytes packet{0x80, 201, 0, 1, 0, 0, 0, 0, 0x80, 204, 0, 5, 0, 0, 0, 0};
    put32(packet, 4, ssrc);
    put32(packet, 12, ssrc);
    packet.resize(packet.size() + 16);
    std::memcpy(packet.data() + rtcp_identity_at, identity_mark.data(), 4);
    put32(packet, rtcp_identity_at + 4, who.end);
    put64(packet, rtcp_identity_at + 8, who.number);
    return packet;
}

[[nodiscard]] inline std::optional<identity> read_identity(const bytes& packet) noexcept {
    const auto head = read_head(packet);
    const auto at = head && head->rtcp ? rtcp_identity_at : rtp_identity_at;
    if (!head || packet.size() < at + 16 || std::memcmp(packet.data() + at, identity_mark.data(), 4) != 0)
        return std::nullopt;
    return identity{get32(packet, at + 4), get64(packet, at + 8)};
}

} // namespace tandem::oracle
