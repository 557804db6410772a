// SPDX-License-Identifier: Apache-2.0
// See frame.hpp. Every length is checked before a byte is read; what does not fit has a named reason.
#include "dataplane/pipeline/frame.hpp"

#include <cstring>

#include "dataplane/flow/record.hpp"
#include "dataplane/pipeline/checksum.hpp"
#include "dataplane/pipeline/frame_usual.hpp"

namespace tandem::pipeline {

namespace {

using bytes = std::span<const std::uint8_t>;

constexpr std::uint16_t ether_ipv4 = 0x0800, ether_ipv6 = 0x86dd, ether_vlan = 0x8100;
constexpr std::uint8_t protocol_fragment = 44;

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
    if (checksum::fold(checksum::add(ip, header)) != 0)
        return api::drop::bad_ip;
    if ((get16(ip + 6) & 0x3fff) != 0) // more fragments, or an offset
        return api::drop::fragment;
    if (ip[9] != udp_protocol)
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
    if (ip[6] != udp_protocol) // other extension headers have no place in front of media
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

// Returns the sum over its addresses.
std::uint64_t write_ipv6(std::uint8_t* ip, std::uint16_t udp_length, const endpoints& ends, std::uint8_t dscp,
                         std::uint8_t hops) noexcept {
    const std::uint32_t first = 0x60000000u | static_cast<std::uint32_t>(dscp) << 22;
    put16(ip, static_cast<std::uint16_t>(first >> 16));
    put16(ip + 2, static_cast<std::uint16_t>(first));
    put16(ip + 4, udp_length);
    ip[6] = udp_protocol;
    ip[7] = hops;
    std::memcpy(ip + 8, ends.local_ip, 16);
    std::memcpy(ip + 24, ends.remote_ip, 16);
    return checksum::add(ip + 8, 32);
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
    const std::uint64_t length_and_protocol =
        __builtin_bswap16(static_cast<std::uint16_t>(datagram)) + (std::uint32_t{udp_protocol} << 8);
    const std::uint64_t addresses = checksum::plus(checksum::add(source_ip + skipped, 16 - skipped),
                                                   checksum::add(destination_ip + skipped, 16 - skipped));
    return checksum::fold(
               checksum::plus(checksum::plus(addresses, length_and_protocol), checksum::add(udp, datagram))) == 0;
}

} // namespace tandem::pipeline
