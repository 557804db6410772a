// SPDX-License-Identifier: Apache-2.0
// Most frames, inline and in words: Ethernet without a tag, IPv4 without options. parse_plain and write_plain do what
// parse_frame and write_headers (frame.hpp) do with such a one; those have the others. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "dataplane/pipeline/checksum.hpp"
#include "dataplane/pipeline/frame.hpp"

namespace tandem::pipeline {

inline constexpr std::uint8_t udp_protocol = 17;

struct plain_frame {
    std::uint32_t source_ip, destination_ip; // as in memory
    std::uint16_t source_port, destination_port;
    std::uint16_t payload_length;
    std::uint8_t hops;
};
inline constexpr std::size_t plain_headers = 14 + 20 + 8;

// Reads one of those; false where it is not or where anything is wrong: then parse_frame says what.
[[nodiscard]] inline bool parse_plain(const std::uint8_t* frame, std::size_t length, plain_frame& out) noexcept {
    if (length < plain_headers)
        return false;
    const auto type = word<std::uint32_t>(frame + 12), to = word<std::uint32_t>(frame + 30);
    const auto first = word<std::uint64_t>(frame + 14), second = word<std::uint64_t>(frame + 22),
               udp = word<std::uint64_t>(frame + 34);
    const std::uint64_t sum = checksum::plus(checksum::plus(first, second), to);
    const std::size_t total = __builtin_bswap16(static_cast<std::uint16_t>(first >> 16));
    const std::size_t datagram = __builtin_bswap16(static_cast<std::uint16_t>(udp >> 32));
    out.source_ip = static_cast<std::uint32_t>(second >> 32);
    out.destination_ip = static_cast<std::uint32_t>(to);
    out.source_port = __builtin_bswap16(static_cast<std::uint16_t>(udp));
    out.destination_port = __builtin_bswap16(static_cast<std::uint16_t>(udp >> 16));
    out.payload_length = static_cast<std::uint16_t>(datagram - 8);
    out.hops = static_cast<std::uint8_t>(second);
    const bool plain = (type & 0xffffff) == 0x450008 && (first >> 48 & 0xff3f) == 0; // no part of a fragmented one
    return plain && (second >> 8 & 0xff) == udp_protocol && checksum::fold(sum) == 0 && total <= length - 14 &&
           datagram >= 8 && datagram + 20 <= total && out.source_port != 0 && out.destination_port != 0 && out.hops > 1;
}

// Ports and UDP's length, as they lie in memory.
[[nodiscard]] inline std::uint64_t udp_words(const endpoints& ends, std::uint16_t udp_length) noexcept {
    return std::uint64_t{__builtin_bswap16(ends.local_port)} |
           std::uint64_t{__builtin_bswap16(ends.remote_port)} << 16 |
           std::uint64_t{__builtin_bswap16(udp_length)} << 32;
}

// Over the datagram and its pseudo header; `words` of udp_words().
[[nodiscard]] inline std::uint64_t udp_checksum(std::uint64_t addresses, std::uint64_t words,
                                                const std::uint8_t* payload, std::size_t length) noexcept {
    const std::uint64_t twice = words >> 32; // the length: once in each header
    const std::uint64_t sum =
        checksum::plus(addresses, (words & 0xffffffff) + 2 * twice + (std::uint32_t{udp_protocol} << 8));
    const std::uint64_t sent = checksum::fold(checksum::plus(sum, checksum::add(payload, length)));
    return sent != 0 ? sent : 0xffff; // RFC 768: zero would mean none
}

// What write_headers does, over IPv4 and Ethernet on no VLAN: 42 bytes in words.
inline void write_plain(std::uint8_t* payload, std::uint16_t payload_length, const link_out& link,
                        const endpoints& ends, std::uint8_t dscp, std::uint8_t hops) noexcept {
    const std::uint64_t source = word<std::uint32_t>(ends.local_ip + 12),
                        destination = word<std::uint32_t>(ends.remote_ip + 12);
    const std::uint64_t words = udp_words(ends, static_cast<std::uint16_t>(payload_length + 8));
    const std::uint64_t udp_sum = udp_checksum(source + destination, words, payload, payload_length);
    const std::uint64_t version = 0x45u | static_cast<unsigned>(dscp) << 10;
    // Length; do not fragment: an atomic datagram, its ID means nothing; TTL, protocol.
    const std::uint64_t rest = std::uint64_t{__builtin_bswap16(static_cast<std::uint16_t>(payload_length + 28))} |
                               std::uint64_t{0x0040} << 32 | std::uint64_t{hops} << 48 |
                               std::uint64_t{udp_protocol} << 56;
    const std::uint64_t ip_checksum = checksum::fold(checksum::plus(source + destination + version, rest));
    std::uint8_t* const at = payload - plain_headers;
    const std::uint64_t head[5] = {
        word<std::uint64_t>(link.destination_mac),
        word<std::uint32_t>(link.source_mac + 2) | std::uint64_t{0x0008} << 32 | version << 48, rest,
        ip_checksum | source << 16 | destination << 48, destination >> 16 | words << 16};
    std::memcpy(at, head, sizeof head);
    std::memcpy(at + sizeof head, &udp_sum, 2);
}

} // namespace tandem::pipeline
