// SPDX-License-Identifier: Apache-2.0
// What a suite adds to a packet and where, and the key-derivation labels (RFC 3711 3.1, 3.4, 4.3; RFC 7714 8, 9).
//   AES-CM:  SRTP  header | E(payload)        | MKI | tag        SRTCP  header | E(rest)        | E,index | MKI | tag
//   AEAD:    SRTP  header | E(payload) | tag  | MKI              SRTCP  header | E(rest) | tag  | E,index | MKI
#pragma once

#include <cstddef>
#include <cstdint>

#include "dataplane/api/suites.hpp"

namespace tandem::rtp {

enum class label : std::uint8_t { // RFC 3711 4.3.1, 4.3.2
    rtp_encryption = 0,
    rtp_authentication = 1,
    rtp_salting = 2,
    rtcp_encryption = 3,
    rtcp_authentication = 4,
    rtcp_salting = 5,
};

inline constexpr std::size_t srtcp_index_length = 4;
inline constexpr std::size_t max_mki_length = 4;
inline constexpr std::size_t max_tag_length = 16;
// The most that protecting makes a packet longer.
inline constexpr std::size_t max_trailer = max_tag_length + max_mki_length + srtcp_index_length;

[[nodiscard]] constexpr std::size_t tag_length(api::suite suite, bool rtcp) noexcept {
    const auto& row = api::info(suite);
    return rtcp ? row.rtcp_tag_length : row.rtp_tag_length;
}

// Bytes that protecting adds.
[[nodiscard]] constexpr std::size_t trailer_length(api::suite suite, bool rtcp, std::size_t mki_length) noexcept {
    if (suite == api::suite::clear)
        return 0;
    return tag_length(suite, rtcp) + mki_length + (rtcp ? srtcp_index_length : 0);
}

// RFC 3711 9.2 with RFC 7714 14.1: packets that one master key may protect.
inline constexpr std::uint64_t max_rtp_packets = std::uint64_t{1} << 48;
inline constexpr std::uint64_t max_rtcp_packets = std::uint64_t{1} << 31;

} // namespace tandem::rtp
