// SPDX-License-Identifier: Apache-2.0
// IP packets of the TUN device: what is this one (so that media is told from the rest), and UDP built for the phone.
//
// Pure: no I/O, no state, no allocation. Bytes come from programs on the unit, so nothing in them is trusted.
// RFC 791, RFC 768, RFC 8200 (extension headers, fragment header), RFC 1071 (checksum).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace tandem::agent {

// IPv4 as IPv4-mapped IPv6, the form of the control protocol's endpoint TLV.
using ip_bytes = std::array<std::uint8_t, 16>;

struct endpoint {
    ip_bytes ip{};
    std::uint16_t port = 0; // host byte order
    friend bool operator==(const endpoint&, const endpoint&) = default;
    friend auto operator<=>(const endpoint&, const endpoint&) = default;
};

[[nodiscard]] bool is_ipv4(const ip_bytes& ip) noexcept;

enum class packet_kind : std::uint8_t {
    malformed,      // not IPv4 or IPv6, or its lengths lie
    other,          // whole, but not UDP
    udp,            // a whole UDP datagram: source, destination, payload are set
    first_fragment, // of a UDP datagram: ports are set, payload is what is there
    later_fragment, // of a UDP datagram: addresses are set, ports are 0
};

struct packet_view {
    packet_kind kind = packet_kind::malformed;
    std::uint8_t traffic_class = 0; // DSCP and ECN as they stand in the header
    std::uint32_t fragment_id = 0;  // fragments only
    endpoint source;
    endpoint destination;
    std::span<const std::uint8_t> payload; // of UDP
};

[[nodiscard]] packet_view parse_packet(std::span<const std::uint8_t> packet) noexcept;

// Length of IP and UDP header together for this family.
[[nodiscard]] constexpr std::size_t udp_overhead(bool ipv4) noexcept {
    return ipv4 ? 28 : 48;
}

// IP + UDP + payload into `out`, checksums complete. Returns the length; 0 where families differ or it does not fit.
// The payload may already stand in `out` at udp_overhead(): then it is not copied.
[[nodiscard]] std::size_t build_udp(const endpoint& source, const endpoint& destination,
                                    std::span<const std::uint8_t> payload, std::span<std::uint8_t> out) noexcept;

// RFC 1071 over `bytes`, continuing `sum`; fold with finish_checksum. An odd length is padded: only the last part may
// be odd.
[[nodiscard]] std::uint32_t add_checksum(std::span<const std::uint8_t> bytes, std::uint32_t sum) noexcept;
[[nodiscard]] std::uint16_t finish_checksum(std::uint32_t sum) noexcept;

// RFC 5761 4: second byte 192..223 is RTCP where both come to one port.
[[nodiscard]] constexpr bool looks_like_rtcp(std::span<const std::uint8_t> payload) noexcept {
    return payload.size() >= 2 && payload[1] >= 192 && payload[1] <= 223;
}

} // namespace tandem::agent
