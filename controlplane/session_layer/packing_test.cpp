// SPDX-License-Identifier: Apache-2.0
// COL-25, COL-26: compression of one direction of a stream, in pieces of any size; and data that no packer made.
#include <algorithm>
#include <random>
#include <string>

#include <zstd.h>

#include "controlplane/session_layer/tcp_streams_fixture.hpp"

namespace tandem::session_layer {
namespace {

using octets = std::vector<std::uint8_t>;

octets text_of_words(std::size_t size, std::uint32_t seed) {
    static constexpr const char* words[] = {"the ",      "session ", "of ",   "a ",  "unit ",
                                            "outlives ", "network ", "when ", "it ", "moves\n"};
    std::mt19937 random(seed);
    std::string text;
    while (text.size() < size)
        text += random() % 5 == 0 ? std::to_string(random() % 100000) + " " : words[random() % std::size(words)];
    return {text.begin(), text.begin() + static_cast<std::ptrdiff_t>(size)};
}

struct outcome {
    octets plain{};
    std::optional<unpacker::fault> wrong{};
    bool whole = false;
};

// In pieces of 1 to `most` octets each way.
outcome unpacked(unpacker& u, std::span<const std::uint8_t> in, std::uint32_t seed = 1, std::size_t most = 5000) {
    std::mt19937 random(seed);
    outcome all;
    octets piece;
    for (std::size_t at = 0; !all.wrong;) {
        piece.resize(1 + random() % most);
        const auto step = u.unpack(in.subspan(at, std::min<std::size_t>(in.size() - at, 1 + random() % most)), piece);
        EXPECT_LE(step.made, piece.size());
        all.plain.insert(all.plain.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(step.made));
        all.wrong = step.wrong;
        at += step.eaten;
        if (at == in.size() && step.made == 0)
            break;
    }
    all.whole = u.whole();
    return all;
}
outcome unpacked(std::span<const std::uint8_t> in) {
    unpacker u;
    return unpacked(u, in);
}

TEST(Packing, RoundTripInPiecesOfAnySize) {
    for (std::uint32_t seed = 0; seed < 50; ++seed) {
        std::mt19937 random(seed);
        auto plain = text_of_words(1 + random() % 600'000, seed);
        for (std::size_t at = 0; seed % 2 == 1 && at < plain.size(); ++at)
            plain[at] = static_cast<std::uint8_t>(random()); // what does not compress
        packer p;
        octets link;
        for (std::size_t at = 0; at < plain.size();) {
            const auto size = std::min<std::size_t>(plain.size() - at, 1 + random() % 20'000);
            const auto how = random() % 2 == 0 ? packer::flush::now : packer::flush::later;
            ASSERT_TRUE(p.pack(std::span(plain).subspan(at, size), how, link));
            at += size;
        }
        ASSERT_TRUE(p.pack({}, packer::flush::end, link));
        unpacker u;
        const auto all = unpacked(u, link, seed);
        ASSERT_TRUE(all.plain == plain && all.whole && !all.wrong) << seed;
        EXPECT_EQ(u.memory(), 0U); // gone with the frame's end
    }
}

TEST(Packing, ALineIsReadableAtOnceAndBulkIsSmall) {
    packer p;
    unpacker u;
    for (int line = 0; line < 100; ++line) {
        octets link;
        const auto plain = text_of_words(40, static_cast<std::uint32_t>(line));
        ASSERT_TRUE(p.pack(plain, packer::flush::now, link));
        EXPECT_EQ(unpacked(u, link).plain, plain);
    }
    EXPECT_LT(frame_of(text_of_words(2 << 20, 3)).size(), (2U << 20) * 4 / 10);
}

TEST(Packing, ContextsAreBounded) {
    packer p;
    unpacker u;
    octets link;
    const auto plain = text_of_words(1 << 20, 3);
    ASSERT_TRUE(p.pack(plain, packer::flush::now, link));
    EXPECT_EQ(unpacked(u, link).plain, plain);
    std::printf("contexts: %zu octets of a packer, %zu of an unpacker\n", p.memory(), u.memory());
    EXPECT_LT(p.memory(), 768U * 1024);
    EXPECT_LT(u.memory(), 640U * 1024);
}

TEST(Packing, WhatIsNoFrameIsCorrupt) {
    EXPECT_EQ(unpacked(text_of_words(100, 1)).wrong, unpacker::fault::corrupt);
    auto twice = frame_of(text_of_words(100, 1));
    const auto once = twice;
    twice.insert(twice.end(), once.begin(), once.end());
    EXPECT_EQ(unpacked(twice).wrong, unpacker::fault::corrupt); // octets after the end
    const auto cut = unpacked(std::span(once).first(once.size() - 1));
    EXPECT_TRUE(!cut.wrong && !cut.whole);
}

// Of the library's other formats none is taken: their windows have no bound.
TEST(Packing, OlderFormatsAndSkippableFramesAreCorrupt) {
    for (const octets& first :
         {octets{0x27, 0xb5, 0x2f, 0xfd}, octets{0x25, 0xb5, 0x2f, 0xfd}, octets{0x50, 0x2a, 0x4d, 0x18}})
        EXPECT_EQ(unpacked(first).wrong, unpacker::fault::corrupt);
}

// A checksum is at the frame's end: no flipped bit passes for the whole of it.
TEST(Packing, AFlippedBitIsFound) {
    const auto plain = text_of_words(30'000, 7), link = frame_of(plain);
    std::mt19937 random(7);
    for (int i = 0; i < 2000; ++i) {
        auto bad = link;
        bad[random() % bad.size()] ^= static_cast<std::uint8_t>(1U << random() % 8);
        const auto all = unpacked(bad);
        EXPECT_TRUE(all.wrong || !all.whole || all.plain == plain);
    }
}

TEST(Packing, AWindowThatIsTooLargeIsRefused) {
    for (const int window : {17, 18, 27}) {
        ZSTD_CCtx* const c = ZSTD_createCCtx();
        ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, window);
        const auto plain = text_of_words(1000, 1);
        octets link(5000);
        ZSTD_inBuffer in{plain.data(), plain.size(), 0};
        ZSTD_outBuffer out{link.data(), link.size(), 0};
        ZSTD_compressStream2(c, &out, &in, ZSTD_e_flush);
        ZSTD_freeCCtx(c);
        unpacker u;
        const auto all = unpacked(u, std::span(link).first(out.pos));
        EXPECT_EQ(all.wrong, window > most_packed_window ? std::optional(unpacker::fault::window) : std::nullopt);
        EXPECT_LT(u.memory(), 640U * 1024);
    }
}

TEST(Packing, ABombComesOutInPieces) {
    const auto link = frame_of(octets(64 << 20));
    EXPECT_LT(link.size(), 16U * 1024);
    unpacker u;
    octets piece(16384);
    std::size_t at = 0, made = 0, turns = 0;
    for (; !u.whole(); ++turns) {
        const auto step = u.unpack(std::span(link).subspan(at), piece);
        ASSERT_FALSE(step.wrong);
        at += step.eaten;
        made += step.made;
        EXPECT_LT(u.memory(), 640U * 1024);
    }
    EXPECT_EQ(made, 64U << 20);
    EXPECT_GE(turns, made / piece.size());
}

} // namespace
} // namespace tandem::session_layer
