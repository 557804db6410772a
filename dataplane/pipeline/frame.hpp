// SPDX-License-Identifier: Apache-2.0
// Frames: Ethernet, at most one VLAN tag, IPv4 or IPv6, UDP. Reading one that came from anywhere, and writing our own
// headers in front of a payload. Pure: bytes in, bytes out; no DPDK. Runs on workers; also fuzzed.
// RFC 791, RFC 8200, RFC 768, RFC 2474 (DSCP), RFC 6864 (IPv4 ID of atomic datagrams).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "dataplane/api/contract.hpp"
#include "dataplane/api/drops.hpp"

namespace tandem::pipeline {

inline constexpr std::uint16_t no_vlan = 0xffff;
inline constexpr std::uint8_t own_hops = 64; // of what begins here

// Layer 2 as seen in a received frame.
struct link_seen {
    std::uint8_t destination_mac[6]; // as on the wire
    std::uint8_t source_mac[6];
    std::uint16_t vlan; // no_vlan, or the 12-bit id
};

struct udp_frame {
    api::net_address source;
    api::net_address destination;
    link_seen link;               // a priority tag (VLAN 0) is none
    std::uint8_t hops;            // TTL or hop limit, 2 or more
    std::uint16_t payload_offset; // from the frame's start
    std::uint16_t payload_length;
};

// Reads a frame; api::drop::none where it is a whole UDP datagram. Never reads beyond the span.
[[nodiscard]] api::drop parse_frame(std::span<const std::uint8_t> frame, udp_frame& out) noexcept;

// Layer 2 of a frame that was read before.
[[nodiscard]] link_seen link_of(const std::uint8_t* frame) noexcept;

// How a frame leaves.
struct link_out {
    std::uint8_t destination_mac[6]; // as on the wire
    std::uint8_t source_mac[6];
    std::uint16_t vlan; // no_vlan, or the 12-bit id
};

inline constexpr std::size_t max_header_bytes = 14 + 4 + 40 + 8;

// Bytes of headers in front of the payload.
[[nodiscard]] constexpr std::size_t header_bytes(bool ipv4, bool vlan) noexcept {
    return 14u + (vlan ? 4u : 0u) + (ipv4 ? 20u : 40u) + 8u;
}

// Of them, Ethernet's and the VLAN tag's: what an MTU does not count.
[[nodiscard]] constexpr std::size_t ethernet_bytes(const link_out& link) noexcept {
    return link.vlan != no_vlan ? 18 : 14;
}

// From where to where, as headers need it.
struct endpoints {
    std::uint8_t local_ip[16]; // IPv4: the last 4
    std::uint8_t remote_ip[16];
    std::uint16_t local_port;  // host order
    std::uint16_t remote_port; // 0 = not known yet
    std::uint8_t ipv4;
    std::uint8_t reserved;
};

// Writes Ethernet, VLAN, IP and UDP headers into the header_bytes() before `payload`, checksums computed in full.
// Both addresses are of the same family. `hops`: TTL or hop limit.
void write_headers(std::uint8_t* payload, std::uint16_t payload_length, const link_out& link, const endpoints& ends,
                   std::uint8_t dscp, std::uint8_t hops = own_hops) noexcept;

// Whether the UDP checksum in front of the payload is right. IPv4 may be without one (RFC 768), IPv6 not (RFC
// 8200 8.1).
[[nodiscard]] bool checksum_holds(const std::uint8_t* payload, std::size_t length, const std::uint8_t (&source_ip)[16],
                                  const std::uint8_t* destination_ip) noexcept;

[[nodiscard]] endpoints make_endpoints(const api::net_address& local, const api::net_address& remote) noexcept;

} // namespace tandem::pipeline
