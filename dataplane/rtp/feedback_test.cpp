// SPDX-License-Identifier: Apache-2.0
// Sequence numbers in RTCP moved back: each packet type that has some, by hand and against hostile lengths.
#include "dataplane/rtp/feedback.hpp"

#include <array>
#include <gtest/gtest.h>
#include <random>
#include <vector>

namespace tandem::rtp {
namespace {

using words = std::vector<std::uint32_t>;

std::vector<std::uint8_t> bytes_of(const words& from) {
    std::vector<std::uint8_t> packet(4 * from.size());
    for (std::size_t i = 0; i < from.size(); ++i)
        store32(packet.data() + 4 * i, from[i]);
    return packet;
}
// SSRC 0xa1's sequence is moved by 0x1000, 0xa2's by 0xffff; others are not.
words moved(const words& from) {
    auto packet = bytes_of(from);
    move_sequences(packet.data(), packet.size(), [](std::uint32_t ssrc) {
        return static_cast<std::uint16_t>(ssrc == 0xa1 ? 0x1000 : ssrc == 0xa2 ? 0xffff : 0);
    });
    words to;
    for (std::size_t at = 0; at < packet.size(); at += 4)
        to.push_back(load32(packet.data() + at));
    return to;
}

TEST(MovedSequences, ReportBlocks) {
    EXPECT_EQ(moved({0x82c9000d, 0xa1, 0xa1, 0x01000002, 0x0001f234, 5, 6, 7, 0xff, 0x01000002, 0x0001f234, 5, 6, 7}),
              (words{0x82c9000d, 0xa1, 0xa1, 0x01000002, 0x00020234, 5, 6, 7, 0xff, 0x01000002, 0x0001f234, 5, 6, 7}))
        << "the extended number of the first block, over the wrap; the sender's SSRC names no stream";
    EXPECT_EQ(moved({0x81c8000c, 0xa1, 1, 2, 0xa1, 4, 0xa1, 0xa2, 3, 0x0000000a, 5, 6, 7}),
              (words{0x81c8000c, 0xa1, 1, 2, 0xa1, 4, 0xa1, 0xa2, 3, 0x00010009, 5, 6, 7}))
        << "sender information stays; a block behind it does not; the count is one cycle higher, never below 0";
}

TEST(MovedSequences, NackEntriesKeepTheirMasks) {
    EXPECT_EQ(moved({0x81cd0004, 0xff, 0xa1, 0x0005abcd, 0xf0010001}),
              (words{0x81cd0004, 0xff, 0xa1, 0x1005abcd, 0x00010001}));
    EXPECT_EQ(moved({0x81cd0003, 0xa1, 0xff, 0x0005abcd}), (words{0x81cd0003, 0xa1, 0xff, 0x0005abcd}));
    EXPECT_EQ(moved({0x8fcd0003, 0xff, 0xa1, 0x0005abcd}), (words{0x8fcd0003, 0xff, 0xa1, 0x0005abcd}))
        << "FMT 15 numbers transport packets";
    EXPECT_EQ(moved({0x81ce0002, 0xff, 0xa1}), (words{0x81ce0002, 0xff, 0xa1})) << "PLI";
}

TEST(MovedSequences, CongestionControlFeedback) {
    EXPECT_EQ(
        moved({0x8bcd0009, 0xff, 0xa1, 0x00050003, 0x80018002, 0x80030000, 0xa2, 0x00050001, 0x80010000, 0x1234}),
        (words{0x8bcd0009, 0xff, 0xa1, 0x10050003, 0x80018002, 0x80030000, 0xa2, 0x00040001, 0x80010000, 0x1234}));
}

TEST(MovedSequences, ExtendedReports) {
    EXPECT_EQ(moved({0x80cf000c, 0xa1, 0x01000003, 0xa1, 0x0001f010, 0xcccc0000, // loss RLE
                     0x04000002, 1, 2,                                           // receiver reference time
                     0x06000003, 0xa2, 0x00010002, 0xdddd0000}),                 // statistics summary (cut short)
              (words{0x80cf000c, 0xa1, 0x01000003, 0xa1, 0x10010010, 0xcccc0000, 0x04000002, 1, 2, 0x06000003, 0xa2,
                     0x00000001, 0xdddd0000}));
}

TEST(MovedSequences, EachPacketOfACompound) {
    EXPECT_EQ(moved({0x80c90001, 0xff, 0x81ca0002, 0xa1, 0x01000000, 0x81cd0003, 0xff, 0xa1, 0x00050000}),
              (words{0x80c90001, 0xff, 0x81ca0002, 0xa1, 0x01000000, 0x81cd0003, 0xff, 0xa1, 0x10050000}));
}

// Whatever lengths and counts say: nothing beyond the end is read or written (sanitizers), and what is not whole stays.
TEST(MovedSequences, HostileLengths) {
    EXPECT_EQ(moved({0x81cd0004, 0xff, 0xa1, 0x0005abcd}), (words{0x81cd0004, 0xff, 0xa1, 0x0005abcd}));
    EXPECT_EQ(moved({0x9fc90002, 0xff, 0xa1}), (words{0x9fc90002, 0xff, 0xa1}));
    EXPECT_EQ(moved({0x8bcd0004, 0xff, 0xa1, 0x0005ffff, 0xa2}), (words{0x8bcd0004, 0xff, 0xa1, 0x1005ffff, 0xa2}));
    EXPECT_EQ(moved({0x80cf0002, 0xff, 0x01000009}), (words{0x80cf0002, 0xff, 0x01000009}));
    EXPECT_EQ(moved({0x80000000, 0xff, 0xa1}), (words{0x80000000, 0xff, 0xa1}));
    std::mt19937_64 random(205);
    for (int i = 0; i < 200'000; ++i) {
        std::vector<std::uint8_t> packet(random() % 64);
        for (auto& byte : packet)
            byte = static_cast<std::uint8_t>(random());
        if (packet.size() >= 4) {
            packet[0] = static_cast<std::uint8_t>(0x80 | packet[0] % 64);
            packet[1] = std::array<std::uint8_t, 4>{200, 201, 205, 207}[random() % 4];
            packet[2] = 0;
            packet[3] = static_cast<std::uint8_t>(random() % 20);
        }
        const auto size = packet.size();
        move_sequences(packet.data(), size, [](std::uint32_t) { return std::uint16_t{1}; });
        ASSERT_EQ(packet.size(), size);
    }
}

} // namespace
} // namespace tandem::rtp
