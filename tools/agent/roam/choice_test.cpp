// SPDX-License-Identifier: Apache-2.0
// The choice of a path, row by row, and a random walk of what a day may bring.
#include "tools/agent/roam/choice.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

using namespace tandem::agent;
using namespace std::chrono_literals;

namespace {

ip_bytes at(std::uint8_t net, std::uint8_t host) {
    return {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, net, host};
}

struct world {
    std::vector<path_facts> all;
    path_choice_maker choice;
    path_time now{1h};

    explicit world(std::vector<path_class> classes) : choice(std::move(classes)) {}
    path_facts& add(const std::string& name, std::size_t order, std::uint8_t net) {
        all.push_back({name, order, true, true, {at(net, 2)}, at(net, 2), {}});
        return all.back();
    }
    path_facts& of(const std::string& name) {
        return *std::find_if(all.begin(), all.end(), [&](const auto& one) { return one.interface == name; });
    }
    void readdress(const std::string& name, std::uint8_t net) {
        of(name).addresses = {at(net, 2)};
        of(name).source = at(net, 2);
    }
    decision step(std::chrono::milliseconds later = 0ms) {
        now += later;
        choice.learn(all, now);
        return choice.decide(now);
    }
    // The decisions of so much time, asked each second.
    std::vector<decision> pass(std::chrono::seconds time, bool traffic = false) {
        std::vector<decision> made;
        for (auto gone = 0s; gone < time; gone += 1s) {
            if (traffic)
                choice.traffic(now);
            if (auto one = step(1s); one.kind != move_kind::none)
                made.push_back(one);
        }
        return made;
    }
    [[nodiscard]] const std::string& on() const { return choice.in_use().interface; }
};

std::vector<path_class> wlan_and_wwan() {
    return {{"wlan", {"wl*"}, billing::flat, 5s, -75, {}}, {"wwan", {"ww*"}, billing::volume, 5s, {}, {}}};
}
std::vector<path_class> circuit_and_packets() {
    return {{"circuit", {"cs*"}, billing::time, 5s, {}, 30s}, {"packets", {"ww*"}, billing::volume, 5s, {}, {}}};
}
world both(std::vector<path_class> classes = wlan_and_wwan()) {
    world w(std::move(classes));
    w.add("wlan0", 0, 1);
    w.add("wwan0", 1, 2);
    return w;
}
world billed() {
    world w(circuit_and_packets());
    w.add("cs0", 0, 1);
    w.step();
    w.add("wwan0", 1, 2);
    return w;
}

void expect(const decision& made, move_kind kind, move_reason reason, const std::string& to) {
    EXPECT_STREQ(name_of(made.kind), name_of(kind));
    EXPECT_STREQ(name_of(made.reason), name_of(reason));
    EXPECT_EQ(made.to.interface, to);
}

} // namespace

TEST(PathChoice, Col09TheFirstIsTheBestAndThenItStays) {
    auto w = both();
    expect(w.step(), move_kind::hard, move_reason::first, "wlan0");
    EXPECT_TRUE(w.pass(60s).empty());
}

TEST(PathChoice, Col10WhatIsLostIsLeftAtOnce) {
    for (const auto how : {standing::off, standing::no_carrier, standing::no_address, standing::no_route}) {
        auto w = both();
        w.step();
        auto& lost = w.of("wlan0");
        lost.up = how != standing::off;
        lost.carrier = how != standing::no_carrier;
        if (how == standing::no_address)
            lost.addresses.clear();
        if (how == standing::no_route)
            lost.source.reset();
        const auto made = w.step(1ms);
        expect(made, move_kind::hard, move_reason::lost, "wwan0");
        EXPECT_EQ(made.was, how);
    }
    auto w = both(); // the interface itself is gone
    w.step();
    w.all.erase(w.all.begin());
    expect(w.step(1ms), move_kind::hard, move_reason::lost, "wwan0");
}

