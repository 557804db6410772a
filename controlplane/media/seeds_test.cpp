// SPDX-License-Identifier: Apache-2.0
// Who makes the seeds (RIM-28, RIM-29): the unit alone, both, the gateway; that faulty units never cost a call; and
// that restarts of either side change nothing of it.
#include "controlplane/media/fakes.hpp"

#include <set>

#include "controlplane/protocol/seed_keys.hpp"

namespace tandem::media {
namespace {

using namespace std::chrono_literals;
using policy::key_source;
using protocol::direction;
using protocol::exchange;
using protocol::tlv;
using bytes = std::vector<std::uint8_t>;

constexpr std::uint8_t by_gateway = 0, by_unit = 1, by_both = 2;

struct seeds_test : stand {
    seeds_test() { levels.level.keys = key_source::unit; }
    bytes derived(const bytes& seed, session::tsid id, media_id media, direction way, std::uint32_t epoch) {
        const auto keys = protocol::derive_keys(
            protocol::secret(seed), {id, static_cast<std::uint32_t>(media), way, epoch, levels.level.suite});
        return {keys->view().begin(), keys->view().end()};
    }
    const bytes& made(const std::string& unit, media_id id, std::uint32_t epoch, std::size_t n = 0) {
        return units.made.at({unit, id, epoch}).at(n);
    }
    // What must not be called; a call is counted here.
    void forbid_generator() {
        now->relay.use_generator([this](std::span<std::uint8_t>) {
            ++generated;
            return true;
        });
    }
    static bytes xored(bytes a, const bytes& b) {
        for (std::size_t n = 0; n < a.size(); ++n)
            a[n] ^= b[n];
        return a;
    }
    unsigned generated = 0;
};

TEST_F(seeds_test, Rim28_UnitMakesTheSeedAndTheGeneratorIsNeverCalled) {
    forbid_generator();
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    ASSERT_NE(id, 0u) << last_error;
    EXPECT_LT(log.find("seed_make alice e0"), log.find("install"));
    EXPECT_LT(log.find("install"), log.find("media_open alice e0"));
    ASSERT_EQ(made("alice", id, 0).size(), levels.level.seed_bytes);
    EXPECT_EQ(dataplane.copy().at(flow(id, 0)).in.at(0),
              derived(made("alice", id, 0), 0xa11ce, id, direction::to_gateway, 0));
    EXPECT_EQ(dataplane.copy().at(flow(id, 1)).out.at(0),
              derived(made("alice", id, 0), 0xa11ce, id, direction::to_unit, 0));
    EXPECT_EQ(units.opens.at(0).get<tlv::key_source>(), by_unit);
    ASSERT_TRUE(now->until([&] { return now->relay.info(id)->rekeys >= 3; }));
    EXPECT_TRUE(units.seeds.empty()) << "no seed goes down the primary";
    EXPECT_EQ(generated, 0u);
    EXPECT_EQ(now->relay.count().seeds_made, 0u);
    const auto info = *now->relay.info(id);
    EXPECT_EQ(info.seeds_made, 0u);
    EXPECT_GE(info.seeds_from_units, 4u);
    EXPECT_EQ(info.level.keys, key_source::unit);
    EXPECT_EQ(info.legs[0].keys, key_source::unit);
    EXPECT_EQ(info.legs[1].keys, std::nullopt);
    now->wait(now->relay.close(id, "bye"));
    EXPECT_EQ(store.records.at(0).level.keys, key_source::unit);
    EXPECT_EQ(store.records.at(0).seeds_made, 0u);
}

TEST_F(seeds_test, Rim28_BothHalvesAreXored) {
    levels.level.keys = key_source::both;
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    ASSERT_NE(id, 0u) << last_error;
    ASSERT_EQ(units.seeds.size(), 1u);
    const auto whole = xored(made("alice", id, 0), units.seeds[0]);
    EXPECT_NE(whole, units.seeds[0]);
    EXPECT_EQ(units.opens.at(0).get<tlv::key_source>(), by_both);
    EXPECT_EQ(dataplane.copy().at(flow(id, 0)).in.at(0), derived(whole, 0xa11ce, id, direction::to_gateway, 0));
    ASSERT_TRUE(now->until([&] { return log.find("retire") >= 0; })) << "epoch 1 is in force";
    const auto next = xored(made("alice", id, 1), units.seeds.at(1));
    EXPECT_EQ(dataplane.copy().at(flow(id, 1)).out.at(1), derived(next, 0xa11ce, id, direction::to_unit, 1));
    EXPECT_GE(now->relay.info(id)->seeds_made, 2u);
}

TEST_F(seeds_test, Rim28_SeedIsKeyTakesTwoOfTheUnit) {
    for (const auto source : {key_source::unit, key_source::both}) {
        levels.level.keys = source;
        levels.level.seed_is_key = true;
        units.seeds.clear();
        const auto id = set_up(call(unit_leg("alice"), core_leg(), source == key_source::unit ? "one" : "two"));
        ASSERT_NE(id, 0u) << last_error;
        auto up = made("alice", id, 0, 0), down = made("alice", id, 0, 1);
        EXPECT_EQ(up.size(), 28u);
        EXPECT_NE(up, down);
        if (source == key_source::both) {
            ASSERT_GE(units.seeds.size(), 2u);
            up = xored(up, units.seeds[0]);
            down = xored(down, units.seeds[1]);
        }
        EXPECT_EQ(dataplane.copy().at(flow(id, 0)).in.at(0), up);
        EXPECT_EQ(dataplane.copy().at(flow(id, 1)).out.at(0), down);
        now->wait(now->relay.close(id, "bye"));
    }
}

TEST_F(seeds_test, Rim28_UnitToUnitEachMakesItsOwn) {
    forbid_generator();
    const auto id = set_up(call(unit_leg("alice"), unit_leg("carol", "10.64.0.3")));
    ASSERT_NE(id, 0u) << last_error;
    EXPECT_EQ(dataplane.copy().at(flow(id, 0)).in.at(0),
              derived(made("alice", id, 0), 0xa11ce, id, direction::to_gateway, 0));
    EXPECT_EQ(dataplane.copy().at(flow(id, 0)).out.at(0),
              derived(made("carol", id, 0), 0xca501, id, direction::to_unit, 0));
    EXPECT_EQ(generated, 0u);
}

TEST_F(seeds_test, Rim29_ThirtyEpochsByTheUnit) {
    levels.level.rekey = 40ms;
    levels.level.overlap = 10ms;
    forbid_generator();
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    ASSERT_NE(id, 0u) << last_error;
    ASSERT_TRUE(now->until([&] { return now->relay.info(id)->rekeys >= 30; }));
    EXPECT_EQ(now->relay.info(id)->rekey_failures, 0u);
    EXPECT_EQ(generated, 0u);
    EXPECT_TRUE(units.seeds.empty());
    for (std::uint32_t epoch = 1; epoch <= 30; ++epoch) {
        const auto n = std::to_string(epoch);
        ASSERT_GE(log.find("seed_make alice e" + n), 0);
        EXPECT_LT(log.find("seed_make alice e" + n), log.find("seed alice e" + n));
    }
    const auto epoch = now->relay.info(id)->legs[0].epoch;
    EXPECT_EQ(dataplane.copy().at(flow(id, 1)).out.at(epoch),
              derived(made("alice", id, epoch), 0xa11ce, id, direction::to_unit, epoch));
}

TEST_F(seeds_test, Rim29_MixedModesOnConcurrentCalls) {
    levels.level.rekey = 100ms;
    levels.level.overlap = 20ms;
    const auto device = set_up(call(unit_leg("alice"), core_leg(), "device"));
    levels.level.keys = key_source::gateway;
    const auto gateway = set_up(call(unit_leg("alice"), core_leg(), "gateway"));
    levels.level.keys = key_source::both;
    const auto both = set_up(call(unit_leg("carol", "10.64.0.3"), core_leg(), "both"));
    ASSERT_TRUE(device != 0 && gateway != 0 && both != 0) << last_error;
    ASSERT_TRUE(now->until([&] {
        return std::ranges::all_of(std::array{device, gateway, both},
                                   [&](auto id) { return now->relay.info(id)->rekeys >= 10; });
    }));
    EXPECT_EQ(now->relay.info(device)->seeds_made, 0u);
    EXPECT_EQ(now->relay.info(gateway)->seeds_from_units, 0u);
    EXPECT_GE(now->relay.info(gateway)->seeds_made, 11u);
    EXPECT_EQ(now->relay.info(both)->seeds_made, now->relay.info(both)->seeds_from_units);
    for (const auto id : {device, gateway, both})
        EXPECT_EQ(now->relay.info(id)->rekey_failures, 0u);
}

TEST_F(seeds_test, Rim28_WrongLengthIsRefusedCountedAndReplacedWithoutLosingTheCall) {
    units.wrong_length = 1;
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    ASSERT_NE(id, 0u) << last_error;
    EXPECT_EQ(now->relay.count().unit_seeds_refused, 1u);
    EXPECT_EQ(now->relay.count().seeds_made, 1u);
    EXPECT_EQ(now->relay.count().seeds_from_units, 0u);
    EXPECT_EQ(units.opens.at(0).get<tlv::key_source>(), by_gateway) << "the unit must not use what it made";
    ASSERT_EQ(units.seeds.size(), 1u);
    EXPECT_EQ(dataplane.copy().at(flow(id, 0)).in.at(0),
              derived(units.seeds[0], 0xa11ce, id, direction::to_gateway, 0));
    EXPECT_EQ(now->relay.info(id)->legs[0].keys, key_source::gateway);
    EXPECT_EQ(now->relay.units_without_seeds(), std::vector<std::string>{"alice"});
    // Epochs go on; a unit that mends itself is asked for the next.
    ASSERT_TRUE(now->until([&] { return now->relay.info(id)->rekeys >= 2; }));
    EXPECT_EQ(units.sources.at(1), by_gateway);
    EXPECT_EQ(now->relay.info(id)->rekey_failures, 0u);
    units.wrong_length = 0;
    const auto before = now->relay.info(id)->rekeys;
    ASSERT_TRUE(now->until([&] { return now->relay.info(id)->rekeys >= before + 2; }));
    EXPECT_EQ(units.sources.back(), by_unit);
    EXPECT_TRUE(now->relay.units_without_seeds().empty());
}

TEST_F(seeds_test, Rim28_AnotherNumberOfSeedsThanAskedIsRefused) {
    levels.level.seed_is_key = true;
    const auto first = set_up(call(unit_leg("alice"), core_leg()));
    EXPECT_EQ(units.made.at({"alice", first, 0}).size(), 2u);
    EXPECT_EQ(now->relay.count().unit_seeds_refused, 0u);
    units.made[{"alice", first, 1}] = {bytes(28, 1), bytes(28, 2), bytes(28, 3)};
    ASSERT_TRUE(now->wait(now->relay.rekey(first)));
    EXPECT_EQ(now->relay.count().unit_seeds_refused, 1u);
}

TEST_F(seeds_test, Rim29_TheSameSeedAgainIsRefused) {
    levels.level.rekey = 60s;
    units.repeats = true;
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    for (unsigned n = 1; n <= 3; ++n) {
        ASSERT_TRUE(now->wait(now->relay.rekey(id)));
        EXPECT_EQ(now->relay.count().unit_seeds_refused, n);
        EXPECT_EQ(units.sources.back(), by_gateway);
    }
}

TEST_F(seeds_test, Rim28_UnitThatDoesNotKnowSeedMakeIsServedByTheGateway) {
    units.refusing.insert(exchange::seed_make);
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    ASSERT_NE(id, 0u) << last_error;
    EXPECT_EQ(now->relay.count().unit_seeds_missing, 1u);
    ASSERT_TRUE(now->until([&] { return now->relay.info(id)->rekeys >= 2; }));
    EXPECT_EQ(std::set(units.sources.begin(), units.sources.end()), std::set<std::uint8_t>{by_gateway});
    EXPECT_EQ(std::set(units.seeds.begin(), units.seeds.end()).size(), units.seeds.size());
}

TEST_F(seeds_test, Rim29_UnansweredSeedMakeIsAskedAgainThenTheGatewayStepsIn) {
    levels.level.rekey = 60s;
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    ASSERT_NE(id, 0u) << last_error;
    units.mute.insert(exchange::seed_make);
    EXPECT_FALSE(now->wait(now->relay.rekey(id))) << "it may still come: the old epoch stays";
    EXPECT_EQ(now->relay.info(id)->legs[0].epoch, 0u);
    EXPECT_EQ(now->relay.info(id)->rekey_failures, 1u);
    EXPECT_EQ(now->relay.count().seeds_made, 0u);
    ASSERT_TRUE(now->wait(now->relay.rekey(id)));
    EXPECT_EQ(log.count("seed_make alice e1"), 2u) << "the same epoch, for which the unit gives the same seed";
    EXPECT_EQ(now->relay.info(id)->legs[0].epoch, 1u);
    EXPECT_EQ(units.sources.back(), by_gateway);
    EXPECT_EQ(now->relay.count().unit_seeds_missing, 1u);
    units.mute.clear();
    ASSERT_TRUE(now->wait(now->relay.rekey(id)));
    EXPECT_EQ(units.sources.back(), by_unit);
}

TEST_F(seeds_test, Rim28_SilentAtTheStartCostsNoCall) {
    units.mute.insert(exchange::seed_make);
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    EXPECT_NE(id, 0u) << last_error;
    EXPECT_EQ(units.sources.at(0), by_gateway);
}

TEST_F(seeds_test, Rim29_UnansweredSeedIsOfferedAgainWithWhatTheUnitMade) {
    levels.level.keys = key_source::both;
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    units.mute.insert(exchange::seed);
    ASSERT_TRUE(now->until([&] { return log.count("seed alice e1") >= 2; }));
    EXPECT_EQ(log.count("seed_make alice e1"), 1u) << "its half is known";
    EXPECT_EQ(units.seeds.at(1), units.seeds.at(2));
    units.mute.clear();
    ASSERT_TRUE(now->until([&] { return now->relay.info(id)->rekeys >= 1; }));
    EXPECT_EQ(dataplane.copy().at(flow(id, 1)).out.at(1),
              derived(xored(made("alice", id, 1), units.seeds.at(1)), 0xa11ce, id, direction::to_unit, 1));
}

TEST_F(seeds_test, Rim29_NewControlPlaneGoesOnAskingTheUnit) {
    levels.level.rekey = 60s;
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    ASSERT_TRUE(now->wait(now->relay.rekey(id)));
    levels.level.keys = key_source::gateway; // reloaded meanwhile: the running call keeps its own
    restart();
    forbid_generator();
    ASSERT_TRUE(now->until([&] { return now->relay.ready(); }));
    now->relay.session_up(units.units["alice"]);
    ASSERT_TRUE(now->until([&] { return now->relay.info(id)->legs[0].epoch == 2; }));
    EXPECT_EQ(log.count("remove"), 0u);
    EXPECT_GE(log.find("seed_make alice e2"), 0);
    EXPECT_EQ(units.sources.back(), by_unit);
    EXPECT_EQ(generated, 0u);
    EXPECT_EQ(now->relay.info(id)->seeds_from_units, 3u) << "counted over the restart";
}

TEST_F(seeds_test, Rim29_DataPlaneThatLostItsFlowsGetsTheUnitsNextSeed) {
    levels.level.rekey = 60s;
    forbid_generator();
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    dataplane.stop();
    dataplane.forget_flows();
    dataplane.start();
    ASSERT_TRUE(now->until([&] { return now->relay.count().reinstalled == 1; }));
    EXPECT_EQ(dataplane.copy().at(flow(id, 0)).in.at(1),
              derived(made("alice", id, 1), 0xa11ce, id, direction::to_gateway, 1));
    EXPECT_EQ(units.opens.at(1).get<tlv::key_source>(), by_unit);
    EXPECT_EQ(generated, 0u);
}

TEST_F(seeds_test, Rim29_UnitThatForgotTheMediaMakesItsSeedAnew) {
    levels.level.rekey = 60s;
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    units.refusing.insert(exchange::seed);
    ASSERT_TRUE(now->wait(now->relay.rekey(id)));
    EXPECT_EQ(units.opens.size(), 2u);
    EXPECT_EQ(units.opens.at(1).get<tlv::epoch>(), 2u);
    EXPECT_GE(log.find("seed_make alice e2"), 0);
    EXPECT_EQ(now->relay.count().seeds_made, 0u);
}

TEST_F(seeds_test, Rim28_PhoneThatMovesKeepsTheUnitsSeed) {
    auto request = call(unit_leg("alice"), core_leg());
    const auto id = set_up(request);
    request.legs[0].remote_rtp = at("10.64.0.2", 4400);
    ASSERT_TRUE(now->update(id, request));
    ASSERT_EQ(units.opens.size(), 2u);
    EXPECT_EQ(units.opens[1].get<tlv::key_source>(), by_unit);
    EXPECT_FALSE(units.opens[1].has<tlv::seed>());
    EXPECT_EQ(log.count("seed_make"), 1u);
}

TEST_F(seeds_test, ClosedWhileTheUnitMakesItsSeed) {
    const auto request = call(unit_leg("alice"), core_leg());
    const auto opened = now->wait(now->relay.open(request));
    units.mute.insert(exchange::seed_make);
    std::optional<result<media_locals>> updated;
    now->start_update(opened->id, request, updated);
    ASSERT_TRUE(now->until([&] { return log.count("seed_make") == 1; }));
    now->wait(now->relay.close(opened->id, "cancel"));
    ASSERT_TRUE(now->until([&] { return updated.has_value(); }));
    EXPECT_FALSE(*updated);
    EXPECT_TRUE(dataplane.copy().empty());
    EXPECT_TRUE(store.rows.empty());
    EXPECT_EQ(now->relay.count().seeds_made, 0u);
}

} // namespace
} // namespace tandem::media
