// SPDX-License-Identifier: Apache-2.0
// policy::store over SQLite: rules changed by this program and by others, the audit, profiles that learn of every call
// (RIM-19, RIM-25, RIM-27, RIM-36).
#include <map>

#include "controlplane/store/local/store_fixture.hpp"

namespace tandem::store {
namespace {

struct heard final : policy::store::listener {
    void rules_replaced(std::vector<policy::rule> all) override {
        rules.clear();
        ++replaced;
        for (auto& rule : all)
            rules[rule.address] = rule;
    }
    void rules_changed(std::span<const policy::rule_edit> edits) override {
        changes += edits.size();
        for (const auto& edit : edits)
            if (edit.removed)
                rules.erase(edit.row.address);
            else
                rules[edit.row.address] = edit.row;
    }
    void profiles_replaced(std::vector<protocol::profile> all) override {
        profiles.clear();
        for (auto& one : all)
            profiles[{one.a, one.b}] = one;
    }
    void profile_changed(const protocol::profile& one) override { profiles[{one.a, one.b}] = one; }
    void store_trouble(const std::string& sentence) override { trouble = sentence; }

    std::map<std::string, policy::rule> rules;
    std::map<std::pair<std::string, std::string>, protocol::profile> profiles;
    std::size_t replaced = 0, changes = 0;
    std::string trouble;
};

struct rules_test : calls_fixture {
    rules_test() { begin(); }
    ~rules_test() override { store.reset(); }
    void begin() {
        store.reset();
        open();
        store = make_rule_store(io, *db);
        ears = {};
        store->start(ears);
    }
    auto apply(std::vector<policy::rule_edit> edits, std::string who = "root (uid 0) by tandemctl") {
        return wait(store->apply(std::move(edits), std::move(who)));
    }
    static policy::rule_edit set(std::string address, std::string level = "high") {
        return {{std::move(address), std::move(level), {}, {}, ""}, false};
    }
    bool soon(const std::function<bool()>& holds) {
        io.restart();
        for (int n = 0; n < 100 && !holds(); ++n)
            io.run_for(50ms);
        return holds();
    }
    std::unique_ptr<policy::store> store;
    heard ears;
};

TEST_F(rules_test, SetAndUnsetAreHeardKeptAndAudited) {
    EXPECT_EQ(ears.replaced, 1u);
    const policy::rule full{"+4670", "high", policy::key_source::unit, policy::path_choice::wlan, "the board's"};
    ASSERT_TRUE(apply({{full, false}, set("sip:alice@example.com", "basic"), set("@example.com"), set("bob")}));
    EXPECT_EQ(ears.rules.size(), 4u) << "heard when it returns";
    EXPECT_EQ(ears.rules["+4670"], full);
    ASSERT_TRUE(apply({{{"bob", "", {}, {}, ""}, true}, set("+4670", "basic")}, "gw-2"));
    EXPECT_EQ(ears.rules.size(), 3u);
    EXPECT_EQ(ears.changes, 6u);
    begin();
    EXPECT_EQ(ears.rules.size(), 3u);
    EXPECT_EQ(ears.rules["+4670"].level, "basic");
    EXPECT_FALSE(ears.rules["+4670"].keys);
    const auto log = wait(store->history(3));
    ASSERT_TRUE(log);
    ASSERT_EQ(log->size(), 3u);
    EXPECT_EQ((*log)[0].edit.row.address, "bob");
    EXPECT_EQ((*log)[0].who, "root (uid 0) by tandemctl");
    EXPECT_EQ((*log)[1].number, (*log)[0].number + 1) << "oldest first";
    EXPECT_TRUE((*log)[1].edit.removed);
    EXPECT_EQ((*log)[2].who, "gw-2");
    EXPECT_LT(std::chrono::abs(std::chrono::system_clock::now() - (*log)[2].when), 10min);
}

TEST_F(rules_test, Rim19_ChangesByAnotherProgramAreHeardOnlyTheRowsThatChanged) {
    std::vector<policy::rule_edit> many;
    for (int n = 0; n < 1000; ++n)
        many.push_back(set("+4670" + std::to_string(1000 + n)));
    ASSERT_TRUE(apply(std::move(many)));
    ears.changes = 0;
    by_another("INSERT INTO rule(address, level) VALUES('+4680', 'elevated')");
    ASSERT_TRUE(soon([&] { return ears.rules.contains("+4680"); }));
    EXPECT_EQ(ears.rules["+4680"].level, "elevated");
    by_another("UPDATE rule SET level = 'basic', keygen = 'device' WHERE address = '+4680';"
               "UPDATE rule SET level = level WHERE address LIKE '+4670%';"
               "DELETE FROM rule WHERE address = '+46701000'");
    ASSERT_TRUE(soon([&] { return !ears.rules.contains("+46701000"); }));
    EXPECT_EQ(ears.rules["+4680"].level, "basic");
    EXPECT_EQ(ears.rules["+4680"].keys, policy::key_source::unit);
    by_another("UPDATE rule SET address = '+4690' WHERE address = '+4680'");
    ASSERT_TRUE(soon([&] { return ears.rules.contains("+4690"); }));
    EXPECT_FALSE(ears.rules.contains("+4680"));
    EXPECT_EQ(ears.changes, 5u);
    EXPECT_EQ(ears.replaced, 1u);
    const auto log = wait(store->history(1));
    EXPECT_EQ(log->at(0).who, "directly");
    ASSERT_TRUE(apply({set("carol")}));
    EXPECT_EQ(wait(store->history(1))->at(0).who, "root (uid 0) by tandemctl");
    by_another("DELETE FROM rule WHERE address = 'carol'");
    EXPECT_EQ(wait(store->history(1))->at(0).who, "directly") << "the last writer's name does not stay";
}

TEST_F(rules_test, AnotherProgramCannotWriteWhatCannotBeRead) {
    connection other;
    ASSERT_TRUE(other.open(file()));
    EXPECT_THROW(other.run("INSERT INTO rule(address, level, keygen) VALUES('+4680', 'high', 'nobody')"), sqlite_error);
    EXPECT_THROW(other.run("INSERT INTO rule(address, level, path) VALUES('+4680', 'high', 'moon')"), sqlite_error);
    EXPECT_THROW(other.run("INSERT INTO rule(address) VALUES('+4680')"), sqlite_error);
}

TEST_F(rules_test, ImportOf100000RowsIsAllOrNone) {
    std::vector<policy::rule_edit> rows;
    for (int n = 0; n < 100'000; ++n)
        rows.push_back(set("+46" + std::to_string(100'000'000 + n)));
    auto broken = rows;
    broken[99'999].row.address = "+46 70";
    auto refused = apply(broken);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().find("row 100000"), std::string::npos) << refused.error();
    broken[99'999] = set("+4670", "");
    EXPECT_FALSE(apply(broken));
    // The database itself refuses in the middle.
    by_another("CREATE TRIGGER full BEFORE INSERT ON rule WHEN NEW.address = '+46100077777' BEGIN "
               "SELECT RAISE(ABORT, 'no room'); END");
    refused = apply(rows);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().find("nothing is changed"), std::string::npos);
    EXPECT_TRUE(ears.rules.empty());
    EXPECT_EQ(number("SELECT (SELECT count(*) FROM rule) + (SELECT count(*) FROM rule_change)"), 0);
    by_another("DROP TRIGGER full");
    const auto done = apply(rows);
    ASSERT_TRUE(done) << done.error();
    EXPECT_EQ(*done, 100'000u);
    EXPECT_EQ(ears.rules.size(), 100'000u);
    EXPECT_EQ(number("SELECT count(*) FROM rule"), 100'000);
    EXPECT_EQ(number("SELECT count(*) FROM rule_change WHERE who = 'root (uid 0) by tandemctl'"), 100'000);
}

TEST_F(rules_test, ALockHeldByAnotherProgramIsSaidAndNothingChanged) {
    connection other;
    ASSERT_TRUE(other.open(file()));
    other.run("BEGIN IMMEDIATE");
    const auto refused = apply({set("bob")});
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().find("another program"), std::string::npos) << refused.error();
    other.run("ROLLBACK");
    EXPECT_TRUE(apply({set("bob")}));
    EXPECT_EQ(ears.rules.size(), 1u);
}

TEST_F(rules_test, RulesThatCannotBeReadAreSaidAndTheOldStayInForce) {
    ASSERT_TRUE(apply({set("bob")}));
    by_another("ALTER TABLE rule_change RENAME TO away");
    ASSERT_TRUE(soon([&] { return !ears.trouble.empty(); }));
    EXPECT_EQ(ears.rules.size(), 1u);
    by_another("ALTER TABLE away RENAME TO rule_change; INSERT INTO rule(address, level) VALUES('carol', 'high')");
    ASSERT_TRUE(soon([&] { return ears.trouble.empty(); }));
    EXPECT_EQ(ears.rules.size(), 2u);
}

TEST_F(rules_test, Rim25_MeanAndMedianOfKnownLengths) {
    const std::vector<std::int64_t> seconds{3, 1, 4, 1, 5, 9, 2, 6, 5, 3};
    std::uint32_t n = 0;
    for (const auto length : seconds) {
        ++n;
        whole_call(n, "c" + std::to_string(n), 100 * n, 100 * n + length);
    }
    for (int again = 0; again < 2; ++again) {
        ASSERT_EQ(ears.profiles.size(), 1u);
        const auto& p = ears.profiles.begin()->second;
        EXPECT_EQ(p.a, "+46701");
        EXPECT_EQ(p.b, "+46702");
        EXPECT_EQ(p.total, 10u);
        const auto sum = protocol::summarize(p, at(5000), std::chrono::hours(24));
        EXPECT_EQ(sum.calls, 10u);
        EXPECT_EQ(sum.failures, 0u);
        EXPECT_LE(std::chrono::abs(sum.mean - 3900ms), 1s);
        EXPECT_LE(std::chrono::abs(sum.median - 3500ms), 1s);
        EXPECT_EQ(sum.last, 3s);
        begin(); // and the next process knows it
    }
}

TEST_F(rules_test, Rim36_FailuresAreCounted) {
    whole_call(1, "a", 0, 60);
    whole_call(2, "b", -1, 30, "ended before it was answered");
    whole_call(3, "c", 0, 60, "media timeout: unit alice was silent");
    const auto sum = protocol::summarize(ears.profiles.begin()->second, at(100), std::chrono::hours(24));
    EXPECT_EQ(sum.failures, 2u);
    EXPECT_EQ(sum.calls, 2u) << "those with a length";
}

TEST_F(rules_test, Rim27_ProfilesWipedHereOrByAnotherProgramAreForgotten) {
    const std::pair<std::string, std::string> pair{"+46701", "+46702"};
    whole_call(1, "a", 0, 900);
    ASSERT_EQ(ears.profiles[pair].total, 1u);
    by_another("DELETE FROM profile");
    ASSERT_TRUE(soon([&] { return ears.profiles[pair].total == 0; }));
    EXPECT_TRUE(ears.profiles[pair].calls.empty());
    whole_call(2, "b", 0, 60);
    EXPECT_EQ(ears.profiles[pair].total, 1u) << "it begins anew";
    by_another("UPDATE profile SET body = '{\"total\":5,\"calls\":[[1790000000000,900000,0]]}'");
    ASSERT_TRUE(soon([&] { return ears.profiles[pair].total == 5; }));
    whole_call(3, "c", 0, 60);
    EXPECT_EQ(ears.profiles[pair].total, 6u);
    EXPECT_EQ(*wait(store->forget_profiles("+46702", "+46701")), 1u) << "in whichever order";
    EXPECT_EQ(ears.profiles[pair].total, 0u);
    EXPECT_EQ(*wait(store->forget_profiles("+46702", "+46701")), 0u);
    whole_call(4, "d", 0, 60);
    EXPECT_EQ(*wait(store->forget_profiles("", "")), 1u);
    EXPECT_TRUE(ears.profiles.empty());
    EXPECT_EQ(number("SELECT count(*) FROM record"), 4) << "records stay";
}

} // namespace
} // namespace tandem::store
