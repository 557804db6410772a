// SPDX-License-Identifier: Apache-2.0
// Stream framing: any cut of the stream gives the same frames; the first nibble decides the kind (ORA-10).
#include "controlplane/protocol/framing.hpp"

#include <gtest/gtest.h>

#include <random>

namespace tandem::protocol {
namespace {

using bytes = std::vector<std::uint8_t>;

TEST(Ora10, FirstNibbleDecides) {
    for (unsigned first = 0; first < 256; ++first) {
        const std::array one{static_cast<std::uint8_t>(first)};
        const auto expected = first >> 4 == 1   ? frame_kind::control
                              : first >> 4 == 2 ? frame_kind::session
                              : first >> 4 == 4 ? frame_kind::ipv4
                              : first >> 4 == 6 ? frame_kind::ipv6
                                                : frame_kind::other;
        EXPECT_EQ(kind_of(one), expected) << first;
    }
    EXPECT_EQ(kind_of({}), frame_kind::other);
}

TEST(Framing, AnyCutGivesTheSameFrames) {
    std::mt19937 random(1);
    for (int round = 0; round < 50; ++round) {
        std::vector<bytes> sent;
        bytes stream;
        for (int i = 0; i < 40; ++i) {
            bytes f(1 + random() % (i % 10 == 0 ? 65535 : 1500));
            std::ranges::generate(f, [&] { return static_cast<std::uint8_t>(random()); });
            ASSERT_TRUE(append_frame(stream, f));
            sent.push_back(std::move(f));
        }
        framer reader(64);
        std::size_t at = 0, got = 0;
        while (at < stream.size()) {
            const auto room = reader.prepare();
            ASSERT_FALSE(room.empty());
            const auto n = std::min({room.size(), stream.size() - at, std::size_t{1} + random() % 5000});
            std::copy_n(stream.begin() + static_cast<std::ptrdiff_t>(at), n, room.begin());
            reader.commit(n);
            at += n;
            while (const auto f = reader.next()) {
                ASSERT_LT(got, sent.size());
                EXPECT_TRUE(std::ranges::equal(f->bytes, sent[got++]));
            }
        }
        EXPECT_EQ(got, sent.size());
    }
}

TEST(Framing, EmptyFrameIsOther) {
    framer reader;
    const auto room = reader.prepare();
    room[0] = room[1] = 0;
    reader.commit(2);
    const auto f = reader.next();
    ASSERT_TRUE(f);
    EXPECT_EQ(f->kind, frame_kind::other);
    EXPECT_FALSE(reader.next());
}

TEST(Framing, ControlFrameIsWipedAfterUse) {
    framer reader;
    bytes stream;
    append_frame(stream, bytes{0x10, 0xAA, 0xBB});
    const auto room = reader.prepare();
    std::ranges::copy(stream, room.begin());
    reader.commit(stream.size());
    ASSERT_TRUE(reader.next());
    EXPECT_EQ(room[3], 0xAA);
    EXPECT_FALSE(reader.next());
    EXPECT_EQ(room[2], 0);
    EXPECT_EQ(room[3], 0);
}

TEST(Framing, TooLongOrEmptyIsNotAppended) {
    bytes out;
    EXPECT_FALSE(append_frame(out, bytes{}));
    EXPECT_FALSE(append_frame(out, bytes(65536, 0x45)));
    EXPECT_TRUE(out.empty());
}

} // namespace
} // namespace tandem::protocol
