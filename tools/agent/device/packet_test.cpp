// SPDX-License-Identifier: Apache-2.0
// Inner packets: parser against hand-made bytes of every shape, builder against the parser and an independent checksum.
#include "tools/agent/device/packet.hpp"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

using namespace tandem::agent;
using bytes = std::vector<std::uint8_t>;

namespace {

endpoint v4(std::uint8_t last, std::uint16_t port) {
    return {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 64, 0, last}, port};
}
endpoint v6(std::uint8_t last, std::uint16_t port) {
    return {{0xfd, 0x64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last}, port};
}

bytes datagram(const endpoint& from, const endpoint& to, const bytes& payload) {
    bytes out(payload.size() + 48);
    out.resize(build_udp(from, to, payload, out));
    return out;
}

// Sum of all 16-bit words in a wider type, folded at the end: not the code under test.
std::uint16_t plain_sum(const bytes& data) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < data.size(); i++)
        sum += static_cast<std::uint64_t>(data[i]) << (i % 2 == 0 ? 8 : 0);
    while (sum > 0xffff)
        sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(sum);
}

} // namespace

TEST(Rim06Packet, BuiltPacketsParseBack) {
    std::mt19937 random(1);
    for (std::size_t size : {0U, 1U, 12U, 172U, 1232U}) {
        bytes payload(size);
        for (auto& byte : payload)
            byte = static_cast<std::uint8_t>(random());
        for (bool four : {true, false}) {
            const endpoint from = four ? v4(1, 20000) : v6(1, 20000), to = four ? v4(2, 7078) : v6(2, 7078);
            const bytes packet = datagram(from, to, payload);
            ASSERT_EQ(packet.size(), size + udp_overhead(four));
            const packet_view view = parse_packet(packet);
            ASSERT_EQ(view.kind, packet_kind::udp);
            EXPECT_EQ(view.source, from);
            EXPECT_EQ(view.destination, to);
            EXPECT_EQ(bytes(view.payload.begin(), view.payload.end()), payload);
        }
    }
}

TEST(Rim06Packet, ChecksumsAreRight) {
    for (std::size_t size : {0U, 1U, 2U, 171U, 172U}) {
        const bytes payload(size, 0xa5);
        bytes packet = datagram(v4(1, 1), v4(2, 2), payload);
        EXPECT_EQ(plain_sum(bytes(packet.begin(), packet.begin() + 20)), 0xffff); // IPv4 header
        bytes pseudo(packet.begin() + 12, packet.begin() + 20);
        const auto length = static_cast<std::uint8_t>(packet.size() - 20);
        pseudo.insert(pseudo.end(), {0, 17, 0, length});
        pseudo.insert(pseudo.end(), packet.begin() + 20, packet.end());
        EXPECT_EQ(plain_sum(pseudo), 0xffff);

        packet = datagram(v6(1, 1), v6(2, 2), payload);
        pseudo.assign(packet.begin() + 8, packet.begin() + 40);
        pseudo.insert(pseudo.end(), {0, 0, 0, length, 0, 0, 0, 17});
        pseudo.insert(pseudo.end(), packet.begin() + 40, packet.end());
        EXPECT_EQ(plain_sum(pseudo), 0xffff);
    }
}

TEST(Rim06Packet, PayloadAlreadyInPlaceIsKept) {
    bytes out(200);
    for (std::size_t i = 0; i < 100; i++)
        out[28 + i] = static_cast<std::uint8_t>(i);
    const std::size_t length = build_udp(v4(1, 5), v4(2, 6), std::span(out).subspan(28, 100), out);
    ASSERT_EQ(length, 128U);
    const packet_view view = parse_packet(std::span(out).first(length));
    ASSERT_EQ(view.kind, packet_kind::udp);
    EXPECT_EQ(view.payload[99], 99);
}

TEST(Rim06Packet, RefusesMixedFamiliesAndSmallBuffers) {
    bytes out(64);
    EXPECT_EQ(build_udp(v4(1, 1), v6(1, 1), bytes(4), out), 0U);
    EXPECT_EQ(build_udp(v4(1, 1), v4(1, 1), bytes(37), out), 0U);
    EXPECT_EQ(build_udp(v4(1, 1), v4(1, 1), bytes(36), out), 64U);
}

