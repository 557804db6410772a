// SPDX-License-Identifier: Apache-2.0
#include "tools/agent/names/answers.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace tandem::agent {
namespace {

using octets = std::vector<std::uint8_t>;
constexpr std::uint8_t a = 1, aaaa = 28, https = 65;

// A query for it, of class IN, with RD.
octets query(std::string_view name, std::uint8_t type) {
    octets out{0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0};
    for (std::size_t at = 0; at < name.size();) {
        const auto label = name.substr(at, name.find('.', at) - at);
        out.push_back(static_cast<std::uint8_t>(label.size()));
        out.insert(out.end(), label.begin(), label.end());
        at += label.size() + 1;
    }
    out.insert(out.end(), {0, 0, type, 0, 1});
    return out;
}

name_answers some() {
    name_answers out;
    EXPECT_TRUE(out.add("app.example.org", asio::ip::make_address("127.0.0.10")));
    EXPECT_TRUE(out.add("Six.Example.org.", asio::ip::make_address("::1")));
    return out;
}

TEST(Col04Names, ChosenNamesHaveThisDevicesAddress) {
    const auto [what, reply] = some().look_at(query("aPP.example.ORG", a));
    ASSERT_EQ(what, name_answers::fate::answered);
    const auto asked = query("aPP.example.ORG", a);
    ASSERT_GT(reply.size(), asked.size());
    EXPECT_EQ((octets{reply.begin(), reply.begin() + 8}), (octets{0x12, 0x34, 0x85, 0x80, 0, 1, 0, 1}));
    EXPECT_TRUE(std::equal(asked.begin() + 12, asked.end(), reply.begin() + 12)) << "the question as it was written";
    EXPECT_EQ((octets{reply.end() - 6, reply.end()}), (octets{0, 4, 127, 0, 0, 10}));
}

TEST(Col04Names, OfAChosenNameThereIsNothingElse) {
    for (const auto& [name, type] :
         {std::pair{"app.example.org", aaaa}, {"app.example.org", https}, {"six.example.org", a}}) {
        const auto [what, reply] = some().look_at(query(name, type));
        ASSERT_EQ(what, name_answers::fate::answered);
        EXPECT_EQ((octets{reply.begin() + 2, reply.begin() + 8}), (octets{0x85, 0x80, 0, 1, 0, 0}));
    }
    EXPECT_EQ(some().look_at(query("six.example.org", aaaa)).reply.back(), 1);
}

TEST(Col04Names, OthersArePassedOn) {
    for (const char* name : {"example.org", "www.app.example.org", "app.example.com"})
        EXPECT_EQ(some().look_at(query(name, a)).what, name_answers::fate::passed_on) << name;
    auto chaos = query("app.example.org", a), update = chaos, two = chaos;
    chaos.back() = 3;
    EXPECT_EQ(some().look_at(chaos).what, name_answers::fate::passed_on);
    two[5] = 2;
    two.insert(two.end(), chaos.begin() + 12, chaos.end());
    EXPECT_EQ(some().look_at(two).what, name_answers::fate::passed_on);
}

TEST(Col04Names, WhatIsNoQueryIsMalformed) {
    auto reply = query("app.example.org", a);
    reply[2] |= 0x80;
    EXPECT_EQ(some().look_at(reply).what, name_answers::fate::malformed);
    const auto whole = query("app.example.org", a);
    for (std::size_t size = 0; size < whole.size(); ++size)
        EXPECT_EQ(some().look_at(std::span(whole).first(size)).what, name_answers::fate::malformed) << size;
}

TEST(Col04Names, AReplyIsToItsQuestion) {
    const auto asked = query("app.example.org", a);
    auto good = query("APP.example.org", a);
    good[2] |= 0x80;
    EXPECT_TRUE(is_answer_to(asked, good));
    for (const std::size_t at : {0U, 1U, 2U, 5U, 13U, 16U, 30U}) { // id, QR, how many questions, name, type
        auto bad = good;
        bad[at] ^= at == 2 ? 0x80 : 0x03;
        EXPECT_FALSE(is_answer_to(asked, bad)) << at;
    }
    for (std::size_t size = 0; size < good.size(); ++size)
        EXPECT_FALSE(is_answer_to(asked, std::span(good).first(size))) << size;
    auto error = octets{good.begin(), good.begin() + 12};
    error[5] = 0;
    EXPECT_TRUE(is_answer_to(asked, error)) << "an error without the question";
}

TEST(Col05Names, ANameHasOneAddressOfEachFamily) {
    auto all = some();
    EXPECT_TRUE(all.add("app.example.org", asio::ip::make_address("127.0.0.10")));
    EXPECT_TRUE(all.add("app.example.org", asio::ip::make_address("::1")));
    EXPECT_FALSE(all.add("APP.example.org", asio::ip::make_address("127.0.0.11")));
    EXPECT_EQ(all.look_at(query("app.example.org", a)).reply.back(), 10);
}

TEST(Col04Names, HostNames) {
    for (const char* name : {"a", "app.example.org", "_sip.x-1.org"})
        EXPECT_TRUE(is_host_name(name)) << name;
    for (const std::string& name :
         {std::string(), std::string("."), std::string("a..b"), std::string(".a"), std::string("a."),
          std::string("a b"), std::string("*.example.org"), std::string("192.0.2.1"), std::string(64, 'a'),
          std::string(127, 'a') + "." + std::string(127, 'a')})
        EXPECT_FALSE(is_host_name(name)) << name;
}

} // namespace
} // namespace tandem::agent
