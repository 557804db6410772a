// SPDX-License-Identifier: Apache-2.0
// Parser and builder of inner IP packets. RFC 791, RFC 768, RFC 8200.
#include "tools/agent/device/packet.hpp"

#include <algorithm>
#include <cstring>

namespace tandem::agent {

namespace {

constexpr std::uint8_t protocol_udp = 17;
constexpr std::uint8_t next_hop_by_hop = 0, next_routing = 43, next_fragment = 44, next_destination = 60;
constexpr std::array<std::uint8_t, 12> mapped_prefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

std::uint16_t read16(std::span<const std::uint8_t> bytes, std::size_t at) noexcept {
    return static_cast<std::uint16_t>(bytes[at] << 8 | bytes[at + 1]);
}

void write16(std::span<std::uint8_t> bytes, std::size_t at, std::size_t value) noexcept {
    bytes[at] = static_cast<std::uint8_t>(value >> 8);
    bytes[at + 1] = static_cast<std::uint8_t>(value);
}

ip_bytes map_ipv4(std::span<const std::uint8_t> four) noexcept {
    ip_bytes ip{};
    std::copy(mapped_prefix.begin(), mapped_prefix.end(), ip.begin());
    std::copy_n(four.begin(), 4, ip.begin() + 12);
    return ip;
}

// `body` is what follows the IP headers (of the first or only fragment).
packet_view finish_udp(packet_view view, std::span<const std::uint8_t> body, bool fragmented) noexcept {
    if (body.size() < 8)
        return {};
    view.source.port = read16(body, 0);
    view.destination.port = read16(body, 2);
    const std::size_t length = read16(body, 4);
    if (fragmented) {
        view.kind = packet_kind::first_fragment;
        view.payload = body.subspan(8);
        return view;
    }
    if (length < 8 || length > body.size())
        return {};
    view.kind = packet_kind::udp;
    view.payload = body.subspan(8, length - 8);
    return view;
}

packet_view parse_ipv4(std::span<const std::uint8_t> packet) noexcept {
    if (packet.size() < 20)
        return {};
    const std::size_t header = std::size_t{packet[0] & 0x0fU} * 4;
    const std::size_t total = read16(packet, 2);
    if (header < 20 || total < header || total > packet.size())
        return {};
    packet_view view;
    view.kind = packet_kind::other;
    view.traffic_class = packet[1];
    view.source.ip = map_ipv4(packet.subspan(12, 4));
    view.destination.ip = map_ipv4(packet.subspan(16, 4));
    if (packet[9] != protocol_udp)
        return view;
    const std::uint16_t fragment = read16(packet, 6);
    const bool more = (fragment & 0x2000U) != 0;
    const bool later = (fragment & 0x1fffU) != 0;
    view.fragment_id = more || later ? read16(packet, 4) : 0U;
    if (later) {
        view.kind = packet_kind::later_fragment;
        return view;
    }
    return finish_udp(view, packet.subspan(header, total - header), more);
}

packet_view parse_ipv6(std::span<const std::uint8_t> packet) noexcept {
    if (packet.size() < 40)
        return {};
    const std::size_t length = read16(packet, 4);
    if (length > packet.size() - 40)
        return {};
    packet_view view;
    view.kind = packet_kind::other;
    view.traffic_class = static_cast<std::uint8_t>(packet[0] << 4 | packet[1] >> 4);
    std::copy_n(packet.begin() + 8, 16, view.source.ip.begin());
    std::copy_n(packet.begin() + 24, 16, view.destination.ip.begin());
    std::span<const std::uint8_t> body = packet.subspan(40, length);
    std::uint8_t next = packet[6];
    bool more = false, later = false;
    while (next != protocol_udp) {
        if (next != next_hop_by_hop && next != next_routing && next != next_destination && next != next_fragment)
            return view;
        if (body.size() < 8)
            return {};
        std::size_t step = 8;
        if (next == next_fragment) {
            const std::uint16_t offset = read16(body, 2);
            more = (offset & 1U) != 0;
            later = (offset & 0xfff8U) != 0;
            view.fragment_id = static_cast<std::uint32_t>(read16(body, 4)) << 16 | read16(body, 6);
        } else {
            step = (std::size_t{body[1]} + 1) * 8;
        }
        next = body[0];
        if (step > body.size())
            return {};
        body = body.subspan(step);
        if (later) { // what follows is not a header any more
            if (next == protocol_udp)
                view.kind = packet_kind::later_fragment;
            return view;
        }
    }
    return finish_udp(view, body, more);
}

std::uint16_t udp_checksum(std::span<const std::uint8_t> source, std::span<const std::uint8_t> destination,
                           std::span<const std::uint8_t> datagram) noexcept {
    std::uint32_t sum = add_checksum(source, 0);
    sum = add_checksum(destination, sum);
    sum += protocol_udp + static_cast<std::uint32_t>(datagram.size());
    const std::uint16_t checksum = finish_checksum(add_checksum(datagram, sum));
    return checksum == 0 ? std::uint16_t{0xffff} : checksum; // 0 means "none" (RFC 768)
}

} // namespace

bool is_ipv4(const ip_bytes& ip) noexcept {
    return std::equal(mapped_prefix.begin(), mapped_prefix.end(), ip.begin());
}

std::uint32_t add_checksum(std::span<const std::uint8_t> bytes, std::uint32_t sum) noexcept {
    std::size_t at = 0;
    for (; at + 1 < bytes.size(); at += 2)
        sum += read16(bytes, at);
    if (at < bytes.size())
        sum += static_cast<std::uint32_t>(bytes[at]) << 8;
    return sum;
}

std::uint16_t finish_checksum(std::uint32_t sum) noexcept {
    while (sum >> 16 != 0)
        sum = (sum & 0xffffU) + (sum >> 16);
    return static_cast<std::uint16_t>(~sum);
}

packet_view parse_packet(std::span<const std::uint8_t> packet) noexcept {
    if (packet.empty())
        return {};
    switch (packet[0] >> 4) {
    case 4:
        return parse_ipv4(packet);
    case 6:
        return parse_ipv6(packet);
    default:
        return {};
    }
}

std::size_t build_udp(const endpoint& source, const endpoint& destination, std::span<const std::uint8_t> payload,
                      std::span<std::uint8_t> out) noexcept {
    const bool ipv4 = is_ipv4(source.ip);
    const std::size_t head = udp_overhead(ipv4);
    const std::size_t total = head + payload.size();
    if (ipv4 != is_ipv4(destination.ip) || total > out.size() || total > 65535)
        return 0;
    if (!payload.empty() && out.data() + head != payload.data())
        std::memmove(out.data() + head, payload.data(), payload.size());
    const std::size_t udp = head - 8;
    std::fill_n(out.begin(), head, std::uint8_t{0});
    if (ipv4) {
        out[0] = 0x45;
        write16(out, 2, total);
        write16(out, 6, 0x4000); // don't fragment: the identification may stay 0 (RFC 6864)
        out[8] = 64;
        out[9] = protocol_udp;
        std::copy_n(source.ip.begin() + 12, 4, out.begin() + 12);
        std::copy_n(destination.ip.begin() + 12, 4, out.begin() + 16);
        write16(out, 10, finish_checksum(add_checksum(out.first(20), 0)));
    } else {
        out[0] = 0x60;
        write16(out, 4, total - 40);
        out[6] = protocol_udp;
        out[7] = 64;
        std::copy_n(source.ip.begin(), 16, out.begin() + 8);
        std::copy_n(destination.ip.begin(), 16, out.begin() + 24);
    }
    write16(out, udp, source.port);
    write16(out, udp + 2, destination.port);
    write16(out, udp + 4, total - udp);
    const std::size_t width = ipv4 ? 4 : 16;
    const std::size_t skip = 16 - width;
    write16(out, udp + 6,
            udp_checksum(std::span(source.ip).subspan(skip), std::span(destination.ip).subspan(skip),
                         out.subspan(udp, total - udp)));
    return total;
}

} // namespace tandem::agent
