// SPDX-License-Identifier: Apache-2.0
// Replay window: against a plain set as model, at its edges, and after recover().
#include "dataplane/rtp/index.hpp"
#include "dataplane/rtp/replay.hpp"

#include <cstring>
#include <gtest/gtest.h>
#include <random>
#include <set>

namespace tandem::rtp {
namespace {

using api::drop;

constexpr bool edges() {
    replay_window window;
    if (window.check(0) != drop::none || window.started())
        return false;
    window.update(0);
    window.update(500);
    return window.check(500) == drop::srtp_replay && window.check(501) == drop::none &&
           window.check(500 - 127) == drop::none && window.check(500 - 128) == drop::srtp_too_old &&
           window.check(0) == drop::srtp_too_old && window.next() == 501;
}
static_assert(edges());

constexpr bool recovered() {
    replay_window window;
    window.update(1000);
    window.recover();
    return window.check(999) == drop::srtp_replay && window.check(1000 - 127) == drop::srtp_replay &&
           window.check(1001) == drop::none;
}
static_assert(recovered());

// RFC 3711 3.3.2 by the book: a set of everything accepted.
TEST(Srtp, ReplayWindowAgreesWithASet) {
    std::mt19937_64 random(3711);
    for (int run = 0; run < 20; ++run) {
        replay_window window;
        std::set<std::uint64_t> accepted;
        std::uint64_t near = run % 2 == 0 ? 0 : (std::uint64_t{1} << 48) - 20000;
        for (int i = 0; i < 5000; ++i) {
            const auto jump = random() % 100 == 0 ? random() % 400 : random() % 4;
            near += jump;
            const auto back = random() % 3 == 0 ? random() % 200 : 0;
            const auto index = near > back ? near - back : near;
            drop expected = drop::none;
            if (!accepted.empty() && index + 127 < *accepted.rbegin())
                expected = drop::srtp_too_old;
            else if (accepted.contains(index))
                expected = drop::srtp_replay;
            const replay_window before = window;
            ASSERT_EQ(window.check(index), expected) << index;
            ASSERT_EQ(std::memcmp(&before, &window, sizeof window), 0) << "check() changed state";
            if (expected == drop::none) {
                window.update(index);
                accepted.insert(index);
            }
        }
    }
}

TEST(Srtp, RecoverRefusesAllUpToTheTop) {
    replay_window window;
    for (const std::uint64_t index : {5U, 9U, 200U, 150U})
        window.update(index);
    window.recover();
    for (std::uint64_t index = 0; index <= 200; ++index)
        EXPECT_NE(window.check(index), drop::none) << index;
    EXPECT_EQ(window.check(201), drop::none);
    window.update(203);
    EXPECT_EQ(window.check(202), drop::none) << "packets behind the first one after a crash are new";
    EXPECT_EQ(window.check(199), drop::srtp_replay);
}

TEST(Srtp, AWindowThatBeginsAnew) {
    replay_window window;
    for (const std::uint64_t index : {70'000U, 70'100U})
        window.update(index);
    window.begin_at(5);
    EXPECT_EQ(window.next(), 6U);
    EXPECT_EQ(window.check(5), drop::srtp_replay);
    for (const std::uint64_t index : {0U, 4U, 6U, 70'100U})
        EXPECT_EQ(window.check(index), drop::none) << index;
    window.begin_at(1000); // killed in the middle: recover() counts all below as seen
    window.recover();
    EXPECT_EQ(window.check(999), drop::srtp_replay);
}

TEST(Srtp, AWindowFromItsContent) {
    for (const std::uint64_t next : {1U, 63U, 64U, 65U, 127U, 128U, 129U, 100'000U}) {
        const std::uint64_t seen[2] = {5, std::uint64_t{1} << 63};
        const auto window = replay_window::restored(next, seen);
        EXPECT_EQ(window.next(), next);
        for (std::uint64_t i = 0; i < 130 && i < next; ++i)
            EXPECT_EQ(window.check(next - 1 - i), i >= 128                       ? drop::srtp_too_old
                                                  : i == 0 || i == 2 || i == 127 ? drop::srtp_replay
                                                                                 : drop::none)
                << next << " - 1 - " << i;
    }
    EXPECT_FALSE(replay_window::restored(0, {}).started());
}

TEST(Srtp, DistanceBySequenceNumber) { // RFC 3550 A.1
    EXPECT_EQ(distance(0x10000, 0), 0);
    EXPECT_EQ(distance(0x1ffff, 2), 3);
    EXPECT_EQ(distance(0x20000, 0xffff), -1);
    EXPECT_EQ(distance(5, 65534), -7);
    EXPECT_TRUE(in_sequence(3000) && in_sequence(-101));
    EXPECT_FALSE(in_sequence(3001) || in_sequence(-102) || in_sequence(-32768) || in_sequence(32767));
}

} // namespace
} // namespace tandem::rtp
