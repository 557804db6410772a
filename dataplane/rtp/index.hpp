// SPDX-License-Identifier: Apache-2.0
// Packet indices: the 48-bit SRTP index i = 2^16 * ROC + SEQ guessed from the highest one known (RFC 3711 3.3.1,
// appendix A), and the 31-bit SRTCP index with its E flag (RFC 3711 3.4). Pure. Any thread.
#pragma once

#include <cstdint>

namespace tandem::rtp {

inline constexpr std::uint64_t max_rtp_index = (std::uint64_t{1} << 48) - 1;
inline constexpr std::uint32_t max_rtcp_index = (std::uint32_t{1} << 31) - 1;
inline constexpr std::uint32_t rtcp_encrypted = std::uint32_t{1} << 31; // the E flag

// `next`: highest index + 1, 0 where no packet is known (then ROC is 0, RFC 3711 3.3.1). The result may exceed
// max_rtp_index after 2^48 packets; the caller refuses that.
[[nodiscard]] constexpr std::uint64_t guess_index(std::uint64_t next, std::uint16_t sequence) noexcept {
    if (next == 0)
        return sequence;
    const std::uint64_t top = next - 1;
    const std::uint64_t roc = top >> 16;
    const std::uint32_t highest = top & 0xffff;
    if (highest < 0x8000) {
        // A sequence number from before ROC 0 does not exist: it is a jump forward.
        if (sequence > highest + 0x8000U && roc > 0)
            return (roc - 1) << 16 | sequence;
    } else if (sequence < highest - 0x8000U) {
        return (roc + 1) << 16 | sequence;
    }
    return roc << 16 | sequence;
}

// RFC 3550 A.1: what one packet's sequence number alone tells of a stream that nothing authenticates.
inline constexpr int max_dropout = 3000; // more are not lost at once: the sequence jumped
inline constexpr int max_misorder = 100; // nor does a packet come that late

// How far ahead of what is expected: 0 = the next one, -1 = the highest again.
[[nodiscard]] constexpr int distance(std::uint64_t next, std::uint16_t sequence) noexcept {
    return static_cast<std::int16_t>(sequence - static_cast<std::uint16_t>(next));
}
[[nodiscard]] constexpr bool in_sequence(int ahead) noexcept {
    return ahead <= max_dropout && ahead >= -1 - max_misorder;
}

[[nodiscard]] constexpr std::uint32_t roc_of(std::uint64_t index) noexcept {
    return static_cast<std::uint32_t>(index >> 16);
}

} // namespace tandem::rtp
