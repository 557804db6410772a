// SPDX-License-Identifier: Apache-2.0
// Inner IP headers: addresses are found where they are, and nothing cut or lying about its length passes.
#include "controlplane/protocol/inner_packet.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "controlplane/protocol/tls.hpp"

namespace tandem::protocol {
namespace {

using bytes = std::vector<std::uint8_t>;

const bytes ipv4{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 64, 0, 2, 198, 51, 100, 1, 0, 0, 0, 0, 0, 8, 0, 0};

TEST(InnerPacket, Ipv4AddressesAreMapped) {
    const auto got = parse_inner(ipv4);
    ASSERT_TRUE(got);
    EXPECT_EQ(got->source, (ip_address{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 64, 0, 2}}));
    EXPECT_EQ(got->destination, (ip_address{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 198, 51, 100, 1}}));
}

TEST(InnerPacket, Ipv6Addresses) {
    bytes p(48);
    p[0] = 0x60;
    p[5] = 8;
    p[8] = 0xFD;
    p[23] = 2;
    p[24] = 0x20;
    p[39] = 1;
    const auto got = parse_inner(p);
    ASSERT_TRUE(got);
    EXPECT_EQ(got->source.bytes[0], 0xFD);
    EXPECT_EQ(got->source.bytes[15], 2);
    EXPECT_EQ(got->destination.bytes[0], 0x20);
    EXPECT_EQ(got->destination.bytes[15], 1);
    for (std::size_t n = 0; n < p.size(); ++n)
        EXPECT_FALSE(parse_inner(bytes(p.begin(), p.begin() + static_cast<std::ptrdiff_t>(n))));
    p.push_back(0);
    EXPECT_FALSE(parse_inner(p));
}

TEST(InnerPacket, LyingHeadersAreRefused) {
    for (std::size_t n = 0; n < ipv4.size(); ++n)
        EXPECT_FALSE(parse_inner(bytes(ipv4.begin(), ipv4.begin() + static_cast<std::ptrdiff_t>(n))));
    for (const unsigned first : {0x40U, 0x44U, 0x48U, 0x4FU, 0x05U, 0x15U, 0x55U, 0x75U}) {
        auto p = ipv4; // header too short, or longer than the packet, or no IP at all
        p[0] = static_cast<std::uint8_t>(first);
        EXPECT_FALSE(parse_inner(p)) << first;
    }
    for (const unsigned length : {0U, 19U, 27U, 29U, 255U}) {
        auto p = ipv4;
        p[3] = static_cast<std::uint8_t>(length);
        EXPECT_FALSE(parse_inner(p)) << length;
    }
}

TEST(Psk, HexOf16To64Bytes) {
    EXPECT_EQ(parse_psk("00112233445566778899aabbccddeeff")->size(), 16U);
    EXPECT_EQ(parse_psk("  00112233445566778899AABBCCDDEEFF\r\n")->view()[15], 0xFF);
    EXPECT_EQ(parse_psk(std::string(128, 'a'))->size(), 64U);
    EXPECT_FALSE(parse_psk(""));
    EXPECT_FALSE(parse_psk(" \n"));
    EXPECT_FALSE(parse_psk(std::string(30, 'a')));
    EXPECT_FALSE(parse_psk(std::string(33, 'a')));
    EXPECT_FALSE(parse_psk(std::string(130, 'a')));
    EXPECT_FALSE(parse_psk("0011223344556677 8899aabbccddeef"));
    EXPECT_FALSE(parse_psk("0x112233445566778899aabbccddeeff"));
}

} // namespace
} // namespace tandem::protocol
