// SPDX-License-Identifier: Apache-2.0
// The security database in memory against plain containers: longest prefix by a linear scan, edits by a map (RIM-19).
#include "controlplane/policy/rules.hpp"

#include <map>
#include <random>

#include <gtest/gtest.h>

namespace tandem::policy {
namespace {

std::string digits(std::mt19937& random, std::size_t most, const char* among) {
    const std::string_view set = among;
    std::string text = "+4";
    for (auto size = random() % most; size > 0; --size)
        text += set[random() % set.size()];
    return text;
}

TEST(Rim19, LongestPrefixAgreesWithALinearScan) {
    std::mt19937 random(4); // NOLINT: the same run each time
    for (int round = 0; round < 20; ++round) {
        std::map<std::string, std::string> plain;
        rule_table table;
        for (int n = 0; n < 300; ++n) {
            const auto address = digits(random, 14, "012");
            const auto level = "l" + std::to_string(n);
            plain[address] = level;
            ASSERT_TRUE(table.set({address, level, {}, {}, ""}));
        }
        ASSERT_EQ(table.size(), plain.size());
        for (int n = 0; n < 2000; ++n) {
            const auto number = digits(random, 14, n % 2 == 0 ? "012" : "0129");
            std::string longest, level;
            for (const auto& [address, says] : plain)
                if (address.size() > longest.size() && number.compare(0, address.size(), address) == 0) {
                    longest = address;
                    level = says;
                }
            const auto got = table.longest_prefix(number);
            ASSERT_EQ(got ? got->address : "", longest) << number;
            ASSERT_EQ(got ? got->level : "", level) << number;
        }
    }
}

TEST(Rim19, TheMostSpecificRowOfAPartyStands) {
    rule_table table;
    for (const auto* address : {"sip:+46701@example.com", "+46701", "+467", "+4", "sip:alice@example.com", "alice",
                                "@example.com", "sip:a;b@example.com", "1001"})
        ASSERT_TRUE(table.set({address, address, {}, {}, ""}));
    const auto of = [&](const char* id, const char* domain) {
        const auto row = table.find({id, domain});
        return row ? row->address : "";
    };
    EXPECT_EQ(of("+46701", "example.com"), "sip:+46701@example.com");
    EXPECT_EQ(of("+46701", "example.org"), "+46701");
    EXPECT_EQ(of("0046 70-2", ""), "+467");
    EXPECT_EQ(of("tel:+491", ""), "+4");
    EXPECT_EQ(of("+5", "Example.COM"), "@example.com");
    EXPECT_EQ(of("alice", "Example.com"), "sip:alice@example.com");
    EXPECT_EQ(of("alice", "example.org"), "alice");
    EXPECT_EQ(of("alice", ""), "alice");
    EXPECT_EQ(of("sip:alice@example.org", "example.com"), "alice"); // the address's own domain
    EXPECT_EQ(of("sip:+46709@example.org", ""), "+467");
    EXPECT_EQ(of("sip:a;b@example.com:5060", ""), "sip:a;b@example.com");
    EXPECT_EQ(of("bob", "example.com"), "@example.com");
    EXPECT_EQ(of("10011", ""), ""); // no prefix of what is no number
    EXPECT_EQ(of("", "example.com"), "@example.com");
    EXPECT_EQ(of("bob", ""), "");
    EXPECT_EQ(of("bob", "a b"), "");
    std::string fault;
    EXPECT_EQ(table.find({"070-12", "example.com"}, &fault)->address, "@example.com");
    EXPECT_NE(fault.find("is no telephone number"), std::string::npos);
}

// Set and removed at random, at sizes where rows move and text is compacted: always what a map says.
TEST(Rim19, EditsAgreeWithAMap) {
    std::mt19937 random(5); // NOLINT: the same run each time
    std::map<std::string, rule> plain;
    rule_table table;
    const std::string padding(40, 'x');
    for (int n = 0; n < 60'000; ++n) {
        const auto which = random() % 4000;
        rule row{which % 2 == 0 ? "+1" + std::to_string(which) : "id" + padding + std::to_string(which),
                 "l" + std::to_string(random() % 5),
                 {},
                 {},
                 random() % 3 == 0 ? "c" + std::to_string(random() % 50) : ""};
        if (random() % 2)
            row.keys = static_cast<key_source>(random() % 3);
        if (random() % 2)
            row.path = static_cast<path_choice>(random() % 3);
        if (n % 10'000 < 6000 || random() % 8 == 0) {
            ASSERT_TRUE(table.set(row));
            plain[row.address] = row;
        } else {
            ASSERT_EQ(table.remove(row.address), plain.erase(row.address) == 1);
        }
        ASSERT_EQ(table.size(), plain.size());
        if (n % 997 == 0) {
            for (const auto& [address, expected] : plain)
                ASSERT_EQ(table.exact(address), expected);
            std::vector<rule> all;
            for (const auto& [address, expected] : plain)
                all.push_back(expected);
            ASSERT_EQ(table.list("", "", 1'000'000), all);
        }
    }
    EXPECT_LT(table.bytes(), 2'000'000u); // compacted: 60,000 names of 45 bytes went through
}

TEST(Rim19, ListsPageByPageInOrder) {
    rule_table table;
    std::vector<rule> all;
    for (int n = 0; n < 100; ++n)
        all.push_back({n % 2 == 0 ? "+467" + std::to_string(n) : "id" + std::to_string(n), "high", {}, {}, ""});
    all.push_back({"no address at all", "high", {}, {}, ""});
    EXPECT_EQ(table.replace(all), 1u);
    std::vector<std::string> seen;
    for (std::string after;;) {
        const auto page = table.list("", after, 7);
        for (const auto& row : page)
            seen.push_back(row.address);
        if (page.size() < 7)
            break;
        after = page.back().address;
    }
    EXPECT_EQ(seen.size(), 100u);
    EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
    EXPECT_EQ(table.list("+467", "", 1000).size(), 50u);
    EXPECT_EQ(table.list("id", "", 1000).size(), 50u);
    EXPECT_EQ(table.list("id4", "", 1000).size(), 5u); // id41, id43 ... id49
    EXPECT_TRUE(table.list("", "", 0).empty());
    EXPECT_EQ(table.replace({}), 0u);
    EXPECT_EQ(table.size(), 0u);
    EXPECT_FALSE(table.find({"+46700", ""}));
}

} // namespace
} // namespace tandem::policy
