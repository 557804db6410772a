// SPDX-License-Identifier: Apache-2.0
// See frame.hpp. Every length is checked before a byte is read; what does not fit has a named reason.
#include "dataplane/pipeline/frame.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "dataplane/flow/record.hpp"

namespace tandem::pipeline {

namespace {

using bytes = std::span<const std::uint8_t>;

constexpr std::uint16_t ether_ipv4 = 0x0800, ether_ipv6 = 0x86dd, ether_vlan = 0x8100;
constexpr std::uint8_t protocol_udp = 17, protocol_fragment = 44;

std::uint16_t get16(const std::uint8_t* at) noexcept {
    return static_cast<std::uint16_t>(at[0] << 8 | at[1]);
}
void put16(std::uint8_t* at, std::uint16_t value) noexcept {
    at[0] = static_cast<std::uint8_t>(value >> 8);
    at[1] = static_cast<std::uint8_t>(value);
}

void set_ipv4(api::net_address& to, const std::uint8_t* ip) noexcept {
    std::memset(to.ip, 0, 10);
    to.ip[10] = to.ip[11] = 0xff;
    std::memcpy(to.ip + 12, ip, 4);
}

// The IP part: addresses, and where UDP begins and ends.
struct ip_part {
    std::size_t udp;
    std::size_t end;
};

api::drop parse_ipv4(bytes frame, std::size_t at, udp_frame& out, ip_part& part) noexcept {
    if (frame.size() - at < 20)
        return api::drop::bad_ip;
    const std::uint8_t* ip = frame.data() + at;
    const std::size_t header = static_cast<std::size_t>(ip[0] & 0x0f) * 4, total = get16(ip + 2);
    if (ip[0] >> 4 != 4 || header < 20 || total < header || total > frame.size() - at)
        return api::drop::bad_ip;
    if (checksum_fold(checksum_add(ip, header, 0)) != 0)
        return api::drop::bad_ip;
    if ((get16(ip + 6) & 0x3fff) != 0) // more fragments, or an offset
        return api::drop::fragment;
    if (ip[9] != protocol_udp)
        return api::drop::bad_udp;
    if ((out.hops = ip[8]) <= 1)
        return api::drop::hops_over;
    set_ipv4(out.source, ip + 12);
    set_ipv4(out.destination, ip + 16);
    part = {at + header, at + total};
    return api::drop::none;
}

api::drop parse_ipv6(bytes frame, std::size_t at, udp_frame& out, ip_part& part) noexcept {
    if (frame.size() - at < 40)
        return api::drop::bad_ip;
    const std::uint8_t* ip = frame.data() + at;
    const std::size_t length = get16(ip + 4);
    if (ip[0] >> 4 != 6 || length > frame.size() - at - 40)
        return api::drop::bad_ip;
    if (ip[6] == protocol_fragment)
        return api::drop::fragment;
    if (ip[6] != protocol_udp) // other extension headers have no place in front of media
        return api::drop::bad_udp;
    if ((out.hops = ip[7]) <= 1)
        return api::drop::hops_over;
    std::memcpy(out.source.ip, ip + 8, 16);
    std::memcpy(out.destination.ip, ip + 24, 16);
    if (flow::is_ipv4(out.source.ip) || flow::is_ipv4(out.destination.ip))
        return api::drop::bad_ip; // mapped addresses do not travel (RFC 4291 2.5.5.2); here they stand for IPv4
    part = {at + 40, at + 40 + length};
    return api::drop::none;
}

} // namespace

link_seen link_of(const std::uint8_t* frame) noexcept {
    link_seen link;
    std::memcpy(link.destination_mac, frame, 6);
    std::memcpy(link.source_mac, frame + 6, 6);
    const std::uint16_t id = get16(frame + 12) == ether_vlan ? get16(frame + 14) & 0x0fff : 0;
    link.vlan = id != 0 ? id : no_vlan;
    return link;
}

api::drop parse_frame(bytes frame, udp_frame& out) noexcept {
    if (frame.size() < 14)
        return api::drop::not_ip;
    std::uint16_t type = get16(frame.data() + 12);
    std::size_t at = 14;
    if (type == ether_vlan) {
        if (frame.size() < 18)
            return api::drop::not_ip;
        type = get16(frame.data() + 16);
        at = 18;
    }
    out.link = link_of(frame.data());
    ip_part part{};
    api::drop wrong = api::drop::not_ip;
    if (type == ether_ipv4)
        wrong = parse_ipv4(frame, at, out, part);
    else if (type == ether_ipv6)
        wrong = parse_ipv6(frame, at, out, part);
    if (wrong != api::drop::none)
        return wrong;
    if (part.end - part.udp < 8)
        return api::drop::bad_udp;
    const std::uint8_t* udp = frame.data() + part.udp;
    const std::size_t length = get16(udp + 4);
    if (length < 8 || length > part.end - part.udp)
        return api::drop::bad_udp;
    out.source.port = get16(udp);
    out.destination.port = get16(udp + 2);
    if (out.source.port == 0 || out.destination.port == 0)
        return api::drop::bad_udp;
    std::memset(out.source.reserved, 0, sizeof out.source.reserved);
    std::memset(out.destination.reserved, 0, sizeof out.destination.reserved);
    out.payload_offset = static_cast<std::uint16_t>(part.udp + 8);
    out.payload_length = static_cast<std::uint16_t>(length - 8);
    return api::drop::none;
}

namespace {

// One's complement sums may be taken over wider words and folded.
std::uint64_t checksum_words(const std::uint8_t* data, std::size_t length, std::uint64_t sum) noexcept {
    for (; length >= 8; data += 8, length -= 8) {
        std::uint64_t word;
        std::memcpy(&word, data, 8);
        sum += (word & 0xffffffff) + (word >> 32);
    }
    for (; length >= 2; data += 2, length -= 2) {
        std::uint16_t word;
        std::memcpy(&word, data, 2);
        sum += word;
    }
    if (length != 0)
        sum += *data; // the missing byte behind it counts as zero; little-endian words
    return sum;
}

#if defined(__x86_64__)
// The bytes from `rest` on are ones: a mask of the last `rest` of 32 bytes.
alignas(64) constexpr std::array<std::uint8_t, 64> last_bytes = [] {
    std::array<std::uint8_t, 64> mask{};
    std::fill(mask.begin() + 32, mask.end(), std::uint8_t{0xff});
    return mask;
}();

// 64 bytes or more: the rest behind whole blocks is the masked end of a block that overlaps the one before.
__attribute__((target("avx2,tune=haswell"))) std::uint64_t checksum_avx2(const std::uint8_t* data, std::size_t length,
                                                                         std::uint64_t sum) noexcept {
    const __m256i low = _mm256_set1_epi64x(0xffffffff);
    if (length % 2 != 0) // words stay where they are
        sum += data[--length];
    const std::uint8_t* const end = data + length;
    const __m256i tail =
        _mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(end - 32)),
                         _mm256_loadu_si256(reinterpret_cast<const __m256i*>(last_bytes.data() + length % 32)));
    __m256i even = _mm256_and_si256(tail, low), odd = _mm256_srli_epi64(tail, 32);
#pragma GCC unroll 1
    for (; end - data >= 32; data += 32) {
        const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data));
        even = _mm256_add_epi64(even, _mm256_and_si256(words, low));
        odd = _mm256_add_epi64(odd, _mm256_srli_epi64(words, 32));
    }
    even = _mm256_add_epi64(even, odd);
    const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(even), _mm256_extracti128_si256(even, 1));
    return sum + static_cast<std::uint64_t>(_mm_cvtsi128_si64(half)) +
           static_cast<std::uint64_t>(_mm_extract_epi64(half, 1));
}
const bool has_avx2 = __builtin_cpu_supports("avx2");
#endif

} // namespace

