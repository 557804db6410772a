// SPDX-License-Identifier: Apache-2.0
// What is counted of media that begin, go on and end.
#include "controlplane/app/media_tally.hpp"

#include <gtest/gtest.h>

namespace tandem::control {
namespace {

using media::observer;

media::media_info told(media::media_id id, std::uint64_t packets, std::uint64_t lost, double seconds) {
    media::media_info out;
    out.id = id;
    out.seconds = seconds;
    out.legs[0].received.packets = packets;
    out.legs[0].received.lost = lost;
    out.legs[1].received.packets = 1;
    out.legs[1].received.bytes = 100 * packets;
    return out;
}

TEST(MediaTally, CountsWhatWasCarriedSinceTheProgramBegan) {
    media_tally tally;
    tally.begin(told(1, 0, 0, 0), observer::beginning::answered);
    tally.begin(told(2, 0, 0, 100), observer::beginning::taken_over);
    EXPECT_EQ(tally.begun(), 1u);
    EXPECT_EQ(tally.up(), 2u);
    tally.tick(told(1, 500, 7, 10));
    tally.tick(told(2, 9000, 90, 110));
    EXPECT_EQ(tally.carried().packets, 501u) << "what an earlier process carried is not ours";
    tally.tick(told(2, 9500, 90, 120));
    tally.end(told(1, 900, 5, 18), observer::ending::over, "hung up"); // two came late
    EXPECT_EQ(tally.up(), 1u);
    EXPECT_EQ(tally.carried().packets, 1401u);
    EXPECT_EQ(tally.carried().bytes, 140'000u);
    EXPECT_EQ(tally.carried().lost, 7u);
    EXPECT_EQ(tally.carried().seconds, 28);
}

} // namespace
} // namespace tandem::control
