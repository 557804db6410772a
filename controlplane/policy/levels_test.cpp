// SPDX-License-Identifier: Apache-2.0
// Levels: the built-in table passes its own checks; impossible levels are refused with words.
#include "controlplane/policy/decide.hpp"
#include "controlplane/policy/engine.hpp"

#include <gtest/gtest.h>

namespace tandem::policy {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(Levels, BuiltInTableIsTheDesigns) {
    const auto table = level_table::built_in();
    ASSERT_EQ(table.rows().size(), 4u);
    EXPECT_EQ(table.find("basic")->suite, api::suite::aes_cm_128_hmac_sha1_32);
    EXPECT_EQ(table.find("standard")->rekey, seconds(60));
    EXPECT_EQ(table.find("elevated")->seed_bytes, 32u);
    EXPECT_EQ(table.find("high")->suite, api::suite::aead_aes_256_gcm);
    EXPECT_EQ(table.find("high")->rekey, seconds(5));
    EXPECT_TRUE(table.check_all({}, "standard"));
}

TEST(Rim30, IntervalNotBelowThePrimarysLifetimeIsRefusedWithWords) {
    auto table = level_table::built_in();
    const auto fine = table.check_all({.primary_lifetime = seconds(121)}, "standard");
    EXPECT_TRUE(fine);
    const auto refused = table.check_all({.primary_lifetime = seconds(120)}, "standard");
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().find("level basic"), std::string::npos) << refused.error();
    EXPECT_NE(refused.error().find("lifetime_s"), std::string::npos) << refused.error();
}

TEST(Levels, OutOfRangeIsRefusedWithTheLevelsName) {
    const level good{"x", api::suite::aead_aes_128_gcm, 16, seconds(10), seconds(1)};
    ASSERT_TRUE(check(good, {}));
    const auto refused = [&](auto change) {
        auto row = good;
        change(row);
        const auto verdict = check(row, {});
        return !verdict && verdict.error().find("level ") == 0;
    };
    EXPECT_TRUE(refused([](level& row) { row.suite = api::suite::clear; }));
    EXPECT_TRUE(refused([](level& row) { row.seed_bytes = 15; }));
    EXPECT_TRUE(refused([](level& row) { row.seed_bytes = 65; }));
    EXPECT_TRUE(refused([](level& row) { row.overlap = row.rekey; }));
    EXPECT_TRUE(refused([](level& row) { row.overlap = milliseconds(0); }));
    EXPECT_TRUE(refused([](level& row) { row.rekey = milliseconds(100); }));
    EXPECT_TRUE(refused([](level& row) { row.name.clear(); }));
    EXPECT_TRUE(refused([](level& row) { row.name = "deny"; }));
}

TEST(Levels, UnknownDefaultIsRefused) {
    const auto refused = level_table::built_in().check_all({}, "top-secret");
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().find("top-secret"), std::string::npos);
}

TEST(Levels, OverrideReplacesTheRowAndDecideReturnsTheDefault) {
    auto table = level_table::built_in();
    table.set({"standard", api::suite::aead_aes_128_gcm, 24, seconds(5), seconds(1)});
    EXPECT_EQ(table.rows().size(), 4u);
    config settings;
    settings.levels = table;
    engine decider(settings);
    EXPECT_EQ(decider.decide({}).chosen.seed_bytes, 24u);
    EXPECT_EQ(decider.by_name("high").rekey, seconds(5));
    EXPECT_EQ(decider.by_name("gone").name, "standard");
}

TEST(Rim12, SeedIsKeyNeedsASeedOfKeyAndSaltLength) {
    level row{"x", api::suite::aead_aes_256_gcm, 16, seconds(10), seconds(1), true};
    EXPECT_EQ(row.seed_length(), 44u);
    row.seed_is_key = false;
    EXPECT_EQ(row.seed_length(), 16u);
}

} // namespace
} // namespace tandem::policy