std::uint64_t checksum_add(const std::uint8_t* data, std::size_t length, std::uint64_t sum) noexcept {
    static_assert(std::endian::native == std::endian::little);
#if defined(__x86_64__)
    if (length >= 64 && has_avx2)
        return checksum_avx2(data, length, sum);
#endif
    return checksum_words(data, length, sum);
}

std::uint16_t checksum_fold(std::uint64_t sum) noexcept {
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(~sum & 0xffff);
}

endpoints make_endpoints(const api::net_address& local, const api::net_address& remote) noexcept {
    endpoints e{};
    std::memcpy(e.local_ip, local.ip, sizeof e.local_ip);
    std::memcpy(e.remote_ip, remote.ip, sizeof e.remote_ip);
    e.local_port = local.port;
    e.remote_port = remote.port;
    e.ipv4 = flow::is_ipv4(remote.ip) ? 1 : 0;
    return e;
}

namespace {

std::uint32_t get32(const std::uint8_t* at) noexcept {
    std::uint32_t word;
    std::memcpy(&word, at, 4);
    return word;
}

std::uint64_t get64(const std::uint8_t* at) noexcept {
    std::uint64_t word;
    std::memcpy(&word, at, 8);
    return word;
}

// Ports and UDP's length, as they lie in memory.
std::uint64_t udp_words(const endpoints& ends, std::uint16_t udp_length) noexcept {
    return std::uint64_t{__builtin_bswap16(ends.local_port)} |
           std::uint64_t{__builtin_bswap16(ends.remote_port)} << 16 |
           std::uint64_t{__builtin_bswap16(udp_length)} << 32;
}

// Over the datagram and its pseudo header; `words` of udp_words().
std::uint64_t udp_checksum(std::uint64_t addresses, std::uint64_t words, const std::uint8_t* payload,
                           std::size_t length) noexcept {
    const std::uint64_t twice = words >> 32; // the length: once in each header
    const std::uint64_t sum = addresses + (words & 0xffffffff) + 2 * twice + (std::uint32_t{protocol_udp} << 8);
    const std::uint64_t checksum = checksum_fold(checksum_add(payload, length, sum));
    return checksum != 0 ? checksum : 0xffff; // RFC 768: zero would mean none
}

// IPv4, and Ethernet on no VLAN, which most of it is: 42 bytes in words.
void write_plain(std::uint8_t* payload, std::uint16_t payload_length, const link_out& link, const endpoints& ends,
                 std::uint8_t dscp, std::uint8_t hops) noexcept {
    const std::uint64_t source = get32(ends.local_ip + 12), destination = get32(ends.remote_ip + 12);
    const std::uint64_t words = udp_words(ends, static_cast<std::uint16_t>(payload_length + 8));
    const std::uint64_t checksum = udp_checksum(source + destination, words, payload, payload_length);
    const std::uint64_t version = 0x45u | static_cast<unsigned>(dscp) << 10;
    // Length; do not fragment: an atomic datagram, its ID means nothing; TTL, protocol.
    const std::uint64_t rest = std::uint64_t{__builtin_bswap16(static_cast<std::uint16_t>(payload_length + 28))} |
                               std::uint64_t{0x0040} << 32 | std::uint64_t{hops} << 48 |
                               std::uint64_t{protocol_udp} << 56;
    const std::uint64_t ip_checksum =
        checksum_fold(source + destination + version + (rest & 0xffffffff) + (rest >> 32));
    std::uint8_t* const at = payload - plain_headers;
    const std::uint64_t head[5] = {get64(link.destination_mac),
                                   get32(link.source_mac + 2) | std::uint64_t{0x0008} << 32 | version << 48, rest,
                                   ip_checksum | source << 16 | destination << 48, destination >> 16 | words << 16};
    std::memcpy(at, head, sizeof head);
    std::memcpy(at + sizeof head, &checksum, 2);
}

// Returns the sum over its addresses.
std::uint64_t write_ipv6(std::uint8_t* ip, std::uint16_t udp_length, const endpoints& ends, std::uint8_t dscp,
                         std::uint8_t hops) noexcept {
    const std::uint32_t first = 0x60000000u | static_cast<std::uint32_t>(dscp) << 22;
    put16(ip, static_cast<std::uint16_t>(first >> 16));
    put16(ip + 2, static_cast<std::uint16_t>(first));
    put16(ip + 4, udp_length);
    ip[6] = protocol_udp;
    ip[7] = hops;
    std::memcpy(ip + 8, ends.local_ip, 16);
    std::memcpy(ip + 24, ends.remote_ip, 16);
    return checksum_words(ip + 8, 32, 0);
}

} // namespace

