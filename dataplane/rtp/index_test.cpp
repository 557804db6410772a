// SPDX-License-Identifier: Apache-2.0
// Index guess (RFC 3711 3.3.1): wraps both ways, ROC 0, and against the definition "the candidate nearest to the top".
#include "dataplane/rtp/index.hpp"

#include <array>
#include <cstdint>
#include <gtest/gtest.h>
#include <random>

namespace tandem::rtp {
namespace {

static_assert(guess_index(0, 65535) == 65535, "first packet: ROC 0");
static_assert(guess_index(65536, 0) == 65536, "wrap");
static_assert(guess_index(65536 + 1, 65535) == 65535, "late packet from before the wrap");
static_assert(guess_index(101, 40000) == 40000, "there is no ROC before 0");
static_assert(guess_index((std::uint64_t{0xffffffff} << 16) + 0xffff + 1, 0) > max_rtp_index, "caller refuses");

TEST(Srtp, GuessIsTheNearestCandidate) {
    std::mt19937_64 random(761);
    for (int i = 0; i < 200000; ++i) {
        const std::uint64_t top = random() % 3 == 0 ? random() % 300000 : random() >> 17;
        const auto sequence = static_cast<std::uint16_t>(random());
        const std::uint64_t guess = guess_index(top + 1, sequence);
        ASSERT_EQ(guess & 0xffff, sequence);
        const std::uint64_t distance = guess > top ? guess - top : top - guess;
        if (distance > 0x8000) { // only where the nearer one would be before ROC 0
            ASSERT_TRUE(top < 0x8000 && guess < 0x10000) << top << ' ' << sequence;
        }
    }
}

} // namespace
} // namespace tandem::rtp