TEST(PathChoice, Col10NothingLeftIsSaidOnceAndTheNextIsTheFirstAgain) {
    auto w = both();
    w.step();
    w.of("wlan0").carrier = w.of("wwan0").carrier = false;
    expect(w.step(), move_kind::hard, move_reason::no_path, "");
    EXPECT_TRUE(w.pass(10s).empty());
    w.of("wwan0").carrier = true;
    expect(w.step(), move_kind::hard, move_reason::first, "wwan0");
}

TEST(PathChoice, Col11TheBetterOneIsMovedToAfterItsHysteresis) {
    auto w = both();
    w.of("wlan0").carrier = false;
    expect(w.step(), move_kind::hard, move_reason::first, "wwan0");
    w.of("wlan0").carrier = true;
    EXPECT_EQ(w.step().kind, move_kind::none);
    EXPECT_EQ(w.step(4999ms).kind, move_kind::none);
    expect(w.step(1ms), move_kind::soft, move_reason::better, "wlan0");
}

TEST(PathChoice, Col11OneThatComesAndGoesIsNotMovedTo) {
    auto w = both();
    w.of("wlan0").carrier = false;
    w.step();
    for (int i = 0; i < 20; i++) {
        w.of("wlan0").carrier = i % 2 == 0;
        EXPECT_TRUE(w.pass(4s).empty());
    }
    EXPECT_EQ(w.on(), "wwan0");
}

TEST(PathChoice, Col11OfTheSameClassTheOneInUseStays) {
    world w(wlan_and_wwan());
    w.add("wlan1", 0, 1);
    w.step();
    w.add("wlan0", 0, 3);
    EXPECT_TRUE(w.pass(30s).empty());
    EXPECT_EQ(w.on(), "wlan1");
}

TEST(PathChoice, Col12AnIdleCircuitIsLeftAtThirtySeconds) {
    auto w = billed();
    w.choice.traffic(w.now);
    EXPECT_TRUE(w.pass(29s).empty());
    expect(w.step(1s), move_kind::soft, move_reason::idle, "wwan0");
    EXPECT_TRUE(w.pass(60s).empty()); // and it does not come back without traffic
}

TEST(PathChoice, Col12WhenToLookIsKnown) {
    auto w = billed();
    w.choice.traffic(w.now);
    EXPECT_EQ(w.choice.idle_at(), w.now + 30s);
    EXPECT_TRUE(w.pass(29s).empty());
    EXPECT_EQ(w.step(999ms).kind, move_kind::none);
    expect(w.step(1ms), move_kind::soft, move_reason::idle, "wwan0");
    EXPECT_FALSE(w.choice.idle_at()) << "billed by volume";
}

TEST(PathChoice, Col12WithTrafficTheCircuitStays) {
    auto w = billed();
    EXPECT_TRUE(w.pass(120s, true).empty());
    EXPECT_EQ(w.on(), "cs0");
}

TEST(PathChoice, Col12TrafficBringsTheCircuitBackOnePacketDoesNot) {
    auto w = billed();
    w.pass(31s);
    ASSERT_EQ(w.on(), "wwan0");
    w.choice.traffic(w.now);
    EXPECT_TRUE(w.pass(20s).empty());
    const auto made = w.pass(10s, true);
    ASSERT_EQ(made.size(), 1U);
    expect(made[0], move_kind::soft, move_reason::traffic, "cs0");
}

TEST(PathChoice, Col12WithNothingElseAnIdleCircuitStays) {
    auto w = billed();
    w.of("wwan0").carrier = false;
    EXPECT_TRUE(w.pass(120s).empty());
}

TEST(PathChoice, Col12WhatTheKernelSaysToNeighboursIsNoTraffic) {
    std::vector<std::uint8_t> v4(28), v6(48);
    v4[0] = 0x45;
    v4[9] = 17;
    v6[0] = 0x60;
    v6[6] = 17;
    EXPECT_TRUE(is_application_traffic(v4));
    EXPECT_TRUE(is_application_traffic(v6));
    v4[9] = 2; // IGMP
    EXPECT_FALSE(is_application_traffic(v4));
    v6[6] = 58;
    v6[40] = 128; // a ping
    EXPECT_TRUE(is_application_traffic(v6));
    for (const auto type : std::vector<std::uint8_t>{133, 135, 143}) {
        v6[40] = type;
        EXPECT_FALSE(is_application_traffic(v6)) << int{type};
    }
    v6.resize(56); // MLDv2 behind a router alert
    v6[6] = 0;
    v6[40] = 58;
    v6[41] = 0;
    v6[48] = 143;
    EXPECT_FALSE(is_application_traffic(v6));
    EXPECT_FALSE(is_application_traffic({}));
    EXPECT_FALSE(is_application_traffic(std::vector<std::uint8_t>(47, 0x60)));
}