void write_headers(std::uint8_t* payload, std::uint16_t payload_length, const link_out& link, const endpoints& ends,
                   std::uint8_t dscp, std::uint8_t hops) noexcept {
    const bool ipv4 = ends.ipv4 != 0;
    std::uint8_t* const ip = payload - 8 - (ipv4 ? 20 : 40);
    if (ipv4) {
        write_plain(payload, payload_length, link, ends, dscp, hops);
        if (link.vlan == no_vlan)
            return;
    } else {
        const auto udp_length = static_cast<std::uint16_t>(payload_length + 8);
        const std::uint64_t addresses = write_ipv6(ip, udp_length, ends, dscp, hops);
        const std::uint64_t words = udp_words(ends, udp_length);
        const std::uint64_t header = words | udp_checksum(addresses, words, payload, payload_length) << 48;
        std::memcpy(payload - 8, &header, sizeof header);
    }
    std::uint8_t* ether = ip - (link.vlan == no_vlan ? 14 : 18);
    std::memcpy(ether, link.destination_mac, 6);
    std::memcpy(ether + 6, link.source_mac, 6);
    if (link.vlan != no_vlan) {
        put16(ether + 12, ether_vlan);
        put16(ether + 14, link.vlan);
    }
    put16(ip - 2, ipv4 ? ether_ipv4 : ether_ipv6);
}

bool checksum_holds(const std::uint8_t* payload, std::size_t length, const std::uint8_t (&source_ip)[16],
                    const std::uint8_t* destination_ip) noexcept {
    const std::uint8_t* udp = payload - 8;
    const bool ipv4 = flow::is_ipv4(source_ip);
    if (get16(udp + 6) == 0)
        return ipv4;
    const std::size_t skipped = ipv4 ? 12 : 0, datagram = length + 8;
    std::uint64_t sum = checksum_words(source_ip + skipped, 16 - skipped, 0);
    sum = checksum_words(destination_ip + skipped, 16 - skipped, sum);
    sum += __builtin_bswap16(static_cast<std::uint16_t>(datagram)) + (std::uint32_t{protocol_udp} << 8);
    return checksum_fold(checksum_add(udp, datagram, sum)) == 0;
}

} // namespace tandem::pipeline
