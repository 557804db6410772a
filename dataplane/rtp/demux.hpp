// SPDX-License-Identifier: Apache-2.0
// What a datagram on a media port is, by its first byte (RFC 7983), RTP from RTCP by the second (RFC 5761): the one
// place that tells them apart. A tunnel whose control messages come in clear numbers them by the first byte's high
// nibble, 1; RFC 7983 gives that range to ZRTP and DTLS, so a flow asks for one of the two. Pure. Any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "dataplane/api/contract.hpp"

namespace tandem::rtp {

enum class kind : std::uint8_t { rtp, rtcp, stun, zrtp, dtls, turn_channel, other, empty };

// RTP stands for RTCP, too: the second byte tells.
inline constexpr auto kinds_by_first_byte = [] {
    std::array<kind, 256> kinds{};
    for (std::size_t first = 0; first < kinds.size(); ++first)
        kinds[first] = first <= 3                     ? kind::stun
                       : first >= 16 && first <= 19   ? kind::zrtp
                       : first >= 20 && first <= 63   ? kind::dtls
                       : first >= 64 && first <= 79   ? kind::turn_channel
                       : first >= 128 && first <= 191 ? kind::rtp
                                                      : kind::other;
    return kinds;
}();

// RTCP: payload types 192..223, which are 64..95 with the marker bit.
[[nodiscard]] constexpr kind classify(const std::uint8_t* data, std::size_t length) noexcept {
    if (length == 0)
        return kind::empty;
    const kind first = kinds_by_first_byte[data[0]];
    if (first != kind::rtp)
        return first;
    return length >= 2 && data[1] >= 192 && data[1] <= 223 ? kind::rtcp : kind::rtp;
}

// As what a packet that begins so goes to the control plane, where the flow's `flags` (api::flow_flags) ask for it.
[[nodiscard]] constexpr api::packet_kind punted_as(std::uint8_t first, std::uint8_t flags) noexcept {
    if ((flags & api::flow_punts_control) != 0 && first >> 4 == 1)
        return api::packet_kind::control;
    const kind is = kinds_by_first_byte[first];
    if ((flags & api::flow_punts_dtls) != 0 && is == kind::dtls)
        return api::packet_kind::dtls;
    if ((flags & api::flow_punts_stun) != 0 && is == kind::stun)
        return api::packet_kind::stun;
    return api::packet_kind::none;
}

} // namespace tandem::rtp