TEST(PathChoice, Col14ASweepAcrossTheThreshold) {
    auto w = both();
    auto& wlan = w.of("wlan0");
    wlan.signal_dbm = -60;
    w.step();
    w.pass(10s);
    for (int dbm = -61; dbm > -75; dbm--) {
        wlan.signal_dbm = dbm;
        EXPECT_EQ(w.step(1s).kind, move_kind::none) << dbm;
    }
    wlan.signal_dbm = -75; // not above it
    expect(w.step(1s), move_kind::soft, move_reason::weak, "wwan0");
    wlan.signal_dbm = -74;
    EXPECT_TRUE(w.pass(5s).empty());
    expect(w.step(1s), move_kind::soft, move_reason::better, "wlan0");
    wlan.signal_dbm.reset(); // unknown: what the carrier says
    EXPECT_TRUE(w.pass(10s).empty());
}

TEST(PathChoice, Col14AWeakOneIsBetterThanNone) {
    auto w = both();
    w.of("wlan0").signal_dbm = -90;
    expect(w.step(), move_kind::hard, move_reason::first, "wwan0");
    w.of("wwan0").up = false;
    expect(w.step(), move_kind::hard, move_reason::lost, "wlan0");
    w.of("wwan0").up = true; // weak still works: the other has to prove itself
    EXPECT_EQ(w.step().kind, move_kind::none);
    expect(w.step(5s), move_kind::soft, move_reason::weak, "wwan0");
}

TEST(PathChoice, Col18SoftWhereTheOldOneIsStillThere) {
    auto soft = both(), hard = both();
    soft.step();
    soft.pass(5s);
    soft.of("wlan0").signal_dbm = -80;
    EXPECT_EQ(soft.step().kind, move_kind::soft);
    hard.step();
    hard.pass(5s);
    hard.of("wlan0").carrier = false;
    EXPECT_EQ(hard.step().kind, move_kind::hard);
}

TEST(PathChoice, Col45AnotherAddressOfTheSameCard) {
    auto w = both();
    w.step();
    w.readdress("wlan0", 9);
    const auto made = w.step(1s);
    expect(made, move_kind::hard, move_reason::moved, "wlan0");
    EXPECT_EQ(made.from.source, at(1, 2));
    EXPECT_EQ(made.to.source, at(9, 2));
    w.of("wlan0").addresses.push_back(at(10, 2)); // the old one is still there, but the kernel prefers the new one
    w.of("wlan0").source = at(10, 2);
    expect(w.step(1s), move_kind::soft, move_reason::moved, "wlan0");
    EXPECT_TRUE(w.pass(10s).empty());
}

TEST(PathChoice, ASilentOneIsLeftAndTriedAgainLaterAndLater) {
    auto w = both();
    w.step();
    w.choice.failed("wlan0", w.now);
    expect(w.step(), move_kind::hard, move_reason::silent, "wwan0");
    auto made = w.pass(15s);
    ASSERT_EQ(made.size(), 1U);
    expect(made[0], move_kind::soft, move_reason::better, "wlan0");
    w.choice.failed("wlan0", w.now);
    expect(w.step(), move_kind::hard, move_reason::silent, "wwan0");
    EXPECT_TRUE(w.pass(14s).empty()); // ten seconds of silence, five of hysteresis
    EXPECT_EQ(w.pass(2s).size(), 1U);
}

