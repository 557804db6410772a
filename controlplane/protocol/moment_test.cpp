// SPDX-License-Identifier: Apache-2.0
// Durations over a clock that is set, and over a start of the machine.
#include "controlplane/protocol/moment.hpp"

#include <gtest/gtest.h>
#include <thread>

namespace tandem::protocol {
namespace {

using namespace std::chrono_literals;
using std::chrono::system_clock;

moment at(std::chrono::seconds wall, std::chrono::milliseconds up, std::uint32_t boot = 7) {
    return {system_clock::time_point(wall), up, boot};
}

constexpr auto noon = 1'790'000'000s;

TEST(Moment, ADurationIsThatOfTheClockThatNobodySets) {
    EXPECT_EQ(between(at(noon, 1000ms), at(noon + 6s, 7000ms)), 6s);
    for (const auto set : {std::chrono::seconds(3600), std::chrono::seconds(315'360'000), -noon + 10s}) {
        const auto from = at(noon, 1000ms), to = at(noon + set + 6s, 7000ms);
        EXPECT_EQ(between(from, to), 6s);
        EXPECT_EQ(clock_set(from, to), set);
    }
}

TEST(Moment, OverAStartOfTheMachineTheWallsClockIsAllThereIs) {
    EXPECT_EQ(between(at(noon, 9000ms, 7), at(noon + 60s, 5000ms, 8)), 60s);
    EXPECT_EQ(between(at(noon, 9000ms, 7), at(noon - 60s, 5000ms, 8)), 0s) << "never below zero";
    EXPECT_EQ(clock_set(at(noon, 9000ms, 7), at(noon + 60s, 5000ms, 8)), 0s) << "it cannot be known";
    EXPECT_EQ(between(at(noon, 0ms, 0), at(noon + 60s, 5000ms, 7)), 60s) << "a row of an earlier program";
}

TEST(Moment, WhatATimeDaemonSlewsIsNoJump) {
    EXPECT_EQ(clock_set(at(noon, 1000ms), at(noon + 10s, 10'000ms)), 0s);
    EXPECT_EQ(clock_set(at(noon, 1000ms), at(noon + 12s, 10'000ms)), 3s);
}

TEST(Moment, NowGoesOn) {
    const auto one = moment::now();
    std::this_thread::sleep_for(20ms);
    const auto other = moment::now();
    EXPECT_TRUE(one.was());
    EXPECT_NE(one.boot, 0u);
    EXPECT_EQ(one.boot, other.boot);
    EXPECT_GE(between(one, other), 19ms);
    EXPECT_LT(between(one, other), 20s);
    EXPECT_FALSE(moment{}.was());
}

} // namespace
} // namespace tandem::protocol
