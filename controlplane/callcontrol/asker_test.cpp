// SPDX-License-Identifier: Apache-2.0
// Who may ask, how much is told, what is said of what is not done; work stays bounded whatever comes.
#include <gtest/gtest.h>

#include "controlplane/callcontrol/cookie_cache.hpp"
#include "controlplane/callcontrol/ng_fixture.hpp"

namespace tandem::callcontrol {
namespace {

using namespace std::chrono_literals;

bool is_in(const char* prefix, const char* address) {
    const auto one = read_network(prefix);
    EXPECT_TRUE(one) << prefix;
    return one && one->contains(asio::ip::make_address(address));
}

TEST(Network, PrefixesOfBothFamilies) {
    EXPECT_TRUE(is_in("198.51.100.0/24", "198.51.100.255"));
    EXPECT_FALSE(is_in("198.51.100.0/24", "198.51.101.0"));
    EXPECT_TRUE(is_in("198.51.100.128/25", "198.51.100.200"));
    EXPECT_FALSE(is_in("198.51.100.128/25", "198.51.100.127"));
    EXPECT_TRUE(is_in("198.51.100.7", "198.51.100.7"));
    EXPECT_FALSE(is_in("198.51.100.7", "198.51.100.6"));
    EXPECT_TRUE(is_in("0.0.0.0/0", "203.0.113.1"));
    EXPECT_FALSE(is_in("0.0.0.0/0", "2001:db8::1"));
    EXPECT_TRUE(is_in("2001:db8::/33", "2001:db8:7fff::1"));
    EXPECT_FALSE(is_in("2001:db8::/33", "2001:db8:8000::1"));
    for (const auto* wrong : {"", "x", "198.51.100.0/33", "198.51.100.0/", "198.51.100.0/-1", "::/129", "1.2.3.4/24x"})
        EXPECT_FALSE(read_network(wrong)) << wrong;
}

TEST(ReplyBudget, ASourceGetsSoMuchASecond) {
    reply_budget budget;
    const auto victim = asio::ip::make_address("203.0.113.7");
    auto now = reply_budget::clock::time_point(1h);
    std::size_t sent = 0;
    for (int i = 0; i < 10'000; ++i)
        if (budget.take(victim, 20'000, false, now))
            sent += 20'000;
    EXPECT_LT(sent, reply_budget::for_strangers + 20'001);
    for (int i = 0; i < 1000; ++i)
        if (budget.take(victim, 1000, false, now += 10ms))
            sent += 1000;
    EXPECT_LT(sent, reply_budget::for_strangers * 12);
    EXPECT_TRUE(budget.take(asio::ip::make_address("203.0.113.8"), 1000, false, now));
    EXPECT_TRUE(budget.take(victim, 1, true, now + 1s)) << "a known proxy has more";
}

TEST(FlagCounters, NamesFromOutsideHaveAnEnd) {
    flag_counters counts;
    for (int i = 0; i < 1000; ++i)
        counts.count({"flag made-up-" + std::to_string(i), "flag known"});
    EXPECT_EQ(counts.each().size(), flag_counters::most);
    EXPECT_EQ(counts.each().at("flag known"), 1000u);
    EXPECT_EQ(counts.others(), 1000 - (flag_counters::most - 1));
}

// 60,000 requests without a Call-ID shared one key, and each looked through them all.
TEST(Cookies, RequestsOfOneCallOrOfNoneCostTheSameHoweverManyThereAre) {
    cookie_cache cache(1s);
    auto now = cookie_cache::clock::time_point(1h);
    for (int i = 0; i < 400'000; ++i) {
        const auto key = "k" + std::to_string(i);
        ASSERT_EQ(cache.begin(key, now).what, cookie_cache::found::fresh);
        cache.belongs(key, i % 2 == 0 ? "" : "one call");
        cache.finish(key, std::string(100, 'x'));
        now += 1us;
    }
    EXPECT_LE(cache.size(), cookie_cache::most);
    cache.forget_call("one call");
    EXPECT_EQ(cache.begin("late", now + 2s).what, cookie_cache::found::fresh);
    EXPECT_EQ(cache.size(), 1u) << "all have had their time";
    EXPECT_EQ(cache.bytes(), 0u);
}

class Asker : public ng_fixture {};

TEST_F(Asker, WhatIsNotDoneIsSaidAndCounted) {
    const auto body = sdp("198.51.100.1", 4000);
    const auto warning = [&](entries more) {
        return std::string(offer("c", body, std::move(more)).text_of("warning"));
    };
    EXPECT_EQ(warning({}), "");
    EXPECT_EQ(warning({{"flags", bencode::list{"record call", "no-such_thing"}},
                       {"ptime", 20},
                       {"T.38", bencode::list{"decode"}}}),
              "Not supported, ignored: flag record-call, flag no-such-thing, key ptime, key T.38");
    EXPECT_EQ(warning({{"ICE", "force"}, {"replace", bencode::list{"origin", "no-such"}}}),
              "Not supported, ignored: key ICE=force, key replace=no-such");
    EXPECT_EQ(warning({{"delete-delay", 0}}), "");
    EXPECT_EQ(
        warning({{"flags", bencode::dict{{"a", "b"}}},
                 {"rtcp-mux", bencode::list{bencode::value(5)}},
                 {"replace", 5},
                 {"direction", bencode::list{"core"}},
                 {"received-from", bencode::list{"IP4"}},
                 {"limit", "x"}}),
        "Not supported, ignored: key flags, key rtcp-mux, key replace, key direction, key received-from, key limit")
        << "values that such a key cannot have";
    EXPECT_EQ(warning({{"delete delay", "30"}}), "Not supported, ignored: key delete-delay=30");
    EXPECT_EQ(warning({{"transport-protocol", "UDP/X"}, {"SDES", bencode::list{"nonew"}}}),
              "Not supported, ignored: key transport-protocol=UDP/X, key SDES=nonew");
    const auto& counts = server->ignored().each();
    EXPECT_EQ(counts.at("flag record-call"), 1u);
    EXPECT_EQ(counts.at("key ptime"), 1u);
    const auto refused = offer("d", "garbage", {{"ptime", 20}});
    EXPECT_EQ(refused.find("warning"), nullptr) << "an error has its reason alone";
    EXPECT_EQ(counts.at("key ptime"), 2u);
}

TEST_F(Asker, TheHarmlessAreFewAndTheDoneOnesAreNotWarnedOf) {
    const auto body = sdp("198.51.100.1", 4000);
    bencode::value flags(bencode::list{});
    for (const auto* one : {"symmetric",
                            "force",
                            "no-redis-update",
                            "unidirectional",
                            "debug",
                            "debugging",
                            "port-latching",
                            "reset",
                            "reject-ICE",
                            "original-sendrecv",
                            "trust-address",
                            "SIP-source-address",
                            "asymmetric",
                            "strict source",
                            "media_handover",
                            "pad-crypto",
                            "endpoint-learning-heuristic",
                            "replace-origin",
                            "rtcp-mux-offer",
                            "SDES-pad"})
        flags.push(one);
    const auto reply = offer("c", body,
                             {{"flags", flags},
                              {"ICE", "remove"},
                              {"DTLS", "off"},
                              {"replace", bencode::list{"origin", "session connection"}},
                              {"received from", bencode::list{"IP4", "203.0.113.1"}},
                              {"via-branch", "x"},
                              {"supports", bencode::list{"load limit"}},
                              {"metadata", "caller=a"}});
    EXPECT_EQ(reply.text_of("result"), "ok");
    EXPECT_EQ(reply.text_of("warning"), "");
}

TEST_F(Asker, WhatIsSaidOfTheUnknownHasAnEndAndNoControlCharacters) {
    bencode::value flags(bencode::list{});
    for (int i = 0; i < 200; ++i)
        flags.push("x\n" + std::to_string(i) + std::string(200, 'y'));
    const auto text = std::string(offer("c", sdp("198.51.100.1", 4000), {{"flags", flags}}).text_of("warning"));
    EXPECT_LT(text.size(), 1200u);
    EXPECT_EQ(text.find('\n'), std::string::npos);
    EXPECT_EQ(server->ignored().each().size(), 16u);
}

} // namespace
} // namespace tandem::callcontrol