TEST(PathChoice, OfSilentOnesEachHasItsTurn) {
    auto w = both();
    w.step();
    std::vector<std::string> tried;
    for (int i = 0; i < 6; i++) {
        tried.push_back(w.on());
        w.choice.failed(w.on(), w.now);
        w.step(1s);
    }
    EXPECT_EQ(std::count(tried.begin(), tried.end(), "wlan0"), 3) << testing::PrintToString(tried);
}

namespace {

constexpr int walks = 25, steps = 2000;

// Anything may happen to any path.
void happen(world& w, std::mt19937& random) {
    auto& path = w.all[random() % w.all.size()];
    const std::uint8_t net = static_cast<std::uint8_t>(10 * (path.order + 1) + random() % 3);
    switch (random() % 8) {
    case 0:
        path.up = !path.up;
        break;
    case 1:
    case 2:
        path.carrier = !path.carrier;
        break;
    case 3:
        w.readdress(path.interface, net);
        break;
    case 4:
        path.addresses.clear();
        path.source.reset();
        break;
    case 5:
        path.signal_dbm = -90 + static_cast<int>(random() % 40);
        break;
    case 6:
        w.choice.failed(path.interface, w.now);
        break;
    default:
        w.choice.traffic(w.now);
    }
}

struct walk {
    world w{{{"circuit", {"cs*"}, billing::time, 3s, {}, 30s},
             {"wlan", {"wl*"}, billing::flat, 5s, -75, {}},
             {"wwan", {"ww*"}, billing::volume, 2s, {}, {}}}};
    std::map<std::string, path_time> not_good; // when it was last seen so
    walk() {
        w.add("cs0", 0, 10);
        w.add("wlan0", 1, 20);
        w.add("wlan1", 1, 21);
        w.add("wwan0", 2, 30);
    }
    void step(std::chrono::milliseconds later) {
        const auto before = w.choice.in_use();
        const auto made = w.step(later);
        for (const auto& [name, path] : w.choice.paths())
            if (path.how != standing::good)
                not_good[name] = w.now;
        if (made.kind == move_kind::none) {
            EXPECT_EQ(w.choice.in_use(), before);
            return;
        }
        EXPECT_EQ(made.from, before);
        EXPECT_FALSE(made.to == made.from);
        if (made.to.interface.empty())
            return;
        const auto& path = w.choice.paths().at(made.to.interface);
        EXPECT_TRUE(works(path.how));
        // Never faster than the hysteresis allows: what is left while it works is left for what has been there so long.
        if (made.kind == move_kind::soft && made.reason != move_reason::moved && path.how == standing::good &&
            not_good.contains(made.to.interface)) {
            EXPECT_GE(w.now - not_good.at(made.to.interface), w.choice.classes()[path.facts.order].hysteresis);
        }
    }
};

} // namespace

TEST(PathChoice, ARandomWalkNeverFlapsAndEndsAtTheBest) {
    std::mt19937 random(20260801);
    std::size_t moves = 0;
    for (int i = 0; i < walks && !testing::Test::HasFailure(); i++) {
        walk one;
        for (int k = 0; k < steps; k++) {
            happen(one.w, random);
            const auto before = one.w.choice.in_use();
            one.step(std::chrono::milliseconds(random() % 1500));
            moves += before == one.w.choice.in_use() ? 0 : 1;
        }
        for (int k = 0; k < 700; k++) // longer than any silence: then no more news, no traffic
            one.step(1s);
        // The best by plain words: the first good wlan, else wwan, else the idle circuit; weak where none is good.
        std::vector<std::string> expected;
        for (const auto how : {standing::good, standing::weak})
            for (const auto& names : {std::vector<std::string>{"wlan0", "wlan1"}, {"wwan0"}, {"cs0"}}) {
                const bool found = !expected.empty();
                for (const auto& name : names)
                    if (!found && one.w.choice.paths().at(name).how == how)
                        expected.push_back(name);
            }
        if (expected.empty())
            expected.emplace_back();
        EXPECT_NE(std::find(expected.begin(), expected.end(), one.w.on()), expected.end())
            << one.w.on() << " but " << testing::PrintToString(expected);
    }
    EXPECT_GT(moves, 1000U);
    RecordProperty("moves", static_cast<int>(moves));
}
