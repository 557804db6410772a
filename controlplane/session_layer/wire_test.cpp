// SPDX-License-Identifier: Apache-2.0
// The session layer's frames: what is written is read the same, at the octet's place that the table says; nothing is
// read beyond the end.
#include <gtest/gtest.h>

#include <algorithm>

#include "controlplane/session_layer/wire.hpp"

namespace tandem::session_layer {
namespace {

using bytes = std::vector<std::uint8_t>;

TEST(Wire, OctetByOctet) {
    bytes frame;
    frame_writer out(frame, 100);
    const bytes octets{0xAA, 0xBB};
    EXPECT_TRUE(out.put(message(verb::data).set(field::stream, 0x01020304).set(field::offset, 5).set_tail(octets)));
    EXPECT_TRUE(out.put(message(verb::ack).set(field::stream, 2).set(field::offset, 0x100).set(field::flags, 1)));
    EXPECT_EQ(frame, (bytes{0x20, 4, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 2, 0xAA, 0xBB, //
                            5,    0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, 0, 1}));
}

TEST(Wire, EveryMessageComesBack) {
    const bytes tail(32, 7);
    for (unsigned number = 1; number <= static_cast<unsigned>(verb::done); ++number) {
        const auto what = static_cast<verb>(number);
        bytes frame;
        frame_writer out(frame, 200);
        message m(what);
        for (unsigned f = 0; f <= static_cast<unsigned>(field::hard); ++f)
            m.set(static_cast<field>(f), 1);
        if (out.room(what) > 0)
            m.set_tail(tail);
        ASSERT_TRUE(out.put(m)) << name_of(what);
        EXPECT_EQ(frame.size(), 1 + size_of(what) + m.tail().size());
        frame_reader in(frame);
        const auto back = in.next();
        ASSERT_TRUE(back) << name_of(what);
        EXPECT_EQ(back->what(), what);
        EXPECT_TRUE(std::ranges::equal(back->tail(), m.tail()));
        EXPECT_FALSE(in.next());
        EXPECT_FALSE(in.bad());
        for (std::size_t cut = 2; cut < frame.size(); ++cut) {
            const std::span all(frame);
            frame_reader part(all.first(cut));
            EXPECT_FALSE(part.next());
            EXPECT_TRUE(part.bad());
        }
    }
}

TEST(Wire, NothingIsPutThatDoesNotFit) {
    bytes frame{1, 2, 3}; // what was there before is no part of it
    frame_writer out(frame, 40);
    EXPECT_EQ(out.room(verb::data), 40U - 1 - 15);
    EXPECT_FALSE(out.put(message(verb::data).set_tail(bytes(25))));
    EXPECT_TRUE(out.empty());
    EXPECT_TRUE(out.put(message(verb::data).set_tail(bytes(24))));
    EXPECT_EQ(frame.size(), 43U);
    EXPECT_FALSE(out.put(message(verb::reset)));
    EXPECT_EQ(out.room(verb::data), 0U);
    bytes label;
    frame_writer open(label, 1000);
    EXPECT_FALSE(open.put(message(verb::open).set_tail(bytes(256))));
}

} // namespace
} // namespace tandem::session_layer
