// SPDX-License-Identifier: Apache-2.0
// Frames: Ethernet, at most one VLAN tag, IPv4 or IPv6, UDP. Reading one that came from anywhere, and writing our own
// headers in front of a payload. Pure: bytes in, bytes out; no DPDK. Runs on workers; also fuzzed.
// RFC 791, RFC 8200, RFC 768, RFC 2474 (DSCP), RFC 6864 (IPv4 ID of atomic datagrams).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "dataplane/api/contract.hpp"
#include "dataplane/api/drops.hpp"

namespace tandem::pipeline {

inline constexpr std::uint16_t no_vlan = 0xffff;

// Layer 2 as seen in a received frame.
struct link_seen {
    std::uint8_t source_mac[6];
    std::uint8_t destination_mac[6];
    std::uint16_t vlan; // no_vlan, or the 12-bit id
};

struct udp_frame {
    api::net_address source;
    api::net_address destination;
    link_seen link;
    std::uint16_t payload_offset; // from the frame's start
    std::uint16_t payload_length;
};

// Reads a frame; api::drop::none where it is a whole UDP datagram. Never reads beyond the span.
[[nodiscard]] api::drop parse_frame(std::span<const std::uint8_t> frame, udp_frame& out) noexcept;

// How a frame leaves.
struct link_out {
    std::uint8_t source_mac[6];
    std::uint8_t destination_mac[6];
    std::uint16_t vlan; // no_vlan, or the 12-bit id
};

inline constexpr std::size_t max_header_bytes = 14 + 4 + 40 + 8;

// Bytes of headers in front of the payload.
[[nodiscard]] constexpr std::size_t header_bytes(bool ipv4, bool vlan) noexcept {
    return 14u + (vlan ? 4u : 0u) + (ipv4 ? 20u : 40u) + 8u;
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
// Both addresses are of the same family.
void write_headers(std::uint8_t* payload, std::uint16_t payload_length, const link_out& link, const endpoints& ends,
                   std::uint8_t dscp) noexcept;

[[nodiscard]] endpoints make_endpoints(const api::net_address& local, const api::net_address& remote) noexcept;

// The Internet checksum's running sum (RFC 1071), exposed for tests.
[[nodiscard]] std::uint64_t checksum_add(const std::uint8_t* data, std::size_t length, std::uint64_t sum) noexcept;
[[nodiscard]] std::uint16_t checksum_fold(std::uint64_t sum) noexcept; // in memory (network) order

} // namespace tandem::pipeline
