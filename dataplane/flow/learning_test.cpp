// SPDX-License-Identifier: Apache-2.0
// Whose packet moves the leg, at which time, and whose is not even heard.
#include <arpa/inet.h>
#include <gtest/gtest.h>

#include "dataplane/flow/learning.hpp"

namespace tandem::flow {
namespace {

using api::source_rule;
constexpr std::uint64_t ms = 1'000'000;

api::net_address at(const char* ip, std::uint16_t port) {
    api::net_address a{};
    a.port = port;
    a.ip[10] = a.ip[11] = 0xff;
    if (inet_pton(AF_INET, ip, a.ip + 12) != 1 && inet_pton(AF_INET6, ip, a.ip) != 1)
        ADD_FAILURE() << ip;
    return a;
}

struct Learning : ::testing::Test {
    Learning() {
        f.source = api::source_policy::learned;
        f.window_ms = 3000;
        f.signalled_source = at("198.51.100.9", 6000);
        f.received_from = at("203.0.113.1", 0);
    }
    // One accepted packet where it may speak; does the leg move?
    bool packet(const api::net_address& from, std::uint64_t now_ms) {
        now_ms += 1000;
        if (!f.heard_from(from) && !may_speak(f, from, now_ms * ms))
            return false;
        ++accepted;
        if (!f.heard_from(from) && moves_leg(f, from, accepted, now_ms * ms)) {
            switch_source(f, from);
            return true;
        }
        return false;
    }
    bool heard(const api::net_address& from, std::uint64_t now_ms) {
        return f.heard_from(from) || may_speak(f, from, (now_ms + 1000) * ms);
    }
    record f{};
    std::uint64_t accepted = 0;
    api::net_address phone = at("198.51.100.9", 6000), mapped = at("198.51.100.9", 40000),
                     sibling = at("198.51.100.77", 6000), proxy = at("203.0.113.1", 9), thief = at("192.0.2.66", 6000);
};

TEST_F(Learning, RulesByTheirLikelihood) {
    EXPECT_EQ(rule_of(f, phone), source_rule::signalled);
    EXPECT_EQ(rule_of(f, mapped), source_rule::address);
    EXPECT_EQ(rule_of(f, proxy), source_rule::received_from);
    EXPECT_EQ(rule_of(f, sibling), source_rule::network);
    EXPECT_EQ(rule_of(f, thief), source_rule::anyone);
    f.signalled_source = at("2001:db8::1", 6000);
    EXPECT_EQ(rule_of(f, at("2001:db8::77", 1)), source_rule::network);
    EXPECT_EQ(rule_of(f, at("2001:db8:0:1::1", 1)), source_rule::anyone);
    f.signalled_source = f.received_from = {};
    EXPECT_EQ(rule_of(f, at("::", 1)), source_rule::anyone) << "nothing was signalled";
}

TEST_F(Learning, AnybodysFirstPacketGivesWayToALikelierOneWithinTheWindow) {
    EXPECT_TRUE(packet(thief, 0));
    EXPECT_TRUE(packet(sibling, 100));
    EXPECT_FALSE(heard(thief, 200));
    EXPECT_TRUE(packet(mapped, 2900));
    EXPECT_TRUE(packet(phone, 2950)) << "as signalled to the port";
    for (const auto& other : {thief, sibling, proxy})
        EXPECT_FALSE(heard(other, 2960));
    EXPECT_TRUE(same_address(f.from(), phone));
}

TEST_F(Learning, TheWindowBeginsWithTheFirstPacketAndThenTheAddressIsTheOnlyOne) {
    EXPECT_TRUE(packet(thief, 0));
    EXPECT_FALSE(heard(phone, 3000));
    EXPECT_TRUE(heard(at("192.0.2.66", 7), 3000)) << "any port of it";
    f.seen = 0; // an offer or answer
    EXPECT_TRUE(packet(phone, 60'000));
    EXPECT_FALSE(heard(thief, 60'001));
    EXPECT_TRUE(heard(mapped, 70'000));
}

TEST_F(Learning, AnotherPortIsHeardAtOnceAndTakesTheLegWhenThePresentOneIsSilent) {
    EXPECT_TRUE(packet(phone, 0));
    for (unsigned n = 1; n < 100; ++n) { // both speak
        EXPECT_FALSE(packet(mapped, 5000 + n * 20));
        EXPECT_FALSE(packet(phone, 5010 + n * 20));
    }
    EXPECT_EQ(accepted, 199u) << "all were heard";
    unsigned until_moved = 0;
    while (!packet(mapped, 8000 + until_moved * 20))
        ASSERT_LT(++until_moved, 100u);
    EXPECT_EQ(until_moved * 20, port_silence_ns / ms);
    EXPECT_TRUE(same_address(f.from(), mapped));
}

TEST_F(Learning, AStrictSourceKeepsItsPort) {
    f.strict_port = 1;
    EXPECT_TRUE(packet(mapped, 0));
    EXPECT_TRUE(packet(phone, 100));
    EXPECT_TRUE(heard(mapped, 200));
    EXPECT_FALSE(heard(mapped, 3000));
    EXPECT_TRUE(heard(phone, 3000));
}

TEST_F(Learning, AFollowedLegMovesButNotWithEachPacket) {
    f.source = api::source_policy::followed;
    EXPECT_TRUE(packet(phone, 0));
    EXPECT_FALSE(moves_leg(f, thief, 2, 1050 * ms));
    EXPECT_TRUE(moves_leg(f, thief, 3, 1100 * ms));
    EXPECT_EQ(f.rule, source_rule::followed);
}

} // namespace
} // namespace tandem::flow
