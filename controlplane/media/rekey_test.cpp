// SPDX-License-Identifier: Apache-2.0
// Re-keying and take-over: the order of the steps, what happens when a unit does not answer, and both sides' restarts.
#include "controlplane/media/fakes.hpp"

#include <set>

namespace tandem::media {
namespace {

using namespace std::chrono_literals;
using rekey_test = stand;

TEST_F(rekey_test, Rim13_InstallThenSeedThenSwitchThenRetire) {
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    ASSERT_TRUE(now->until([&] { return log.count("retire") >= 1; }));
    const auto install = log.find("install", log.find("media_open")), seed = log.find("seed alice e1", install);
    const auto change = log.find("switch", seed), retire = log.find("retire", change);
    EXPECT_LT(install, seed);
    EXPECT_LT(seed, change);
    EXPECT_LT(change, retire);
    EXPECT_LT(log.find("switch", log.find("media_open")),
              log.find("seed alice e2") == -1 ? 1000 : log.find("seed alice e2"));
    const auto row = store.rows.at(id);
    EXPECT_GE(row.legs[0].epoch, 1u);
    EXPECT_GE(row.rekeys, 1u);
    // The old epoch is gone on both sides, on all three flows.
    EXPECT_FALSE(dataplane.copy().at(flow(id, 0)).in.contains(0));
    EXPECT_FALSE(dataplane.copy().at(flow(id, 1)).out.contains(0));
    EXPECT_FALSE(dataplane.copy().at(flow(id, 1, 1)).out.contains(0));
}

TEST_F(rekey_test, Rim13_EverySeedIsNew) {
    (void)set_up(call(unit_leg("alice"), core_leg()));
    ASSERT_TRUE(now->until([&] { return units.seeds.size() >= 6; }));
    EXPECT_EQ(std::set(units.seeds.begin(), units.seeds.end()).size(), units.seeds.size());
}

TEST_F(rekey_test, Rim14_IntervalIsKeptNotDrifting) {
    (void)set_up(call(unit_leg("alice"), core_leg()));
    const auto start = std::chrono::steady_clock::now();
    ASSERT_TRUE(now->until([&] { return log.find("seed alice e6") >= 0; }));
    const auto took = std::chrono::steady_clock::now() - start;
    EXPECT_GE(took, 6 * 300ms - 100ms);
    EXPECT_LE(took, 6 * 300ms + 300ms); // each step's own delay does not add up
}

TEST_F(rekey_test, UnansweredSeedKeepsTheOldEpochAndIsOfferedAgain) {
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    units.silent = true;
    ASSERT_TRUE(now->until([&] { return log.count("seed alice e1") >= 2; }));
    EXPECT_EQ(dataplane.copy().at(flow(id, 1)).sending, 0u);
    EXPECT_TRUE(dataplane.copy().at(flow(id, 0)).in.contains(0));
    EXPECT_TRUE(dataplane.copy().at(flow(id, 0)).in.contains(1))
        << "the unit may have got it: what it sends must be taken";
    EXPECT_EQ(units.seeds[1], units.seeds[2]) << "the same epoch is offered with the same seed";
    EXPECT_GE(now->relay.info(id)->rekey_failures, 1u);
    units.silent = false;
    ASSERT_TRUE(now->until([&] { return now->relay.info(id)->rekeys >= 1; }));
    EXPECT_GE(dataplane.copy().at(flow(id, 1)).sending, 1u);
}

TEST_F(rekey_test, AnErrorInsideCostsOneReKeyAndNotTheNext) {
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    units.throwing = {protocol::exchange::seed};
    ASSERT_TRUE(now->until([&] { return now->relay.info(id)->rekey_failures >= 2; })) << "tried again, and seen";
    EXPECT_EQ(dataplane.copy().at(flow(id, 1)).sending, 0u);
    units.throwing.clear();
    ASSERT_TRUE(now->until([&] { return now->relay.info(id)->rekeys >= 1; }));
    EXPECT_TRUE(now->wait(now->relay.rekey(id))) << "the leg's lock is free";
}

TEST_F(rekey_test, AnErrorInsideWhileAUnitIsAskedForAdviceIsNoAdvice) {
    units.throwing = {protocol::exchange::contact};
    EXPECT_NE(set_up(call(unit_leg("alice"), core_leg())), 0u) << last_error;
}

TEST_F(rekey_test, UnitThatLostItsStateGetsANewSecondaryUnderTheNextEpoch) {
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    units.refusing.insert(protocol::exchange::seed);
    ASSERT_TRUE(now->until([&] { return log.count("media_open") >= 2; }));
    units.refusing.clear();
    EXPECT_GE(*units.opens[1].get<protocol::tlv::epoch>(), 2u) << "no epoch number comes back with other keys";
    ASSERT_TRUE(now->until([&] { return dataplane.copy().size() == 3; }));
    EXPECT_NE(now->relay.info(id), std::nullopt);
}

TEST_F(rekey_test, ReturnOfTheUnitRekeysAtOnce) {
    levels.level.rekey = 60s;
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    now->run_for(30ms);
    EXPECT_EQ(log.count("seed"), 0u);
    now->relay.session_up(units.units["alice"]);
    ASSERT_TRUE(now->until([&] { return now->relay.info(id)->rekeys == 1; }));
}

TEST_F(rekey_test, ForcedRekeyTellsTheEpochs) {
    levels.level.rekey = 60s;
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    for (std::uint32_t n = 1; n <= 4; ++n) { // faster than the overlap: never more than three epochs
        const auto done = now->wait(now->relay.rekey(id));
        ASSERT_TRUE(done) << done.error().text;
        EXPECT_EQ((*done)[0], n);
        EXPECT_EQ((*done)[1], std::nullopt);
        EXPECT_LE(dataplane.copy().at(flow(id, 0)).in.size(), 3u);
    }
    const auto none = now->wait(now->relay.rekey(4711));
    ASSERT_FALSE(none);
    EXPECT_NE(none.error().text.find("4711"), std::string::npos);
    const auto clear = set_up(call(core_leg(), core_leg(), "c2"));
    EXPECT_FALSE(now->wait(now->relay.rekey(clear)));
}

TEST_F(rekey_test, NewControlPlaneTakesTheFlowsOverAndRekeysOn) {
    levels.level.rekey = 60s;
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    ASSERT_TRUE(now->wait(now->relay.rekey(id)));
    const auto before = dataplane.copy();
    const auto opens = log.count("media_open");
    restart();
    ASSERT_TRUE(now->until([&] { return now->relay.ready(); }));
    EXPECT_EQ(log.count("remove"), 0u) << "media never paused";
    EXPECT_EQ(dataplane.copy().size(), before.size());
    const auto info = now->relay.info(id);
    ASSERT_TRUE(info);
    EXPECT_EQ(info->legs[0].epoch, 1u);
    EXPECT_TRUE(info->active);
    EXPECT_EQ(now->relay.count().taken_over, 1u);
    now->relay.session_up(units.units["alice"]);
    ASSERT_TRUE(now->until([&] { return log.find("seed alice e2") >= 0; }));
    EXPECT_TRUE(now->until([&] { return log.count("media_open") == opens + 1; })) << "where its phone is, under e2";
    now->wait(now->relay.close(id, "bye"));
    EXPECT_TRUE(dataplane.copy().empty());
}

TEST_F(rekey_test, FlowsThatNobodyKnowsAreRemovedOthersKept) {
    levels.level.rekey = 60s;
    const auto a = set_up(call(unit_leg("alice"), core_leg(), "a")),
               b = set_up(call(unit_leg("alice"), core_leg(), "b"));
    store.rows.erase(b); // its row was lost
    restart();
    ASSERT_TRUE(now->until([&] { return now->relay.ready(); }));
    EXPECT_EQ(dataplane.copy().size(), 3u);
    EXPECT_TRUE(dataplane.copy().contains(flow(a, 0)));
    EXPECT_EQ(now->relay.count().foreign_flows, 3u);
}

TEST_F(rekey_test, HalfMadeRekeyOfAnEarlierLifeStartsAnew) {
    levels.level.rekey = 60s;
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    units.silent = true;
    ASSERT_FALSE(now->wait(now->relay.rekey(id))); // epoch 1 lies ready in the data plane, its seed dies with this life
    units.silent = false;
    restart();
    ASSERT_TRUE(now->until([&] { return now->relay.ready(); }));
    EXPECT_EQ(log.count("remove"), 0u);
    now->relay.session_up(units.units["alice"]);
    ASSERT_TRUE(now->until([&] { return units.opens.size() == 2; }));
    EXPECT_EQ(units.opens[1].get<protocol::tlv::epoch>(), 2u);
    EXPECT_TRUE(now->until([&] { return dataplane.copy().size() == 3 && now->relay.info(id)->legs[0].epoch == 2; }));
}

TEST_F(rekey_test, DataPlaneThatLostItsFlowsGetsThemAgain) {
    levels.level.rekey = 60s;
    auto core = core_leg();
    core.srtp = keys(7);
    const auto id = set_up(call(unit_leg("alice"), std::move(core)));
    ASSERT_NE(id, 0u) << last_error;
    for (const auto one : {flow(id, 1), flow(id, 1) + 1})
        dataplane.speak(one, api::side::in, 5, 100);
    dataplane.speak(flow(id, 0), api::side::out, 5, 100);
    copied(); // what is known of SDES legs
    dataplane.stop();
    ASSERT_TRUE(now->until([&] { return !now->relay.ready(); }));
    dataplane.forget_flows();
    dataplane.start();
    ASSERT_TRUE(now->until([&] { return now->relay.count().reinstalled == 1; }));
    const auto flows = dataplane.copy();
    ASSERT_EQ(flows.size(), 3u);
    EXPECT_EQ(units.opens.at(1).get<protocol::tlv::epoch>(), 1u) << "the old keys are gone: the next epoch";
    EXPECT_EQ(flows.at(flow(id, 0)).out.begin()->second, std::vector<std::uint8_t>(30, 8))
        << "SDES keys stay the call's";
}

TEST_F(rekey_test, ClosedMeanwhileNothingComesBack) {
    const auto request = call(unit_leg("alice"), core_leg());
    const auto opened = now->wait(now->relay.open(request));
    ASSERT_TRUE(opened);
    units.silent = true; // the update hangs in MEDIA_OPEN
    std::optional<result<media_locals>> updated;
    now->start_update(opened->id, request, updated);
    ASSERT_TRUE(now->until([&] { return log.count("media_open") == 1; }));
    now->wait(now->relay.close(opened->id, "cancel"));
    ASSERT_TRUE(now->until([&] { return updated.has_value(); }));
    EXPECT_FALSE(*updated);
    EXPECT_TRUE(dataplane.copy().empty());
    EXPECT_TRUE(store.rows.empty());
    EXPECT_TRUE(now->relay.all().empty());
}

} // namespace
} // namespace tandem::media
