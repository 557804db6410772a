// SPDX-License-Identifier: Apache-2.0
// Who gets a call when room is short, and what a call may take.
#include <gtest/gtest.h>

#include "controlplane/callcontrol/ng_fixture.hpp"

namespace tandem::callcontrol {
namespace {

class Admission : public ng_fixture {
protected:
    static bencode::value from(const std::string& address) {
        return bencode::list{bencode::value(address.find(':') == std::string::npos ? "IP4" : "IP6"),
                             bencode::value(address)};
    }
    bencode::value call_of(const std::string& source, entries more = {}) {
        more.emplace_back("received-from", from(source));
        return offer("c" + std::to_string(++calls_), sdp("198.51.100.1", 4000), std::move(more));
    }
    static bool is_full(const bencode::value& reply) {
        return reply.text_of("error-reason") == "Parallel session limit reached";
    }
    unsigned calls_ = 0;
};

TEST_F(Admission, AboveFourFifthsASourceHasNoMoreThanItsShare) {
    double use = 0.79;
    more_settings.use = [&] { return use; };
    boot();
    for (int i = 0; i < 40; ++i)
        ASSERT_EQ(call_of("203.0.113.1").text_of("result"), "ok");
    use = 0.8;
    EXPECT_TRUE(is_full(call_of("203.0.113.1")));
    const auto told = call_of("203.0.113.1", {{"supports", bencode::list{"load limit"}}});
    EXPECT_EQ(told.text_of("result"), "load limit");
    EXPECT_NE(told.text_of("message").find("203.0.113.1"), std::string::npos) << told.text_of("message");
    EXPECT_EQ(call_of("203.0.113.2").text_of("result"), "ok");
    EXPECT_EQ(offer("c1", sdp("198.51.100.1", 4000), {{"received-from", from("203.0.113.1")}}).text_of("result"), "ok")
        << "a call that is up";
    EXPECT_EQ(offer("unknown", sdp("198.51.100.1", 4000)).text_of("result"), "ok") << "no source, no share";
    for (int i = 1; i <= 30; ++i)
        ASSERT_EQ(command("delete", {{"call-id", "c" + std::to_string(i)}, {"from-tag", "a"}}).text_of("result"), "ok");
    EXPECT_EQ(call_of("203.0.113.1").text_of("result"), "ok") << "its calls have ended";
}

TEST_F(Admission, WhetherAnOfferWasTurnedAwayIsToldToAFatalDelete) {
    bool room = false;
    more_settings.trouble = [&] { return room ? "" : "no room"; };
    boot();
    const auto ended = [&](const std::string& id) -> std::string { // whose reply does not live on
        const auto reply = command("delete", {{"call-id", id}, {"from-tag", "a"}, {"flags", bencode::list{"fatal"}}});
        return std::string(reply.text_of("result"));
    };
    EXPECT_TRUE(is_full(offer("full", sdp("198.51.100.1", 4000))));
    EXPECT_EQ(ended("full"), "ok") << "it may come again";
    room = true;
    EXPECT_EQ(offer("bad", "no SDP").text_of("result"), "error");
    EXPECT_EQ(ended("bad"), "error") << "it may not";
    room = false;
    for (int i = 0; i < 1024; ++i)
        ASSERT_TRUE(is_full(offer("other" + std::to_string(i), sdp("198.51.100.1", 4000))));
    EXPECT_EQ(ended("full"), "error") << "a thousand refusals are remembered";
}

TEST_F(Admission, AnIpv6NetworkIsOneSource) {
    more_settings.use = [] { return 1.0; };
    boot();
    for (int i = 0; i < 16; ++i)
        ASSERT_EQ(call_of("2001:db8::" + std::to_string(i + 1)).text_of("result"), "ok");
    EXPECT_TRUE(is_full(call_of("2001:db8::ffff")));
    EXPECT_EQ(call_of("2001:db8:0:1::1").text_of("result"), "ok");
}

TEST_F(Admission, APartOfTheCallsIsForUnits) {
    more_settings.max_calls = 10;
    boot();
    for (int i = 0; i < 9; ++i)
        ASSERT_EQ(call_of("203.0.113.1").text_of("result"), "ok");
    EXPECT_TRUE(is_full(call_of("203.0.113.2")));
    EXPECT_EQ(call_of("203.0.113.2", {{"metadata", "caller=bob;callee=alice"}}).text_of("result"), "ok");
    EXPECT_TRUE(is_full(call_of("203.0.113.2", {{"metadata", "caller=bob;callee=alice"}})));
    units.units.clear();
    ASSERT_EQ(command("delete", {{"call-id", "c1"}, {"from-tag", "a"}}).text_of("result"), "ok");
    EXPECT_EQ(call_of("203.0.113.2").text_of("result"), "ok") << "no unit is connected: nothing is kept for any";
}

TEST_F(Admission, EightMediaTakePorts) {
    std::string many = sdp("198.51.100.1", 4000);
    for (int i = 1; i < 32; ++i)
        many += "m=audio " + std::to_string(4000 + 2 * i) + " RTP/AVP 0\r\n";
    const auto reply = offer("many", many);
    ASSERT_EQ(reply.text_of("result"), "ok");
    EXPECT_EQ(relay.open_media.size(), 8u);
    const std::string text(reply.text_of("sdp"));
    std::size_t lines = 0, rejected = 0;
    for (auto at = text.find("m=audio "); at != std::string::npos; at = text.find("m=audio ", at + 1)) {
        ++lines;
        rejected += text.compare(at, 10, "m=audio 0 ") == 0;
    }
    EXPECT_EQ(lines, 32u);
    EXPECT_EQ(rejected, 24u);
}

TEST_F(Admission, ManyRequestsOfOneCallWaitForItsTurnButNotAnyNumber) {
    ASSERT_EQ(offer("c", sdp("198.51.100.1", 4000)).text_of("result"), "ok");
    relay.delay = std::chrono::milliseconds(500); // all have come before the first is done
    const bencode::value answering(entries{{"command", "answer"},
                                           {"call-id", "c"},
                                           {"from-tag", "a"},
                                           {"to-tag", "b"},
                                           {"sdp", sdp("198.51.100.2", 5000)}});
    for (int i = 0; i < 100; ++i)
        send("w" + std::to_string(i) + " " + bencode::print(answering)); // cookies that no command has had
    unsigned busy = 0;
    for (int i = 0; i < 100; ++i) {
        const auto reply = receive(std::chrono::seconds(10));
        ASSERT_TRUE(reply) << i;
        busy += reply->find("Too many requests of this call") != std::string::npos;
        relay.delay = std::chrono::milliseconds(0);
    }
    EXPECT_EQ(busy, 100u - 1 - 64);
}

TEST_F(Admission, AUnitsLegIsHadOnlyFromThatUnit) {
    received_from_required = true;
    boot();
    const auto body = sdp("10.64.0.2", 4000);
    const auto why = [&](entries more) {
        return std::string(offer("u", body, std::move(more)).text_of("error-reason"));
    };
    EXPECT_NE(why({}).find("has no received-from"), std::string::npos);
    EXPECT_NE(why({{"received-from", from("203.0.113.9")}}).find("came from 203.0.113.9"), std::string::npos);
    EXPECT_NE(why({{"received-from", from("10.64.0.3")}}).find("came from 10.64.0.3"), std::string::npos)
        << "another unit";
    EXPECT_EQ(why({{"received-from", from("10.64.0.2")}}), "");
    // The answer likewise; held by address, too.
    ASSERT_EQ(offer("in", sdp("198.51.100.1", 4000), {{"metadata", "caller=bob;callee=alice"}}).text_of("result"),
              "ok");
    for (const auto& text : {body, sdp("0.0.0.0", 4000)}) {
        EXPECT_NE(answer("in", text).text_of("error-reason").find("received-from"), std::string::npos);
        EXPECT_NE(answer("in", text, {{"received-from", from("10.64.0.3")}}).text_of("error-reason").find("came from"),
                  std::string::npos);
    }
    EXPECT_EQ(answer("in", body, {{"received-from", from("fd64::2")}}).text_of("result"), "ok")
        << "any inner address of the unit";
}

TEST_F(Admission, WhereReceivedFromIsOptionalAWrongOneIsStillRefused) {
    EXPECT_EQ(offer("u", sdp("10.64.0.2", 4000)).text_of("result"), "ok");
    EXPECT_NE(offer("v", sdp("10.64.0.2", 4000), {{"received-from", from("203.0.113.9")}}).text_of("error-reason"), "");
}

} // namespace
} // namespace tandem::callcontrol
