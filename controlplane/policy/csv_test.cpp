// SPDX-License-Identifier: Apache-2.0
// CSV of the security database: RFC 4180 both ways, and refused whole with line and column (RIM-19).
#include "controlplane/policy/csv.hpp"

#include <random>

#include <gtest/gtest.h>

namespace tandem::policy {
namespace {

bool known(std::string_view level) {
    return level == "basic" || level == "high";
}

TEST(Rim19, CsvIsRead) {
    const auto got = parse_csv("\xef\xbb\xbf"
                               "address,level,keygen,path,comment\r\n"
                               "+46 70,high,device,wlan,\"mobiles, \"\"all\"\"\"\r\n"
                               "\n"
                               "SIP:Alice@Example.com,basic\n"
                               "@Example.com,basic,,either\n"
                               "alice,high,both,,sm\xc3\xa5",
                               "rules.csv", known);
    ASSERT_TRUE(got) << got.error();
    const std::vector<rule> expected{
        {"+4670", "high", key_source::unit, path_choice::wlan, "mobiles, \"all\""},
        {"sip:Alice@example.com", "basic", {}, {}, ""},
        {"@example.com", "basic", {}, path_choice::either, ""},
        {"alice", "high", key_source::both, {}, "sm\xc3\xa5"},
    };
    EXPECT_EQ(*got, expected);
    const auto short_header = parse_csv("address,level\nalice,high\n", "rules.csv", known);
    ASSERT_TRUE(short_header) << short_header.error();
    EXPECT_EQ(short_header->size(), 1u);
    EXPECT_TRUE(parse_csv("address,level\n", "rules.csv", known)->empty());
    EXPECT_TRUE(parse_csv("address,level\nalice,whatever\n", "rules.csv", {}));
}

TEST(Rim19, ABrokenCsvIsRefusedWholeWithLineAndColumn) {
    const auto refused = [](const std::string& rows, const std::string& place, const std::string& says,
                            const std::string& header = "address,level,keygen,path,comment\n") {
        const auto got = parse_csv(header + rows, "rules.csv", known);
        ASSERT_FALSE(got) << rows;
        EXPECT_EQ(got.error().rfind("rules.csv:" + place + ": ", 0), 0u) << got.error();
        EXPECT_NE(got.error().find(says), std::string::npos) << got.error();
        EXPECT_EQ(got.error().find('\n'), std::string::npos) << got.error();
    };
    refused("", "1:1", "the first line is: address,level", "");
    refused("", "1:9", "is no column", "address,class\n");
    refused("", "1:1", "address and level are needed", "address\n");
    refused("alice,high\n+46x,high\n", "3:1", "is no telephone number");
    refused("alice,high\n\n\r\n+46,gold\n", "5:5", "\"gold\" is no level");
    refused("alice,\n", "2:7", "the level is empty");
    refused("alice\n", "2:1", "an address and a level");
    refused("alice,high,unit!\n", "2:12", "gateway, device, both");
    refused("alice,high,,5g\n", "2:13", "wlan, wwan, either");
    refused("alice,high,,,a,b\n", "2:16", "quotes around a comment");
    refused("alice,high,,,\"a\nb\"\n", "2:14", "does not end on its line");
    refused("alice,high,,,\"a", "2:14", "does not end on its line");
    refused("alice,high,,,\"a\"b\n", "2:17", "closing quote");
    refused("alice,high,,,a\"b\n", "2:15", "write \"a \"\"word\"\"\"");
    refused("alice,high,,,a\rb\n", "2:15", "carriage return");
    refused("alice,high,,,a\tb\n", "2:14", "control characters");
    refused("alice,high,,,a\xff\n", "2:14", "UTF-8");
    refused("alice,high,,," + std::string(256, 'a') + "\n", "2:14", "256 bytes is too long");
    refused("+4670,high\nbob,high\n+46 70,basic\n", "4:1", "+4670 is in line 2 too");
}

TEST(Rim19, ARowMayDeny) {
    const auto got =
        parse_csv("address,level,keygen,path,comment\n+4670,deny,,,\"gone, for good\"\n", "rules.csv", known);
    ASSERT_TRUE(got) << got.error();
    EXPECT_EQ(got->front(), (rule{"+4670", "deny", {}, {}, "gone, for good"}));
    EXPECT_EQ(to_csv(*got), "address,level,keygen,path,comment\n+4670,deny,,,\"gone, for good\"\n");
}

TEST(Rim19, WhatIsExportedIsImportedAgain) {
    std::mt19937 random(3); // NOLINT: the same run each time
    const std::string letters = "ab ,\"\xc3\xa5;'#";
    std::vector<rule> rows;
    for (std::size_t n = 0; n < 2000; ++n) {
        rule row;
        row.address = n % 4 == 0   ? "+46" + std::to_string(1000 + n)
                      : n % 4 == 1 ? "sip:u," + std::to_string(n) + "@example.com"
                      : n % 4 == 2 ? "@d" + std::to_string(n) + ".example"
                                   : "id" + std::to_string(n);
        row.level = n % 3 == 0 ? "basic" : "high";
        if (random() % 2)
            row.keys = static_cast<key_source>(random() % 3);
        if (random() % 2)
            row.path = static_cast<path_choice>(random() % 3);
        for (auto size = random() % 8; size > 0; --size) {
            const auto at = random() % letters.size();
            row.comment += letters[at] < 0 ? "\xc3\xa5" : std::string(1, letters[at]);
        }
        rows.push_back(row);
    }
    const auto again = parse_csv(to_csv(rows), "rules.csv", known);
    ASSERT_TRUE(again) << again.error();
    EXPECT_EQ(*again, rows);
}

TEST(Rim19, OneRuleIsHeldToTheSame) {
    const auto row = make_rule("tel:+46-70", "high", "device", "wwan", "vip", known);
    ASSERT_TRUE(row) << row.error();
    EXPECT_EQ(*row, (rule{"+4670", "high", key_source::unit, path_choice::wwan, "vip"}));
    EXPECT_FALSE(make_rule("", "high", "", "", "", known));
    EXPECT_FALSE(make_rule("alice", "gold", "", "", "", known));
    EXPECT_FALSE(make_rule("alice", "high", "me", "", "", known));
    EXPECT_FALSE(make_rule("alice", "high", "", "me", "", known));
    EXPECT_FALSE(make_rule("alice", "high", "", "", "a\nb", known));
}

} // namespace
} // namespace tandem::policy
