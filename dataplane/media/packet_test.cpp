// SPDX-License-Identifier: Apache-2.0
// RTP/RTCP bounds and demultiplexing; every length of hostile packets.
#include "dataplane/media/packet.hpp"

#include <cstring>
#include <gtest/gtest.h>
#include <memory>
#include <random>
#include <vector>

namespace tandem::media {
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
            const auto expected = first < 4                        ? kind::stun
                                  : first >= 20 && first <= 63     ? kind::dtls
                                  : first < 128 || first > 191     ? kind::other
                                  : second >= 192 && second <= 223 ? kind::rtcp
                                                                   : kind::rtp;
            ASSERT_EQ(kind, expected) << first << ' ' << second;
        }
    EXPECT_EQ(classify(nullptr, 0), kind::empty);
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
        static_cast<void>(view.rtcp ? compound_valid(data.get(), length)
                                    : padding_valid(data.get(), length, view.header));
    }
}

} // namespace
} // namespace tandem::media
