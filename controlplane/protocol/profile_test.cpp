// SPDX-License-Identifier: Apache-2.0
// A pair's history against the same figures computed plainly from all calls.
#include "controlplane/protocol/profile.hpp"

#include <algorithm>
#include <random>

#include <gtest/gtest.h>

namespace tandem::protocol {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using clock = std::chrono::system_clock;

const clock::time_point now = clock::time_point(hours(500'000));

profile with(const std::vector<int>& lengths_s) {
    profile of{"alice", "bob", {}, 0};
    auto ended = now - hours(10);
    for (const int length : lengths_s)
        of.add({ended += minutes(1), seconds(length), false});
    return of;
}

TEST(Rim25, MeanMedianAndCountOfKnownLengths) {
    const auto s = summarize(with({10, 20, 30, 40, 100, 200, 300, 400, 500, 60}), now, hours(24));
    EXPECT_EQ(s.calls, 10u);
    EXPECT_EQ(s.failures, 0u);
    EXPECT_EQ(s.mean, seconds(166));
    EXPECT_EQ(s.median, seconds(80));
    EXPECT_EQ(s.last, seconds(60));
    EXPECT_EQ(summarize(with({7, 1, 4}), now, hours(24)).median, seconds(4));
    EXPECT_EQ(summarize(profile{}, now, hours(24)).calls, 0u);
}

TEST(Rim25, OldCallsDoNotCountAndTheExactAgeIsOld) {
    profile of;
    of.add({now - hours(24), seconds(900), false});
    of.add({now - hours(24) + milliseconds(1), seconds(10), false});
    of.add({now + minutes(1), seconds(30), false}); // another gateway's clock is ahead
    const auto s = summarize(of, now, hours(24));
    EXPECT_EQ(s.calls, 2u);
    EXPECT_EQ(s.mean, seconds(20));
    EXPECT_EQ(of.total, 3u);
}

TEST(Rim36, FailuresCountAndOnlyAnsweredCallsHaveALength) {
    profile of;
    of.add({now - hours(3), seconds(60), false});
    of.add({now - hours(2), {}, true});
    of.add({now - hours(1), seconds(20), true}); // ended by a fault
    const auto s = summarize(of, now, hours(24));
    EXPECT_EQ(s.calls, 2u);
    EXPECT_EQ(s.failures, 2u);
    EXPECT_EQ(s.median, seconds(40));
    EXPECT_EQ(s.last, seconds(20));
}

TEST(Rim25, TheLastSixtyFourAreRememberedInOrderWhateverOrderTheyComeIn) {
    std::mt19937 random(1); // NOLINT: the same run each time
    std::vector<past_call> all;
    for (int n = 0; n < 200; ++n)
        all.push_back({now - minutes(n), milliseconds(random() % 1'000'000), random() % 5 == 0});
    for (int round = 0; round < 20; ++round) {
        std::shuffle(all.begin(), all.end(), random);
        profile of;
        for (const auto& call : all)
            of.add(call);
        auto newest = all;
        std::sort(newest.begin(), newest.end(), [](auto& x, auto& y) { return x.ended < y.ended; });
        newest.erase(newest.begin(), newest.end() - 64);
        EXPECT_EQ(of.calls, newest);
        EXPECT_EQ(of.total, 200u);
        const auto s = summarize(of, now, hours(1));
        std::vector<std::int64_t> lengths;
        std::int64_t sum = 0;
        std::size_t failures = 0;
        for (const auto& call : newest) {
            if (now - call.ended >= hours(1))
                continue;
            failures += call.failed;
            if (call.failed && call.duration.count() == 0)
                continue;
            lengths.push_back(call.duration.count());
            sum += lengths.back();
        }
        std::sort(lengths.begin(), lengths.end());
        const auto n = lengths.size();
        EXPECT_EQ(s.calls, n);
        EXPECT_EQ(s.failures, failures);
        EXPECT_EQ(s.mean.count(), sum / static_cast<std::int64_t>(n));
        EXPECT_EQ(s.median.count(), n % 2 ? lengths[n / 2] : (lengths[n / 2 - 1] + lengths[n / 2]) / 2);
    }
}

TEST(Profile, ThePairIsUnordered) {
    EXPECT_EQ(pair_of("b", "a"), pair_of("a", "b"));
    EXPECT_EQ(pair_of("b", "a").first, "a");
}

} // namespace
} // namespace tandem::protocol
