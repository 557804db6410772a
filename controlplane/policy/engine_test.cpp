// SPDX-License-Identifier: Apache-2.0
// Decisions one by one: who decides, what is refused and counted, what a store in trouble means, hot reload.
#include "controlplane/policy/engine.hpp"

#include <gtest/gtest.h>

namespace tandem::policy {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

const std::chrono::system_clock::time_point now{hours(500'000)};

struct Engine : testing::Test {
    config settings;
    std::unique_ptr<engine> made;

    engine& it() {
        if (!made) {
            made = std::make_unique<engine>(settings, [] { return now; });
            made->rules_replaced({});
            made->profiles_replaced({});
        }
        return *made;
    }
    static question call(std::string caller = "alice", std::string callee = "bob") {
        return {{std::move(caller), ""}, {std::move(callee), ""}, "", "", {}};
    }
    void listed(const char* address, const char* level, std::optional<key_source> keys = {},
                std::optional<path_choice> path = {}) {
        const rule_edit edits[] = {{{address, level, keys, path, ""}, false}};
        it().rules_changed(edits);
    }
    void history(std::vector<int> lengths_s, int failures = 0) {
        protocol::profile of{"alice", "bob", {}, 0};
        for (const int length : lengths_s)
            of.add({now - hours(1), seconds(length), false});
        for (; failures > 0; --failures)
            of.add({now - hours(1), {}, true});
        it().profile_changed(of);
    }
    // "level by rule"
    std::string said(const question& q) {
        const auto got = it().decide(q);
        EXPECT_EQ(std::count_if(got.steps.begin(), got.steps.end(), [](const step& s) { return s.decided; }), 1);
        for (const auto& s : got.steps)
            if (s.decided) {
                EXPECT_EQ(s.rule, got.decided_by);
                EXPECT_EQ(s.level, got.chosen.name);
            }
        EXPECT_EQ(it().explain(q).steps, got.steps);
        return got.chosen.name + " by " + got.decided_by;
    }
    // What the rule said in the explanation.
    step asked(const question& q, const std::string& rule) {
        for (const auto& s : it().explain(q).steps)
            if (s.rule == rule)
                return s;
        return {"not asked", "", "", false};
    }
};
using Rim15 = Engine;
using Rim16 = Engine;
using Rim18 = Engine;
using Rim20 = Engine;
using Rim21 = Engine;
using Rim22 = Engine;
using Rim23 = Engine;
using Rim26 = Engine;
using Rim28 = Engine;
using Rim33 = Engine;
using Rim36 = Engine;
using Policy = Engine;

TEST_F(Policy, ARowThatDeniesHasTheLastWordAndItsCommentIsTheReason) {
    EXPECT_FALSE(it().denies(call()));
    listed("alice", "high");
    const rule_edit edits[] = {{{"bob", "deny", {}, {}, "left the company"}, false}};
    it().rules_changed(edits);
    settings.floor = "high";
    it().reconfigure(settings);
    for (const auto& q : {call("alice", "bob"), call("bob", "alice")}) {
        const auto no = it().denies(q);
        ASSERT_TRUE(no);
        EXPECT_EQ(no->denied, "left the company");
        EXPECT_EQ(no->steps, it().explain(q).steps) << "nothing else was asked, the floor neither";
        EXPECT_EQ(no->steps.size(), 2u);
    }
    EXPECT_EQ(said(call("alice", "bob")), "deny by security database: callee");
    EXPECT_EQ(it().count().denied, 3u);
    EXPECT_EQ(it().count().decisions, 3u);
    EXPECT_EQ(it().count().raised_to_floor, 0u);
    EXPECT_FALSE(it().denies(call("alice", "eve"))) << "not counted";
    EXPECT_EQ(it().count().decisions, 3u);
    auto by_unit = call("a name", "eve");
    by_unit.caller.unit = "bob";
    EXPECT_TRUE(it().denies(by_unit)) << "whatever name it says";
    auto wishes = call("alice", "eve");
    wishes.wish = "deny";
    wishes.devices = {{"alice", "deny", "", "", {}}};
    EXPECT_EQ(said(wishes), "high by security database: caller") << "nobody else can deny";
    listed("bob", "deny");
    EXPECT_EQ(it().denies(call())->denied, "bob is denied") << "a row without a comment";
    const rule_edit away[] = {{{"bob", "", {}, {}, ""}, true}};
    it().rules_changed(away);
    EXPECT_FALSE(it().denies(call()));
}

TEST_F(Rim20, EitherPartyDecidesAndTheHigherWins) {
    listed("alice", "elevated");
    EXPECT_EQ(said(call("alice", "eve")), "elevated by security database: caller");
    EXPECT_EQ(said(call("eve", "alice")), "elevated by security database: callee");
    listed("bob", "high");
    EXPECT_EQ(said(call()), "high by security database: callee");
    listed("alice", "high");
    EXPECT_EQ(said(call()), "high by security database: caller"); // of equals the first
    listed("alice", "basic");
    listed("bob", "basic");
    EXPECT_EQ(said(call()), "basic by security database: caller"); // policy may go below the default
}

TEST_F(Rim21, UncategorisedAddressesGetTheDefault) {
    listed("carol", "high");
    EXPECT_EQ(said(call()), "standard by default");
    EXPECT_EQ(asked(call(), "security database: caller").text, "\"alice\" is not listed");
    EXPECT_EQ(it().count().decisions_default, 1u);
}

TEST_F(Rim21, AStoreInTroubleLosesNoCallAndSaysSo) {
    engine fresh(settings);
    EXPECT_EQ(fresh.decide(call()).decided_by, "default");
    fresh.store_trouble("the database is gone");
    const auto blind = fresh.decide(call());
    EXPECT_EQ(blind.chosen.name, "standard");
    EXPECT_EQ(blind.steps.at(0).text, "not read yet: the database is gone");
    EXPECT_EQ(fresh.count().without_store, 2u);
    fresh.rules_replaced({{"alice", "high", {}, {}, "vip"}});
    fresh.store_trouble("the database is gone again"); // what was told stays in force
    const auto known = fresh.decide(call());
    EXPECT_EQ(known.chosen.name, "high");
    EXPECT_EQ(known.steps.at(0).text, "alice: vip; as it was before the store's trouble: the database is gone again");
    fresh.store_trouble("");
    EXPECT_EQ(fresh.decide(call()).steps.at(0).text, "alice: vip");
    EXPECT_EQ(fresh.count().store_troubles, 1u);
}

TEST_F(Rim22, AListedNumberForcesItsSuite) {
    listed("+4670", "high");
    EXPECT_EQ(it().decide(call("eve", "+46701234567")).chosen.suite, api::suite::aead_aes_256_gcm);
    EXPECT_EQ(it().decide(call("eve", "+46801234567")).chosen.suite, api::suite::aead_aes_128_gcm);
}

TEST_F(Rim18, ThreeCalleesOfThreeClassesGetThreeSetsOfValues) {
    listed("+4670", "basic");
    listed("+4671", "elevated");
    listed("@bank.example", "high");
    auto to_bank = call("alice", "teller");
    to_bank.callee.domain = "bank.example";
    EXPECT_EQ(it().decide(call("alice", "+46701")).chosen.rekey, seconds(120));
    EXPECT_EQ(it().decide(call("alice", "+46711")).chosen.rekey, seconds(15));
    EXPECT_EQ(it().decide(to_bank).chosen.rekey, seconds(5));
}

TEST_F(Rim16, TheCallersWishRaisesAndNeverLowers) {
    settings.prefixes = {{"*7", "elevated"}, {"*77", "high"}, {"*1", "basic"}};
    auto q = call();
    q.wish = "high";
    EXPECT_EQ(said(q), "high by caller's wish");
    q.wish = "standard";
    EXPECT_EQ(said(q), "standard by caller's wish");
    EXPECT_EQ(it().count().wish_honoured, 1u);
    q.wish = "basic"; // below the default
    EXPECT_EQ(said(q), "standard by default");
    EXPECT_EQ(it().count().wish_below, 1u);
    EXPECT_EQ(asked(q, "caller's wish").text,
              "asked for with the call; refused: policy gives standard, which a wish does not lower");
    q.wish = "top";
    EXPECT_EQ(said(q), "standard by default");
    EXPECT_EQ(it().count().wish_unknown, 1u);
    q.dialled = "*79012"; // the longest prefix is *7
    EXPECT_EQ(said(q), "elevated by caller's wish");
    EXPECT_EQ(it().count().wish_unknown, 2u);
    q.dialled = "*7790";
    q.wish = "elevated"; // the higher of both
    EXPECT_EQ(said(q), "high by caller's wish");
    EXPECT_EQ(asked(q, "caller's wish").text, "dialled *77");
    q.dialled.clear();
    listed("bob", "high");
    EXPECT_EQ(said(q), "high by security database: callee");
    q.wish = "high"; // says the same as policy does: policy stands
    EXPECT_EQ(said(q), "high by security database: callee");
    listed("bob", "basic");
    q.wish = "standard"; // raises what a rule put below the default
    EXPECT_EQ(said(q), "standard by caller's wish");
}

TEST_F(Policy, TheOperatorsBoundsHaveTheLastWord) {
    settings.floor = "standard";
    settings.ceiling = "elevated";
    listed("alice", "basic");
    EXPECT_EQ(said(call()), "standard by operator's floor");
    auto q = call("eve");
    EXPECT_EQ(said(q), "standard by default");
    q.wish = "high";
    EXPECT_EQ(said(q), "elevated by operator's ceiling");
    EXPECT_EQ(asked(q, "operator's ceiling").text, "instead of high");
    EXPECT_EQ(asked(q, "operator's floor").text, "kept");
    EXPECT_EQ(it().count().raised_to_floor, 1u);
    EXPECT_EQ(it().count().lowered_to_ceiling, 1u);
}

TEST_F(Rim21, AUnitIsAskedBesideTheNameThatItSays) {
    listed("pbx", "elevated");
    listed("+4670", "high");
    auto q = call("+46801", "bob");
    q.caller.unit = "pbx";
    EXPECT_EQ(said(q), "elevated by security database: caller's unit");
    q.caller.id = "+46701";
    EXPECT_EQ(said(q), "high by security database: caller");
    EXPECT_EQ(asked(q, "security database: caller's unit").level, "elevated");
    q.caller.id = "pbx";
    const auto steps = it().decide(q).steps;
    EXPECT_TRUE(std::ranges::none_of(steps, [](const auto& s) { return s.rule == "security database: caller's unit"; }))
        << "once";
}

TEST_F(Rim23, AUnitsContactsAndHistoryAreHeardBesideTheDatabase) {
    auto q = call();
    q.devices = {{"alice", "high", "", "contact bob", {}}, {"bob", "", "elevated", "5 calls", {}}};
    EXPECT_EQ(said(q), "high by contacts of alice");
    EXPECT_EQ(asked(q, "profile of bob").level, "elevated");
    q.devices[0].contact_level.clear();
    EXPECT_EQ(said(q), "elevated by profile of bob");
    listed("bob", "elevated");
    EXPECT_EQ(said(q), "elevated by security database: callee"); // of equals the database
    q.devices = {{"alice", "gold", "silver", "", {}}};
    EXPECT_EQ(said(q), "elevated by security database: callee");
    EXPECT_EQ(it().count().contact_unknown, 1u);
    EXPECT_EQ(it().count().profile_unknown, 1u);
    EXPECT_EQ(asked(q, "contacts of alice").text, "\"gold\" is no level: skipped");
    EXPECT_EQ(asked(q, "contacts of alice").level, "");
}

TEST_F(Rim26, AFifteenMinuteHistoryGivesMoreThanAFiveMinuteOne) {
    EXPECT_EQ(said(call()), "standard by default");
    EXPECT_EQ(asked(call(), "call profile: duration").text, "no calls of these two are known");
    history({300, 301, 302});
    EXPECT_EQ(said(call()), "elevated by call profile: duration");
    history({900, 901, 902});
    EXPECT_EQ(said(call("bob", "alice")), "high by call profile: duration");
    EXPECT_EQ(asked(call(), "call profile: duration").text, "median of 3 calls: 901 s, at least 900 s");
    history({5, 6, 7});
    EXPECT_EQ(said(call()), "standard by default");
    history({}); // forgotten
    EXPECT_EQ(it().profiles(), 0u);
}

TEST_F(Rim36, FailuresAloneChangeTheLevel) {
    settings.duration.clear();
    settings.failures = {{2, "high"}};
    history({900, 900, 900}, 1);
    EXPECT_EQ(said(call()), "standard by default");
    history({1}, 2);
    EXPECT_EQ(said(call()), "high by call profile: failures");
    EXPECT_EQ(asked(call(), "call profile: duration").rule, "not asked");
}

TEST_F(Rim28, WhoMakesTheSeeds) {
    settings.units_may_make_keys = {"alice"};
    auto q = call();
    EXPECT_EQ(it().decide(q).chosen.keys, key_source::gateway);
    q.devices = {{"alice", "", "", "", key_source::unit}};
    EXPECT_EQ(it().decide(q).chosen.keys, key_source::unit);
    EXPECT_EQ(asked(q, "key source").text, "device, by wish of alice");
    q.devices = {{"bob", "", "", "", key_source::unit}}; // has no right to it
    EXPECT_EQ(it().decide(q).chosen.keys, key_source::gateway);
    EXPECT_EQ(it().count().keygen_not_permitted, 1u);
    EXPECT_EQ(asked(q, "key source").text, "gateway, by level standard; refused: bob wishes device and may not");
    listed("bob", "standard", key_source::gateway);
    q.devices = {{"alice", "", "", "", key_source::both}};
    EXPECT_EQ(it().decide(q).chosen.keys, key_source::gateway); // a rule's word stands above the wish
    listed("alice", "standard", key_source::both);
    EXPECT_EQ(it().decide(q).chosen.keys, key_source::both); // of two rules the stronger
    EXPECT_EQ(it().count().keygen_not_permitted, 1u);
}

TEST_F(Rim33, WhichPathIsNamed) {
    auto row = *settings.levels.find("standard");
    row.path = path_choice::wwan;
    settings.levels.set(row);
    EXPECT_EQ(it().decide(call()).chosen.path, path_choice::wwan);
    listed("alice", "standard", {}, path_choice::either);
    EXPECT_EQ(it().decide(call()).chosen.path, path_choice::either);
    listed("bob", "standard", {}, path_choice::wlan);
    EXPECT_EQ(it().decide(call()).chosen.path, path_choice::wlan); // a named one over either
    listed("alice", "standard", {}, path_choice::wwan);
    EXPECT_EQ(it().decide(call()).chosen.path, path_choice::wwan); // the caller's first
    EXPECT_EQ(asked(call(), "path").text, "wwan, by security database: caller");
}

TEST_F(Rim15, NewCallsTakeTheNewValuesAndRunningOnesKeepTheirs) {
    listed("alice", "high");
    const auto running = it().decide(call());
    auto fresh = settings;
    auto row = *fresh.levels.find("high");
    row.rekey = seconds(3);
    row.seed_bytes = 64;
    fresh.levels.set(row);
    fresh.duration = {{seconds(1), "high"}};
    history({2, 2, 2});
    it().reconfigure(fresh);
    EXPECT_EQ(it().decide(call()).chosen.rekey, seconds(3));
    EXPECT_EQ(it().decide(call()).chosen.seed_bytes, 64u);
    EXPECT_EQ(asked(call(), "call profile: duration").level, "high");
    EXPECT_EQ(running.chosen.rekey, seconds(5));
    EXPECT_EQ(it().count().reloads, 1u);
}

TEST_F(Policy, WhatIsOddInTheDatabaseIsSkippedAndCounted) {
    it().rules_replaced({{"alice", "gone", key_source::unit, {}, ""}, {"a b", "high", {}, {}, ""}});
    const auto got = it().decide(call());
    EXPECT_EQ(got.decided_by, "default");
    EXPECT_EQ(got.chosen.keys, key_source::gateway); // nothing of the row counts
    EXPECT_EQ(got.steps.at(0).text, "\"gone\" is no level: skipped; so says alice");
    EXPECT_EQ(it().count().rule_level_unknown, 1u);
    EXPECT_EQ(it().count().rule_bad_address, 1u);
    EXPECT_EQ(it().decide(call("070-12", "bob")).decided_by, "default");
    EXPECT_EQ(it().count().bad_party, 1u);
    static_cast<void>(it().explain(call("070-12", "bob"))); // for people: not counted
    EXPECT_EQ(it().count().bad_party, 1u);
    EXPECT_EQ(it().count().decisions, 2u);
}

} // namespace
} // namespace tandem::policy
