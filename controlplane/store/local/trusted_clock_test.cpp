// SPDX-License-Identifier: Apache-2.0
// When the wall's clock is believed: over starts of the program and of the machine, jumps, and their end.
#include "controlplane/store/local/trusted_clock.hpp"

#include <gtest/gtest.h>

namespace tandem::store {
namespace {

using namespace std::chrono_literals;
using std::chrono::system_clock;

constexpr auto noon = 1'790'000'000s;
constexpr auto day = 86'400s, ten_years = 3650 * day;

// A machine with its two clocks.
struct machine {
    std::chrono::seconds wall = noon;
    std::chrono::milliseconds up = 1000s;
    std::uint32_t boot = 7;
    trusted_clock clock;

    machine() { clock.believe_after(30 * day); }
    void look() { clock.look({system_clock::time_point(wall), up, boot}); }
    void pass(std::chrono::seconds time, std::chrono::seconds step = 60s) {
        for (auto gone = 0s; gone < time; gone += step) {
            wall += step;
            up += step;
            look();
        }
    }
    void restart() {
        const auto kept = clock.text();
        clock = {};
        clock.believe_after(30 * day);
        ASSERT_TRUE(clock.load(kept));
        look();
    }
    void reboot(std::chrono::seconds off) {
        wall += off;
        up = 20s;
        ++boot;
        restart();
    }
};

TEST(TrustedClock, ItIsWhileItGoesOn) {
    machine m;
    m.look();
    m.pass(3600s);
    m.restart();
    m.reboot(7200s);
    m.pass(3600s);
    EXPECT_TRUE(m.clock.trusted());
    EXPECT_EQ(m.clock.doubt(), "");
    EXPECT_EQ(m.clock.jumps, 0u);
}

TEST(TrustedClock, AJumpIsDoubtedUntilItIsBack) {
    for (const auto jump : {3600s, ten_years, -3600s, -noon + 60s}) {
        machine m;
        m.look();
        m.wall += jump;
        m.look();
        EXPECT_FALSE(m.clock.trusted()) << jump.count();
        EXPECT_EQ(m.clock.jumps, 1u);
        EXPECT_NE(m.clock.doubt().find("2026-09-21"), std::string::npos) << m.clock.doubt();
        m.pass(2 * day, 3600s);
        m.restart();
        EXPECT_FALSE(m.clock.trusted()) << "over a restart of the program too";
        m.wall -= jump;
        m.look();
        EXPECT_TRUE(m.clock.trusted());
    }
}

TEST(TrustedClock, AStartOfTheMachineWithAWrongClockIsDoubted) {
    for (const auto off : {ten_years, 2 * day, -3600s, -noon + 60s}) {
        machine m;
        m.look();
        m.reboot(off);
        EXPECT_FALSE(m.clock.trusted()) << off.count();
        m.wall += 600s - off; // a time server is found
        m.up += 1s;
        m.look();
        EXPECT_TRUE(m.clock.trusted());
    }
}

TEST(TrustedClock, WhatGoesOnSteadilyForLongIsBelieved) {
    machine m;
    m.look();
    m.wall += ten_years;
    m.look();
    m.pass(20 * day, 3600s);
    m.reboot(3600s); // what was steady stays so
    m.pass(9 * day, 3600s);
    EXPECT_FALSE(m.clock.trusted());
    m.pass(day + 3600s, 3600s);
    EXPECT_TRUE(m.clock.trusted());
    m.wall += ten_years;
    m.look();
    m.pass(20 * day, 3600s);
    m.wall += 3600s;
    m.look();
    m.pass(20 * day, 3600s);
    EXPECT_FALSE(m.clock.trusted()) << "another jump: from the beginning";
}

TEST(TrustedClock, WithNothingKeptTheNewestRecordSaysWhereItWas) {
    for (const auto& [gone, fine] : {std::pair{0s, true}, {3600s, true}, {2 * day, false}, {-3600s, false}}) {
        machine m;
        m.clock.start_from(system_clock::time_point(noon - gone));
        m.look();
        EXPECT_EQ(m.clock.trusted(), fine) << gone.count();
    }
    machine m;
    EXPECT_FALSE(m.clock.load("no state"));
    m.look();
    EXPECT_TRUE(m.clock.trusted()) << "there is nothing that could be deleted";
}

TEST(TrustedClock, SomebodySaysThatItIsRight) {
    machine m;
    m.look();
    m.reboot(90 * day);
    EXPECT_FALSE(m.clock.trusted());
    m.clock.accept({system_clock::time_point(m.wall), m.up, m.boot});
    m.pass(60s);
    EXPECT_TRUE(m.clock.trusted());
}

} // namespace
} // namespace tandem::store
