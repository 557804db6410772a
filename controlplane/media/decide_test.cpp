// SPDX-License-Identifier: Apache-2.0
// Which level a call gets and keeps: asked of the units at the offer, decided at the answer, kept over everything.
#include "controlplane/media/fakes.hpp"

namespace tandem::media {
namespace {

using namespace std::chrono_literals;
using policy::key_source;
using protocol::exchange;
using protocol::tlv;

struct decide_test : stand {
    decide_test() {
        levels.others["high"] = {
            "high", api::suite::aead_aes_256_gcm, 32, 5s, 1s, false, key_source::gateway, policy::path_choice::wlan};
        units.advices["alice"] = {"alice", "high", "", "bob: colleagues", {}};
    }
    std::vector<std::string> peers(const protocol::message& asked) {
        std::vector<std::string> out;
        for (std::size_t n = 0; n < asked.count<tlv::peer>(); ++n)
            out.emplace_back(*asked.get<tlv::peer>(n));
        return out;
    }
    static media_request named(media_request request) {
        request.callee = "+46701234567";
        request.callee_domain = "example.com";
        request.caller_domain = "tandem.example";
        return request;
    }
};

TEST_F(decide_test, WhatPolicyDeniesLeavesARecordAndNothingElse) {
    const auto request = named(call(unit_leg("alice"), core_leg()));
    EXPECT_FALSE(now->relay.denies(request));
    const auto ports = now->relay.free_ports();
    levels.denied = "left the company";
    const auto no = now->relay.denies(request);
    ASSERT_TRUE(no);
    EXPECT_EQ(no->text, "Denied by policy: left the company");
    const auto& asked = levels.asked_whether.back();
    EXPECT_EQ(asked.caller.id, "alice");
    EXPECT_EQ(asked.callee.domain, "example.com");
    EXPECT_TRUE(now->relay.all().empty());
    EXPECT_TRUE(store.rows.empty());
    EXPECT_EQ(now->relay.free_ports(), ports);
    EXPECT_EQ(dataplane.copy().size(), 0u);
    ASSERT_EQ(store.records.size(), 1u);
    const auto& record = store.records[0];
    EXPECT_EQ(record.cause, no->text);
    EXPECT_EQ(record.level.name, "deny");
    EXPECT_EQ(record.callee, "+46701234567");
    EXPECT_EQ(record.why.size(), 1u);
    EXPECT_EQ(record.legs[0].unit, "alice");
    EXPECT_FALSE(record.answered.was());
}

TEST_F(decide_test, ACallThatRunsStaysAsItIsWhenItWouldBeDeniedNow) {
    const auto request = named(call(unit_leg("alice"), core_leg()));
    const auto id = set_up(request);
    ASSERT_NE(id, 0u);
    const auto flows = dataplane.copy().size();
    levels.denied = "left the company";
    EXPECT_TRUE(now->relay.denies(request));
    EXPECT_TRUE(store.records.empty()) << "the call has its own in the end";
    EXPECT_EQ(now->relay.info(id)->level.name, "high");
    auto later = request; // denied between its offer and its answer, or a callee whom only the answer names
    later.call_id = "c2";
    levels.denied.clear();
    const auto opened = now->wait(now->relay.open(later));
    ASSERT_TRUE(opened);
    levels.denied = "left the company";
    const auto refused = now->update(opened->id, later);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().text, "Denied by policy: left the company");
    EXPECT_EQ(dataplane.copy().size(), flows) << "the first call's alone";
    EXPECT_EQ(now->relay.info(opened->id)->level.name, "test") << "as at the offer";
    later.call_id = "c3";
    EXPECT_FALSE(now->wait(now->relay.open(later)));
}

TEST_F(decide_test, Rim23_ContactsOfTheUnitDecideAtTheAnswer) {
    const auto request = named(call(unit_leg("alice"), core_leg()));
    const auto opened = now->wait(now->relay.open(request));
    ASSERT_TRUE(opened);
    EXPECT_EQ(now->relay.info(opened->id)->level.name, "test") << "what the offer alone gives";
    ASSERT_TRUE(now->until([&] { return log.count("contact alice") == 1; })) << "asked while the phone rings";
    ASSERT_TRUE(now->update(opened->id, request));
    const auto info = *now->relay.info(opened->id);
    EXPECT_EQ(info.level.name, "high");
    EXPECT_EQ(info.decided_by, "contacts of alice");
    ASSERT_EQ(info.why.size(), 1u);
    EXPECT_EQ(info.why[0].text, "bob: colleagues");
    EXPECT_EQ(info.level.seed_length(), 32u);
    EXPECT_EQ(info.interval_s(), 5);
    EXPECT_EQ(info.level.path, policy::path_choice::wlan);
    EXPECT_EQ(info.legs[0].suite, "AEAD_AES_256_GCM");
    EXPECT_EQ(units.seeds.at(0).size(), 32u);
    const auto& open = units.opens.at(0);
    EXPECT_EQ(open.get<tlv::suite>(), static_cast<std::uint16_t>(api::suite::aead_aes_256_gcm));
    EXPECT_EQ(open.get<tlv::level>(), "high");
    EXPECT_EQ(open.get<tlv::path>(), 1);
    EXPECT_EQ(peers(open), (std::vector<std::string>{"+46701234567", "sip:+46701234567@example.com"}));
    EXPECT_EQ(peers(units.contacts.at(0)), peers(open));
    EXPECT_EQ(dataplane.copy().at(flow(opened->id, 0)).config.in.suite, api::suite::aead_aes_256_gcm);
    EXPECT_EQ(levels.asked.size(), 1u) << "counted once";
    now->wait(now->relay.close(opened->id, "bye"));
    const auto& record = store.records.at(0);
    EXPECT_EQ(record.level.name, "high");
    EXPECT_EQ(record.decided_by, "contacts of alice");
    EXPECT_EQ(record.why, info.why);
    EXPECT_EQ(record.level.seed_length(), 32u);
    EXPECT_EQ(record.interval_s(), 5);
}

TEST_F(decide_test, Rim20_BothUnitsAreAskedAboutEachOther) {
    units.advices["carol"] = {"carol", "high", "elevated", "", key_source::both};
    auto request = call(unit_leg("alice"), unit_leg("carol", "10.64.0.3"));
    request.callee = "carol";
    const auto id = set_up(request);
    ASSERT_NE(id, 0u) << last_error;
    ASSERT_EQ(units.contacts.size(), 2u);
    EXPECT_EQ(peers(units.contacts[0]), std::vector<std::string>{"carol"});
    EXPECT_EQ(peers(units.contacts[1]), std::vector<std::string>{"alice"});
    const auto& devices = levels.asked.at(0).devices;
    ASSERT_EQ(devices.size(), 2u);
    EXPECT_EQ(devices[0].unit, "alice");
    EXPECT_EQ(devices[1].unit, "carol");
    EXPECT_EQ(devices[1].profile_level, "elevated");
    EXPECT_EQ(devices[1].keys, key_source::both);
    EXPECT_EQ(now->relay.count().contacts_answered, 2u);
}

TEST_F(decide_test, Rim23_CalleeThatMadeTheOfferIsAskedAboutTheCaller) {
    auto request = call(unit_leg("alice"), core_leg());
    request.caller = "bob"; // his INVITE carried no SDP
    request.callee = "alice";
    ASSERT_NE(set_up(request), 0u) << last_error;
    EXPECT_EQ(peers(units.contacts.at(0)), std::vector<std::string>{"bob"});
}

TEST_F(decide_test, Rim16_WishAndDialledGoIntoTheQuestion) {
    units.advices.clear();
    auto request = named(call(unit_leg("alice"), core_leg()));
    request.wish = "high";
    request.dialled = "*77+46701234567";
    const auto opened = now->wait(now->relay.open(request));
    EXPECT_EQ(now->relay.info(opened->id)->level.name, "high") << "already at the offer";
    ASSERT_TRUE(now->update(opened->id, request));
    const auto& asked = levels.asked.at(0);
    EXPECT_EQ(asked.wish, "high");
    EXPECT_EQ(asked.dialled, "*77+46701234567");
    EXPECT_EQ(asked.caller.domain, "tandem.example");
    EXPECT_EQ(asked.callee.id, "+46701234567");
    EXPECT_EQ(now->relay.info(opened->id)->decided_by, "caller's wish");
}

TEST_F(decide_test, Rim23_OfferIsAnsweredAtOnceAndASilentUnitGivesNoAdvice) {
    options.unit_timeout = 300ms;
    restart();
    units.mute.insert(exchange::contact);
    const auto request = call(unit_leg("alice"), core_leg());
    const auto start = std::chrono::steady_clock::now();
    const auto opened = now->wait(now->relay.open(request));
    const auto offered = std::chrono::steady_clock::now() - start;
    ASSERT_TRUE(opened);
    ASSERT_TRUE(now->update(opened->id, request));
    const auto answered = std::chrono::steady_clock::now() - start;
    EXPECT_LT(offered, answered) << "the offer does not wait for the unit, the answer does";
    EXPECT_GE(answered, 290ms);
    EXPECT_EQ(now->relay.info(opened->id)->level.name, "test");
    EXPECT_EQ(now->relay.count().contacts_asked, 1u);
    EXPECT_EQ(now->relay.count().contacts_answered, 0u);
}

TEST_F(decide_test, Rim23_UnitThatRefusesContactCostsNothing) {
    options.unit_timeout = 60s; // who waited for it would not pass
    restart();
    units.refusing.insert(exchange::contact);
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    ASSERT_NE(id, 0u) << last_error;
    EXPECT_EQ(now->relay.info(id)->level.name, "test");
}

TEST_F(decide_test, Rim15_RunningCallKeepsItsValuesOverReloadRestartAndReinstall) {
    units.advices.clear();
    const auto id = set_up(call(unit_leg("alice"), core_leg(), "old"));
    levels.level = {"test", api::suite::aes_cm_128_hmac_sha1_80, 32, 5s, 1s}; // reloaded
    const auto fresh = set_up(call(unit_leg("alice"), core_leg(), "new"));
    const auto check = [&] {
        EXPECT_EQ(now->relay.info(id)->level.seed_bytes, 16u);
        EXPECT_EQ(now->relay.info(id)->interval_s(), 0.3);
        EXPECT_EQ(now->relay.info(id)->legs[0].suite, "AEAD_AES_128_GCM");
        EXPECT_EQ(now->relay.info(fresh)->level.seed_bytes, 32u);
        EXPECT_EQ(now->relay.info(fresh)->interval_s(), 5);
        EXPECT_EQ(now->relay.info(fresh)->legs[0].suite, "AES_CM_128_HMAC_SHA1_80");
    };
    check();
    restart();
    ASSERT_TRUE(now->until([&] { return now->relay.ready(); }));
    check();
    EXPECT_EQ(now->relay.count().taken_over, 2u);
    ASSERT_TRUE(now->until([&] { return now->relay.info(id)->rekeys >= 2; })) << "at its own interval";
    EXPECT_EQ(units.seeds.back().size(), 16u);
    dataplane.stop();
    dataplane.forget_flows();
    dataplane.start();
    ASSERT_TRUE(now->until([&] { return now->relay.count().reinstalled == 2; }));
    check();
    EXPECT_EQ(now->relay.info(id)->why.size(), 1u);
}

TEST_F(decide_test, Rim15_RowOfAnEarlierProgramGetsTheLevelOfItsName) {
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    policy::level name_alone;
    name_alone.name = "high";
    name_alone.seed_bytes = 0;
    store.rows.at(id).level = name_alone;
    levels.level = levels.others.at("high");
    restart();
    EXPECT_EQ(now->relay.info(id)->interval_s(), 5);
    EXPECT_EQ(now->relay.info(id)->level.seed_bytes, 32u);
}

TEST_F(decide_test, Rim15_HoldAndMoveDecideNothingAnew) {
    auto request = call(unit_leg("alice"), core_leg());
    const auto id = set_up(request);
    units.advices.clear();
    request.forward = {false, false};
    request.wish = "test";
    request.legs[1].remote_rtp = at("198.51.100.78", 7200);
    ASSERT_TRUE(now->update(id, request));
    EXPECT_EQ(now->relay.info(id)->level.name, "high");
    EXPECT_EQ(levels.asked.size(), 1u);
    EXPECT_EQ(log.count("contact"), 1u);
}

TEST_F(decide_test, Rim15_VideoThatJoinsGetsTheCallsLevel) {
    auto request = call(unit_leg("alice"), core_leg());
    const auto audio = set_up(request);
    units.advices.clear();
    levels.others.clear(); // reloaded
    request.index = 1;
    request.kind = "video";
    const auto video = set_up(request);
    ASSERT_TRUE(audio != 0 && video != 0 && audio != video) << last_error;
    EXPECT_EQ(now->relay.info(video)->level.name, "high");
    EXPECT_EQ(now->relay.info(video)->decided_by, "contacts of alice");
    EXPECT_EQ(log.count("contact"), 1u) << "one question a call";
    EXPECT_EQ(levels.asked.size(), 1u);
}

TEST_F(decide_test, CalleeThatTurnsOutToBeAnotherIsAskedAbout) {
    auto request = call(unit_leg("alice"), core_leg());
    const auto opened = now->wait(now->relay.open(request));
    request.callee = "dave";
    ASSERT_TRUE(now->update(opened->id, request));
    ASSERT_EQ(units.contacts.size(), 2u);
    EXPECT_EQ(peers(units.contacts[1]), std::vector<std::string>{"dave"});
    EXPECT_EQ(levels.asked.at(0).callee.id, "dave");
}

TEST_F(decide_test, CallWithoutAUnitIsNotDecided) {
    const auto id = set_up(call(core_leg(), core_leg()));
    ASSERT_NE(id, 0u) << last_error;
    EXPECT_TRUE(levels.asked.empty());
    EXPECT_EQ(log.count("contact"), 0u);
    EXPECT_EQ(now->relay.info(id)->level.name, "");
    EXPECT_EQ(now->relay.info(id)->decided_by, "");
    now->wait(now->relay.close(id, "bye"));
    EXPECT_EQ(store.records.at(0).level.name, "");
}

TEST_F(decide_test, ReportsOfTheEndsBecomeJitterInTime) {
    auto request = call(unit_leg("alice"), core_leg());
    request.clock_rate = 16000;
    const auto id = set_up(request);
    auto& seen = dataplane.stats(flow(id, 1, 1)); // the core phone's RTCP
    seen.reports = 4;
    seen.reported_jitter = 80;
    seen.reported_jitter_max = 160;
    seen.reported_loss = (5U << 24) | 7U;
    const auto heard = now->relay.info(id)->legs[1].received;
    EXPECT_EQ(heard.reports, 4u);
    EXPECT_EQ(heard.reported_lost, 7u);
    EXPECT_DOUBLE_EQ(heard.jitter_ms, 5);
    EXPECT_DOUBLE_EQ(heard.max_jitter_ms, 10);
    now->wait(now->relay.close(id, "bye"));
    EXPECT_DOUBLE_EQ(store.records.at(0).legs[1].max_jitter_ms, 10);
    EXPECT_EQ(store.records.at(0).legs[1].reports, 4u);
    EXPECT_EQ(store.records.at(0).legs[0].reports, 0u);
}

} // namespace
} // namespace tandem::media