TEST(Rim06Packet, LyingLengthsAreMalformed) {
    const bytes good = datagram(v4(1, 1), v4(2, 2), bytes(20, 1));
    for (std::size_t cut = 0; cut < good.size(); cut++)
        EXPECT_EQ(parse_packet(std::span(good).first(cut)).kind, packet_kind::malformed) << cut;
    bytes bad = good;
    bad[0] = 0x44; // header shorter than 20
    EXPECT_EQ(parse_packet(bad).kind, packet_kind::malformed);
    bad = good;
    bad[0] = 0x4f; // header longer than the packet
    EXPECT_EQ(parse_packet(bad).kind, packet_kind::malformed);
    bad = good;
    bad[25] = 7; // UDP length below its header
    EXPECT_EQ(parse_packet(bad).kind, packet_kind::malformed);
    bad = good;
    bad[25] = 29; // beyond the packet
    EXPECT_EQ(parse_packet(bad).kind, packet_kind::malformed);
    bad = good;
    bad[0] = 0x15;
    EXPECT_EQ(parse_packet(bad).kind, packet_kind::malformed);
    const bytes six = datagram(v6(1, 1), v6(2, 2), bytes(20, 1));
    for (std::size_t cut = 0; cut < six.size(); cut++)
        EXPECT_EQ(parse_packet(std::span(six).first(cut)).kind, packet_kind::malformed) << cut;
}

TEST(Rim06Packet, TrailingBytesBelongToNobody) {
    bytes packet = datagram(v4(1, 1), v4(2, 2), bytes(20, 1));
    packet.push_back(9);
    EXPECT_EQ(parse_packet(packet).payload.size(), 20U);
}

TEST(Rim06Packet, OptionsAndExtensionHeadersAreSkipped) {
    bytes packet = datagram(v4(1, 11), v4(2, 22), bytes(8, 7));
    packet.insert(packet.begin() + 20, {1, 1, 1, 1});
    packet[0] = 0x46;
    packet[3] = static_cast<std::uint8_t>(packet.size());
    EXPECT_EQ(parse_packet(packet).kind, packet_kind::udp);
    EXPECT_EQ(parse_packet(packet).destination, v4(2, 22));

    packet = datagram(v6(1, 11), v6(2, 22), bytes(8, 7));
    packet.insert(packet.begin() + 40, {17, 0, 0, 0, 0, 0, 0, 0});
    packet[6] = 60;
    packet[5] = static_cast<std::uint8_t>(packet.size() - 40);
    EXPECT_EQ(parse_packet(packet).kind, packet_kind::udp);
    EXPECT_EQ(parse_packet(packet).source, v6(1, 11));
    packet[41] = 200; // extension header longer than the packet
    EXPECT_EQ(parse_packet(packet).kind, packet_kind::malformed);
}

TEST(Rim06Packet, FragmentsAreToldApart) {
    bytes packet = datagram(v4(1, 11), v4(2, 22), bytes(16, 7));
    packet[4] = 0x12, packet[5] = 0x34;
    packet[6] = 0x20; // more fragments
    packet_view view = parse_packet(packet);
    EXPECT_EQ(view.kind, packet_kind::first_fragment);
    EXPECT_EQ(view.destination, v4(2, 22));
    EXPECT_EQ(view.fragment_id, 0x1234U);
    packet[6] = 0, packet[7] = 3;
    view = parse_packet(packet);
    EXPECT_EQ(view.kind, packet_kind::later_fragment);
    EXPECT_EQ(view.destination.port, 0);
    EXPECT_EQ(view.destination.ip, v4(2, 0).ip);

    packet = datagram(v6(1, 11), v6(2, 22), bytes(16, 7));
    packet.insert(packet.begin() + 40, {17, 0, 0, 1, 0, 0, 0x56, 0x78});
    packet[6] = 44;
    packet[5] = static_cast<std::uint8_t>(packet.size() - 40);
    EXPECT_EQ(parse_packet(packet).kind, packet_kind::first_fragment);
    packet[43] = 8;
    view = parse_packet(packet);
    EXPECT_EQ(view.kind, packet_kind::later_fragment);
    EXPECT_EQ(view.fragment_id, 0x5678U);
}

TEST(Rim06Packet, OtherProtocolsAreOther) {
    bytes packet = datagram(v4(1, 1), v4(2, 2), bytes(20, 1));
    packet[9] = 6;
    EXPECT_EQ(parse_packet(packet).kind, packet_kind::other);
    packet = datagram(v6(1, 1), v6(2, 2), bytes(20, 1));
    packet[6] = 58;
    EXPECT_EQ(parse_packet(packet).kind, packet_kind::other);
}

TEST(Rim06Packet, RtcpByItsSecondByte) {
    EXPECT_TRUE(looks_like_rtcp(bytes{0x80, 200}));
    EXPECT_TRUE(looks_like_rtcp(bytes{0x80, 192}));
    EXPECT_FALSE(looks_like_rtcp(bytes{0x80, 0}));
    EXPECT_FALSE(looks_like_rtcp(bytes{0x80, 0x80 | 100}));
    EXPECT_FALSE(looks_like_rtcp(bytes{0x80}));
}
