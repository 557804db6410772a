// SPDX-License-Identifier: Apache-2.0
// The unit's history of calls: what it expects, that it outlives the agent, that it stays bounded. Rows RIM-26, RIM-27.
#include "tools/agent/advice/history.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include <fmt/format.h>

#include "tools/agent/advice/temporary_directory.hpp"

using namespace tandem;
using namespace tandem::agent;
using namespace std::chrono_literals;

namespace {

const auto now = std::chrono::system_clock::time_point(1'700'000'000s);

profile_rules rules() {
    profile_rules made;
    made.duration = {{300s, "elevated"}, {900s, "high"}};
    return made;
}
protocol::past_call call(std::chrono::seconds length, std::chrono::hours ago = 1h) {
    return {now - ago, length, false};
}
std::string level(const history& of, const std::string& peer) {
    const auto advice = of.advise({peer}, now);
    return advice ? advice->level : "";
}

} // namespace

TEST(Rim27Profiles, TheLengthThatIsExpectedGivesTheLevel) {
    history known("alice", "", rules());
    for (const auto length : {100s, 320s, 1000s})
        known.add("bob", call(length));
    EXPECT_EQ(level(known, "bob"), "elevated"); // median 320
    for (const auto length : {1000s, 1100s})
        known.add("bob", call(length));
    EXPECT_EQ(level(known, "bob"), "high"); // median 1000
    known.add("carol", call(1000s));
    known.add("carol", call(1000s));
    EXPECT_EQ(level(known, "carol"), ""); // two calls say nothing
    EXPECT_NE(known.advise({"carol"}, now)->text.find("too few"), std::string::npos);
    EXPECT_FALSE(known.advise({"dave"}, now));
    EXPECT_EQ(known.advise({"dave", "bob"}, now)->text, "5 calls with bob, median 1000 s");
}

TEST(Rim27Profiles, MeanLastAgeAndLeastCallsAreTheConfigurations) {
    auto by = rules();
    by.of = expectation::mean;
    history mean("alice", "", by);
    by.of = expectation::last;
    by.least_calls = 1;
    history last("alice", "", by);
    for (const auto length : {10s, 10s, 2000s}) {
        mean.add("bob", call(length));
        last.add("bob", call(length));
    }
    EXPECT_EQ(level(mean, "bob"), "elevated"); // 673 s
    EXPECT_EQ(level(last, "bob"), "high");
    history old("alice", "", rules());
    for (int i = 0; i < 5; i++)
        old.add("bob", call(2000s, 91h * 24));
    EXPECT_EQ(level(old, "bob"), "");
}

TEST(Rim27Profiles, TheyOutliveTheAgentAndAreSeenByOthers) {
    const temporary_directory dir;
    {
        history first("alice", dir.path, rules());
        for (int i = 0; i < 4; i++)
            first.add("+46701", call(400s));
        EXPECT_EQ(first.error(), "");
    }
    history second("alice", dir.path, rules());
    second.refresh();
    EXPECT_EQ(level(second, "+46701"), "elevated");
    EXPECT_EQ(second.all().at("+46701").total, 4U);
    history third("alice", dir.path, rules()); // the command line
    EXPECT_EQ(third.forget("nobody").value(), 0U);
    EXPECT_EQ(third.forget("+46701").value(), 1U);
    second.refresh();
    EXPECT_TRUE(second.all().empty());
    second.add("bob", call(1s));
    third.add("carol", call(1s));
    second.refresh();
    EXPECT_EQ(second.all().size(), 2U);
    EXPECT_EQ(third.forget("").value(), 2U);
}

TEST(Rim27Profiles, BoundedInPeersAndCalls) {
    history known("alice", "", rules());
    for (int i = 0; i < 1100; i++)
        known.add(fmt::format("+46{}", 1000 + i), {now + std::chrono::seconds(i), 1s, false});
    EXPECT_EQ(known.all().size(), history::most_pairs);
    EXPECT_FALSE(known.all().contains("+461000")) << "the one longest unheard of goes";
    EXPECT_TRUE(known.all().contains("+462099"));
    for (int i = 0; i < 100; i++)
        known.add("+462099", call(1s));
    EXPECT_EQ(known.all().at("+462099").calls.size(), protocol::profile::most_calls);
    EXPECT_LT(format_profiles(known.all()).size(), history::most_bytes);
}

TEST(Rim27Profiles, ABrokenFileIsSaidAndNotOverwritten) {
    const temporary_directory dir;
    std::ofstream(dir.path + "/profiles.json") << "{\"version\": 1, \"peers\": [{\"peer\": 3}]}";
    history known("alice", dir.path, rules());
    known.refresh();
    EXPECT_NE(known.error().find("entry 1 of peers"), std::string::npos) << known.error();
    for (int i = 0; i < 3; i++)
        known.add("bob", call(1000s));
    EXPECT_EQ(level(known, "bob"), "high"); // from memory
    history other("alice", dir.path, rules());
    other.refresh();
    EXPECT_FALSE(other.error().empty()) << "what a person may want to mend is still there";
    ASSERT_EQ(std::remove((dir.path + "/profiles.json").c_str()), 0);
    known.refresh();
    EXPECT_EQ(known.error(), "");
    other.refresh();
    EXPECT_EQ(level(other, "bob"), "high");
}

TEST(Rim27Profiles, FilesOfAnyContent) {
    for (const char* bad :
         {"", "[]", "{}", "{\"version\":2,\"peers\":[]}", "{\"version\":1,\"peers\":3}",
          "{\"version\":1,\"peers\":[3]}", "{\"version\":1,\"peers\":[{\"peer\":\"b\",\"total\":-1,\"calls\":[]}]}",
          "{\"version\":1,\"peers\":[{\"peer\":\"b\",\"total\":1,\"calls\":[[1,2]]}]}",
          "{\"version\":1,\"peers\":[{\"peer\":\"b\",\"total\":1,\"calls\":[[1,-2,false]]}]}",
          "{\"version\":1,\"peers\":[{\"peer\":\"b\",\"total\":1,\"calls\":[[1e300,2,false]]}]}",
          "{\"version\":1,\"peers\":[{\"peer\":\"\\u0000\",\"total\":1,\"calls\":[]}]}"})
        EXPECT_FALSE(parse_profiles(bad, "alice", "f")) << bad;
    EXPECT_TRUE(parse_profiles("{\"version\":1,\"peers\":[]}", "alice", "f"));
}
