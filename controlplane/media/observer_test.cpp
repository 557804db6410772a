// SPDX-License-Identifier: Apache-2.0
// Each media in force is told to observers: its begin, ticks, its end, once, however it ends (kill_test.cpp: at random,
// under faults; fake_observer holds each test of this room to it).
#include "controlplane/media/fakes.hpp"

namespace tandem::media {
namespace {

using namespace std::chrono_literals;
using lines = std::vector<std::string>;

struct observer_test : stand {
    observer_test() {
        levels.level.rekey = 60s;
        options.tick = 20ms;
        options.sweep = 5ms;
        options.timeout = 1s;
        restart();
        EXPECT_TRUE(now->until([&] { return now->relay.ready(); }));
    }
    lines heard() { return now->observed.log; }
};

TEST_F(observer_test, BeginsWithTheAnswerTicksAndEnds) {
    const auto request = call(unit_leg("alice"), core_leg());
    const auto opened = now->wait(now->relay.open(request));
    ASSERT_TRUE(opened);
    EXPECT_TRUE(heard().empty()) << "it rings";
    ASSERT_TRUE(now->update(opened->id, request));
    ASSERT_TRUE(now->update(opened->id, request)) << "a re-offer begins nothing";
    EXPECT_EQ(heard(), lines{"begin c1"});
    dataplane.stats(flow(opened->id, 0)).rx_packets = 100;
    EXPECT_TRUE(now->until([&] { return now->observed.up.at(opened->id).packets == 100; })) << "told by a tick";
    dataplane.stats(flow(opened->id, 0)).rx_packets = 103;
    now->observed.throwing = true; // costs nobody anything
    now->wait(now->relay.close(opened->id, "hung up"));
    now->wait(now->relay.close(opened->id, "hung up"));
    EXPECT_EQ(store.records.size(), 1u);
    EXPECT_TRUE(dataplane.copy().empty());
}

TEST_F(observer_test, WhatIsNeverAnsweredIsNotTold) {
    auto early = call(core_leg(), core_leg());
    early.early = true;
    early.legs[1].remote_unroutable = true;
    const auto rings = now->wait(now->relay.open(early));
    ASSERT_TRUE(rings);
    ASSERT_FALSE(dataplane.copy().empty()) << "carried before its answer";
    now->run_for(50ms);
    EXPECT_TRUE(heard().empty());
    ASSERT_TRUE(now->update(rings->id, call(core_leg(), core_leg())));
    EXPECT_EQ(heard(), lines{"begin c1"});
    early.call_id = "c2";
    const auto unanswered = now->wait(now->relay.open(early));
    ASSERT_TRUE(unanswered);
    now->wait(now->relay.close(unanswered->id, "cancelled"));
    EXPECT_EQ(heard(), lines{"begin c1"});
    EXPECT_EQ(store.records.size(), 1u) << "its record comes all the same";
}

TEST_F(observer_test, OfAnAnswerThatIsRefusedNothingBegins) {
    const auto audio = call(unit_leg("alice"), core_leg());
    auto video = audio;
    video.index = 1;
    std::vector<media_change> changes;
    for (const auto& one : {audio, video}) {
        const auto opened = now->wait(now->relay.open(one));
        ASSERT_TRUE(opened);
        changes.push_back({opened->id, one});
    }
    dataplane_client::fault_plan faults;
    faults.begin(std::nullopt);
    units.faults = &faults;
    EXPECT_TRUE(now->wait(now->relay.update(changes)));
    const auto points = faults.all();
    const auto last = std::ranges::find(points.rbegin(), points.rend(), "media_open alice");
    ASSERT_NE(last, points.rend());
    EXPECT_EQ(heard(), (lines{"begin c1", "begin c1"}));
    for (auto& one : changes) {
        one.request.call_id = "c2";
        const auto opened = now->wait(now->relay.open(one.request));
        ASSERT_TRUE(opened);
        one.id = opened->id;
    }
    faults.begin(
        std::pair{static_cast<std::size_t>(points.rend() - last - 1), dataplane_client::fault_plan::how::refuse});
    EXPECT_FALSE(now->wait(now->relay.update(changes))) << "the second line's unit refuses, the first is undone";
    units.faults = nullptr;
    EXPECT_EQ(now->observed.begun, 2u);
}

TEST_F(observer_test, EndsHoweverItEnds) {
    ASSERT_NE(set_up(call(unit_leg("alice"), core_leg(), "silent")), 0u);
    EXPECT_TRUE(now->until([&] { return heard().size() == 2; }));
    EXPECT_EQ(heard()[1], "end silent: media timeout");
    options.timeout = 60s;
    restart();
    EXPECT_TRUE(now->until([&] { return now->relay.ready(); }));
    ASSERT_NE(set_up(call(unit_leg("alice"), core_leg(), "gone")), 0u);
    now->relay.session_down(*units.by_unit("alice"), true);
    EXPECT_TRUE(now->until([&] { return heard().size() == 2; }));
    EXPECT_EQ(heard()[1], "end gone: session of unit alice ended");
}

TEST_F(observer_test, IsHandedOnAndTakenOver) {
    options.timeout = 60s;
    restart();
    EXPECT_TRUE(now->until([&] { return now->relay.ready(); }));
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    ASSERT_NE(id, 0u);
    ASSERT_NE(set_up(call(core_leg(), core_leg(), "orphan")), 0u);
    now->relay.stop();
    EXPECT_EQ(heard(), (lines{"begin c1", "begin orphan", "handed on c1", "handed on orphan"}));
    now->relay.stop();
    EXPECT_EQ(heard().size(), 4u);
    restart();
    EXPECT_EQ(heard(), (lines{"taken over c1", "taken over orphan"}));
    now->wait(now->relay.close_all_but({id}, "its call is not known any more"));
    EXPECT_TRUE(now->until([&] { return now->relay.ready(); }));
    EXPECT_EQ(heard().back(), "end orphan: its call is not known any more");
    now->wait(now->relay.close(id, "hung up"));
    EXPECT_EQ(heard().back(), "end c1: hung up");
}

} // namespace
} // namespace tandem::media
