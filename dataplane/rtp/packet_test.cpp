// SPDX-License-Identifier: Apache-2.0
// RTP/RTCP bounds and demultiplexing; every length of hostile packets.
#include "dataplane/rtp/packet.hpp"

#include <algorithm>
#include <cstring>
#include <gtest/gtest.h>
#include <memory>
#include <random>
#include <vector>

namespace tandem::rtp {
namespace {

using api::drop;

constexpr std::uint8_t rtp_cc2_x[] = {0xb2, 0x60, 0x12, 0x34, 0,    0, 0, 1, 0xde, 0xad, 0xbe, 0xef, 0,    0, 0, 1, 0,
                                      0,    0,    2,    0xbe, 0xde, 0, 1, 9, 9,    9,    9,    0x55, 0x66, 2, 2};
static_assert(parse(rtp_cc2_x, sizeof rtp_cc2_x).problem == drop::none);
static_assert(parse(rtp_cc2_x, sizeof rtp_cc2_x).header == 28 && parse(rtp_cc2_x, 28).header == 28);
static_assert(parse(rtp_cc2_x, sizeof rtp_cc2_x).sequence == 0x1234);
static_assert(parse(rtp_cc2_x, sizeof rtp_cc2_x).ssrc == 0xdeadbeef);
static_assert(parse(rtp_cc2_x, 27).problem == drop::rtp_malformed &&
              parse(rtp_cc2_x, 23).problem == drop::rtp_malformed);
static_assert(parse(rtp_cc2_x, 11).problem == drop::rtp_malformed &&
              parse(rtp_cc2_x, 0).problem == drop::rtp_malformed);
static_assert(padding_valid(rtp_cc2_x, sizeof rtp_cc2_x, 28) && !padding_valid(rtp_cc2_x, sizeof rtp_cc2_x, 31));

constexpr std::uint8_t report[] = {0x80, 201, 0, 1, 0, 0, 0, 7, 0x81, 202, 0, 2, 0, 0, 0, 7, 1, 1, 'a', 0};
static_assert(parse(report, sizeof report).rtcp && parse(report, sizeof report).ssrc == 7);
static_assert(parse(report, 7).problem == drop::rtcp_malformed);
static_assert(compound_valid(report, sizeof report) && !compound_valid(report, 16) && !compound_valid(report, 19));

TEST(Srtp, DemuxByFirstByteAndPayloadType) {
    const auto kind_of = [](std::uint8_t first, std::uint8_t second) {
        const std::uint8_t data[] = {first, second};
        return classify(data, sizeof data);
    };
    for (unsigned first = 0; first < 256; ++first)
        for (unsigned second = 0; second < 256; ++second) {
            const auto kind = kind_of(static_cast<std::uint8_t>(first), static_cast<std::uint8_t>(second));
            // RFC 7983 section 7; RFC 5761 section 4
            const auto expected = first < 4                        ? kind::stun
                                  : first >= 16 && first <= 19     ? kind::zrtp
                                  : first >= 20 && first <= 63     ? kind::dtls
                                  : first >= 64 && first <= 79     ? kind::turn_channel
                                  : first < 128 || first > 191     ? kind::other
                                  : second >= 192 && second <= 223 ? kind::rtcp
                                                                   : kind::rtp;
            ASSERT_EQ(kind, expected) << first << ' ' << second;
        }
    EXPECT_EQ(classify(nullptr, 0), kind::empty);
}

// Every first byte under every set of a flow's wishes.
TEST(Srtp, WhatGoesToTheControlPlaneByFirstByte) {
    using api::packet_kind;
    for (unsigned first = 0; first < 256; ++first)
        for (unsigned wishes = 0; wishes < 16; ++wishes) {
            const bool stun = (wishes & api::flow_punts_stun) != 0, dtls = (wishes & api::flow_punts_dtls) != 0,
                       control = (wishes & api::flow_punts_control) != 0;
            const auto expected = control && first >= 0x10 && first <= 0x1f ? packet_kind::control
                                  : dtls && first >= 20 && first <= 63      ? packet_kind::dtls
                                  : stun && first <= 3                      ? packet_kind::stun
                                                                            : packet_kind::none;
            ASSERT_EQ(punted_as(static_cast<std::uint8_t>(first), static_cast<std::uint8_t>(wishes)), expected)
                << first << ' ' << wishes;
        }
}

// Random bytes in heap blocks of exactly their length: the sanitizer build sees a read too far; bounds hold in all.
TEST(Srtp, HostilePacketsStayWithinBounds) {
    std::mt19937_64 random(3550);
    for (int i = 0; i < 200000; ++i) {
        const std::size_t length = random() % 80;
        const auto data = std::make_unique<std::uint8_t[]>(length);
        for (std::size_t at = 0; at < length; ++at)
            data[at] = static_cast<std::uint8_t>(random());
        if (length > 0 && i % 4 != 0)
            data[0] = static_cast<std::uint8_t>(0x80 | (data[0] & 0x3f));
        const parsed view = parse(data.get(), length);
        if (view.problem != drop::none)
            continue;
        ASSERT_LE(view.header, length);
        ASSERT_GE(view.header, view.rtcp ? rtcp_fixed_header : rtp_fixed_header);
        if (view.rtcp) {
            ASSERT_LE(read_reports(data.get(), length).blocks * report_block, length);
        }
        static_cast<void>(view.rtcp ? compound_valid(data.get(), length)
                                    : padding_valid(data.get(), length, view.header));
    }
}

using bytes = std::vector<std::uint8_t>;

struct block {
    std::uint32_t loss; // fraction << 24 | cumulative
    std::uint32_t jitter;
};

// One packet of a compound: header with count and length, sender's info where it is a sender report, then the blocks.
bytes rtcp_packet(std::uint8_t type, const std::vector<block>& blocks) {
    std::vector<std::uint32_t> words{0x11223344};
    if (type == rtcp_sender_report)
        words.insert(words.end(), {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff});
    for (const auto& b : blocks)
        words.insert(words.end(), {0x55667788, b.loss, 0xffffffff, b.jitter, 0xffffffff, 0xffffffff});
    bytes out(4 + words.size() * 4);
    store32(out.data(), 0x80000000U | static_cast<std::uint32_t>(blocks.size()) << 24 | std::uint32_t{type} << 16 |
                            static_cast<std::uint32_t>(words.size()));
    for (std::size_t i = 0; i < words.size(); ++i)
        store32(out.data() + 4 + i * 4, words[i]);
    return out;
}

reports read(const bytes& all) {
    const auto exact = std::make_unique<std::uint8_t[]>(all.size()); // the sanitizer build sees a read too far
    std::copy(all.begin(), all.end(), exact.get());
    return read_reports(exact.get(), all.size());
}

TEST(Rtcp, ReportBlocksOfSenderAndReceiverReports) {
    for (const std::uint8_t type : {rtcp_sender_report, rtcp_receiver_report}) {
        const reports one = read(rtcp_packet(type, {{0x33000102, 1234}}));
        EXPECT_EQ(one.blocks, 1u);
        EXPECT_EQ(one.fraction, 0x33);
        EXPECT_EQ(one.cumulative, 0x102);
        EXPECT_EQ(one.jitter, 1234u);
        EXPECT_EQ(read(rtcp_packet(type, {})).blocks, 0u);
    }
    EXPECT_EQ(read(rtcp_packet(rtcp_receiver_report, {{0x00ffffff, 1}})).cumulative, -1) << "more came than expected";
    EXPECT_EQ(read(rtcp_packet(202, {{0x01000001, 1}})).blocks, 0u) << "SDES has chunks, no blocks";
}

TEST(Rtcp, SeveralBlocksAndCompoundsGiveTheWorst) {
    bytes all = rtcp_packet(rtcp_sender_report, {{0x01fffffe, 7}, {0x40fffffd, 3}});
    EXPECT_EQ(read(all).cumulative, -2);
    const bytes more = rtcp_packet(rtcp_receiver_report, {{0x02000009, 99}});
    all.insert(all.end(), report, report + 8); // an empty receiver report between them
    all.insert(all.end(), more.begin(), more.end());
    const reports worst = read(all);
    EXPECT_EQ(worst.blocks, 3u);
    EXPECT_EQ(worst.fraction, 0x40);
    EXPECT_EQ(worst.cumulative, 9);
    EXPECT_EQ(worst.jitter, 99u);
}

// A count or a length that says more than is there: what is whole is read, no byte beyond.
TEST(Rtcp, ReportsThatPromiseTooMuch) {
    bytes lying = rtcp_packet(rtcp_receiver_report, {{1, 1}, {2, 2}});
    lying[0] = 0x9f; // 31 blocks
    EXPECT_EQ(read(lying).blocks, 2u);
    for (std::size_t cut = 0; cut < lying.size(); ++cut)
        EXPECT_EQ(read({lying.begin(), lying.begin() + static_cast<std::ptrdiff_t>(cut)}).blocks, 0u) << cut;
    lying[2] = lying[3] = 0xff;
    EXPECT_EQ(read(lying).blocks, 0u);
    lying[2] = lying[3] = 0;
    EXPECT_EQ(read(lying).blocks, 0u);
}

} // namespace
} // namespace tandem::rtp
