// SPDX-License-Identifier: Apache-2.0
// Arguments are held against a verb's row, and a mistyped name is told which is likely meant.
#include "controlplane/app/verb_table.hpp"

#include "controlplane/app/near_name.hpp"

#include <gtest/gtest.h>

namespace tandem::control {
namespace {

using nlohmann::json;

TEST(VerbTable, ArgumentsAreThoseOfTheRowAndOfItsTypes) {
    const verb_row row{"media show", "id:number deep:flag rows:list of:object name", ""};
    EXPECT_FALSE(wrong_argument(row, json::object()));
    EXPECT_FALSE(wrong_argument(row, {{"id", 7}, {"deep", true}, {"rows", json::array()}, {"name", "x"}}));
    EXPECT_FALSE(wrong_argument(row, {{"id", "7"}, {"name", nullptr}})) << "digits are a number, null is not there";
    EXPECT_EQ(wrong_argument(row, {{"idd", 7}}),
              "media show takes no argument \"idd\"; it takes id, deep, rows, of, name");
    for (const auto& wrong : {json{{"id", -1}}, json{{"id", "x"}}, json{{"id", ""}}, json{{"deep", 1}},
                              json{{"rows", "x"}}, json{{"of", 1}}, json{{"name", 1}}})
        EXPECT_TRUE(wrong_argument(row, wrong)) << wrong.dump();
    EXPECT_EQ(wrong_argument({"status", "", ""}, {{"id", 7}}), "status takes no argument \"id\"; it takes none");
}

TEST(VerbTable, ANameThatIsNearIsMeant) {
    const std::vector<std::string_view> names{"status", "unit show", "unit add", "call list"};
    EXPECT_EQ(ops::near_name("stauts", names), "status");
    EXPECT_EQ(ops::near_name("unit shown", names), "unit show");
    EXPECT_EQ(ops::near_name("calls list", names), "call list");
    EXPECT_EQ(ops::near_name("frobnicate", names), "");
    EXPECT_EQ(ops::near_name("", names), "");
    EXPECT_EQ(ops::near_name(std::string(100'000, 'a'), names), "") << "no work for nonsense";
}

} // namespace
} // namespace tandem::control
