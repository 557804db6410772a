// SPDX-License-Identifier: Apache-2.0
// Profiles in memory stay bounded, the quiet ones go first; predictors map a history to a level (RIM-25, RIM-26,
// RIM-36).
#include "controlplane/policy/profiles.hpp"

#include <gtest/gtest.h>

#include "controlplane/policy/predictor.hpp"

namespace tandem::policy {
namespace {

using std::chrono::seconds;

protocol::profile of(const std::string& a, const std::string& b, int ended) {
    protocol::profile made{a, b, {}, 0};
    made.add({std::chrono::system_clock::time_point(seconds(ended)), seconds(10), false});
    return made;
}

TEST(Rim25, ProfilesAreBoundedAndTheQuietestGoes) {
    profile_memory memory(3);
    EXPECT_EQ(memory.replace({of("a", "b", 40), of("a", "c", 10), of("a", "d", 30), of("a", "e", 20)}), 1u);
    EXPECT_EQ(memory.find("a", "c"), nullptr);
    ASSERT_NE(memory.find("e", "a"), nullptr); // in any order
    EXPECT_EQ(memory.put(of("a", "e", 50)), 0u);
    EXPECT_EQ(memory.put(of("x", "y", 60)), 1u);
    EXPECT_EQ(memory.find("a", "d"), nullptr);
    EXPECT_NE(memory.find("a", "e"), nullptr);
    EXPECT_EQ(memory.put({"a", "e", {}, 0}), 0u); // without calls: removed
    EXPECT_EQ(memory.find("a", "e"), nullptr);
    EXPECT_EQ(memory.size(), 2u);
    EXPECT_EQ(memory.set_most(1), 1u);
    EXPECT_NE(memory.find("y", "x"), nullptr);
    EXPECT_EQ(memory.replace({}), 0u);
    EXPECT_EQ(memory.size(), 0u);
    profile_memory off(0);
    EXPECT_EQ(off.put(of("a", "b", 1)), 1u);
    EXPECT_EQ(off.size(), 0u);
}

TEST(Rim26, LongerExpectedCallsGiveAHigherLevel) {
    config settings;
    const auto level = [&](protocol::summary history) {
        return make_duration_predictor(settings)->predict(history).level;
    };
    EXPECT_EQ(level({3, 0, seconds(1), seconds(299), seconds(1)}), "");
    EXPECT_EQ(level({3, 0, seconds(1), seconds(300), seconds(1)}), "elevated");
    EXPECT_EQ(level({3, 0, seconds(1), seconds(900), seconds(1)}), "high");
    EXPECT_EQ(level({2, 0, seconds(900), seconds(900), seconds(900)}), ""); // too few
    settings.duration_of = "mean";
    EXPECT_EQ(level({3, 0, seconds(900), seconds(1), seconds(1)}), "high");
    settings.duration_of = "last";
    EXPECT_EQ(level({3, 0, seconds(1), seconds(1), seconds(301)}), "elevated");
    settings.least_calls = 1;
    EXPECT_EQ(level({0, 5, {}, {}, {}}), "");
}

TEST(Rim36, ASecondPredictorAloneChangesTheLevel) {
    config settings;
    EXPECT_EQ(make_predictors(settings).size(), 1u);
    settings.duration.clear();
    settings.calls = {{20, "elevated"}, {40, "high"}};
    settings.failures = {{2, "high"}};
    const auto made = make_predictors(settings);
    ASSERT_EQ(made.size(), 2u);
    EXPECT_EQ(made[0]->name(), "calls");
    EXPECT_EQ(made[0]->predict({19, 9, {}, {}, {}}).level, "");
    EXPECT_EQ(made[0]->predict({20, 9, {}, {}, {}}).level, "elevated");
    EXPECT_EQ(made[0]->predict({64, 9, {}, {}, {}}).level, "high");
    EXPECT_EQ(made[1]->predict({64, 1, {}, {}, {}}).level, "");
    const auto said = made[1]->predict({0, 2, {}, {}, {}});
    EXPECT_EQ(said.level, "high");
    EXPECT_EQ(said.text, "2 failures, at least 2");
}

} // namespace
} // namespace tandem::policy
