// SPDX-License-Identifier: Apache-2.0
// What signalling says of a call beside its SDP: level, dialled, domains; kept with the call, also over a restart, and
// given to the relay each time. And what a call's record says of its end.
#include "controlplane/callcontrol/ng_fixture.hpp"
#include "controlplane/callcontrol/ng_request.hpp"

namespace tandem::callcontrol {
namespace {

class Metadata : public ng_fixture {};

const std::string everything =
    "caller=alice;callee=bob;caller-domain=a.example;callee-domain=[fd64::1];level=high;dialled=*77+46701";

TEST_F(Metadata, Rim16WishReachesTheRelayAndSurvivesARestart) {
    ASSERT_EQ(offer("c", sdp("10.64.0.2", 4000), {{"metadata", everything}}).text_of("result"), "ok");
    const auto check = [&] {
        EXPECT_EQ(asked(1).wish, "high");
        EXPECT_EQ(asked(1).dialled, "*77+46701");
        EXPECT_EQ(asked(1).caller_domain, "a.example");
        EXPECT_EQ(asked(1).callee_domain, "[fd64::1]");
        EXPECT_EQ(asked(1).clock_rate, 8000U);
    };
    check();
    boot();
    relay.open_media.at(1).asked.wish = "forgotten";
    ASSERT_EQ(answer("c", sdp("198.51.100.2", 5000)).text_of("result"), "ok");
    check();
    // A re-offer, by whomever, changes none of it.
    offer("c", sdp("198.51.100.2", 5000), {{"from-tag", "b"}, {"to-tag", "a"}, {"metadata", "level=basic"}});
    answer("c", sdp("10.64.0.2", 4000), {{"from-tag", "b"}});
    check();
    EXPECT_EQ(server->count().metadata_ignored, 0U);
}

// An INVITE without SDP (RFC 3261 13.2.1): the 200 has the offer, and nobody need say `offerer=callee`.
TEST_F(Metadata, AnOfferInA200IsTheCalleesByWhereItComesFrom) {
    const auto in = [](const char* address) { return std::pair{"received-from", bencode::list{"IP4", address}}; };
    const auto late = [&](const std::string& id, const std::string& who, const char* callee_at, const char* caller_at) {
        const entries tags{{"from-tag", "b"}, {"to-tag", "a"}};
        auto more = tags;
        more.insert(more.end(), {{"metadata", who}, in(callee_at)});
        for (int copies = 0; copies < 2; ++copies) { // the 200 comes again
            const auto offered = offer(id, sdp(callee_at, 5000), more);
            EXPECT_EQ(offered.text_of("result"), "ok") << offered.text_of("error-reason");
        }
        more = tags;
        more.emplace_back(in(caller_at));
        const auto taken = signal("answer", id, sdp(caller_at, 4000), more);
        EXPECT_EQ(taken.text_of("result"), "ok") << taken.text_of("error-reason");
        const auto& m = asked(relay.next - 1);
        return fake_relay::text(m.legs[0]) + " " + fake_relay::text(m.legs[1]) + " " + m.caller_unit + ">" +
               m.callee_unit;
    };
    EXPECT_EQ(late("u1", "caller=alice;callee=bob", "198.51.100.2", "10.64.0.2"), "core:core unit:alice alice>");
    EXPECT_EQ(late("u2", "caller=bob;callee=alice", "10.64.0.2", "198.51.100.2"), "unit:alice core:core >alice");
    EXPECT_EQ(late("u3", "caller=alice;callee=carol", "10.64.0.3", "10.64.0.2"), "unit:carol unit:alice alice>carol");
    EXPECT_EQ(late("u4", "caller=zoe;callee=bob", "198.51.100.2", "198.51.100.3"), "core:core core:core >");
    // An INVITE with SDP says who called, whatever name it has.
    ASSERT_EQ(offer("s", sdp("198.51.100.9", 4000), {{"metadata", "caller=alice;callee=bob"}, in("198.51.100.9")})
                  .text_of("result"),
              "ok");
    EXPECT_EQ(fake_relay::text(asked(relay.next - 1).legs[1]), "core:core");
}

TEST_F(Metadata, WhatCannotBeIsIgnoredAndCounted) {
    const auto bad =
        "caller=alice;callee=bob;level=hi gh;dialled=*77\x01x;caller-domain=a/b;callee-domain=" + std::string(300, 'x');
    ASSERT_EQ(offer("c", sdp("10.64.0.2", 4000), {{"metadata", bad}}).text_of("result"), "ok");
    EXPECT_EQ(server->count().metadata_ignored, 4U);
    EXPECT_EQ(asked(1).wish + asked(1).dialled + asked(1).caller_domain + asked(1).callee_domain, "");
    EXPECT_EQ(asked(1).caller, "alice");
}

TEST_F(Metadata, CallsOfBeforeTheseKeysAreStillRead) {
    establish("c");
    auto& text = store.calls["c"];
    for (const std::string key : {",\"wish\":\"\"", "\"dialled\":\"\",", "\"caller_domain\":\"\",",
                                  "\"callee_domain\":\"\",", "\"clock_rate\":8000,"}) {
        const auto at = text.find(key);
        ASSERT_NE(at, std::string::npos) << key << " in " << text;
        text.erase(at, key.size());
    }
    boot();
    EXPECT_EQ(server->count().calls_recovered, 1U);
}

class Names : public ng_fixture {
protected:
    // +46701 is a name of alice's; alice and carol are units.
    void know(bool strict = false) {
        more_settings.unit_of = [](const std::string& name) -> std::string {
            return name == "+46701" ? "alice" : name == "alice" || name == "carol" ? name : "";
        };
        more_settings.strict_names = strict;
        boot();
    }
    void end() { command("delete", {{"call-id", "c"}, {"from-tag", "a"}}); }
    bencode::value offer_as(const std::string& address, const std::string& caller, const std::string& callee = "bob") {
        return offer("c", sdp(address, 4000),
                     {{"metadata", "caller=" + caller + ";callee=" + callee + ";caller-domain=x.example"}});
    }
};

TEST_F(Names, AUnitSpeaksAsItsIdCodeAndItsNames) {
    know();
    for (const std::string name : {"alice", "+46701"}) {
        ASSERT_EQ(offer_as("10.64.0.2", name).text_of("result"), "ok");
        EXPECT_EQ(relay.open_media.rbegin()->second.asked.caller, name);
        EXPECT_EQ(relay.open_media.rbegin()->second.asked.caller_unit, "alice");
        EXPECT_EQ(relay.open_media.rbegin()->second.asked.caller_domain, "x.example");
        end();
    }
    EXPECT_EQ(server->count().foreign_names, 0U);
}

TEST_F(Names, SomebodyElsesNameIsNotAskedAndNotInTheRecord) {
    know();
    for (const std::string name : {"carol", "boss", "+46700"}) {
        ASSERT_EQ(offer_as("10.64.0.2", name).text_of("result"), "ok");
        EXPECT_EQ(relay.open_media.rbegin()->second.asked.caller, "alice") << name;
        EXPECT_EQ(relay.open_media.rbegin()->second.asked.caller_domain, "") << "it was of that name";
        end();
        EXPECT_EQ(store.ended.back().caller, "alice");
    }
    ASSERT_EQ(offer_as("198.51.100.9", "alice").text_of("result"), "ok");
    EXPECT_EQ(relay.open_media.rbegin()->second.asked.caller, "") << "a unit's name from the core";
    EXPECT_EQ(server->count().foreign_names, 4U);
}

TEST_F(Names, ACalleesNameFindsItsUnit) {
    know();
    ASSERT_EQ(offer_as("198.51.100.9", "bob", "+46701").text_of("result"), "ok");
    const auto& asked = relay.open_media.rbegin()->second.asked;
    EXPECT_EQ(asked.legs[1].unit, "alice");
    EXPECT_EQ(asked.callee, "+46701");
    EXPECT_EQ(asked.callee_unit, "alice");
}

TEST_F(Names, StrictNamesAreRefused) {
    know(true);
    const auto refused = offer_as("10.64.0.2", "carol");
    EXPECT_EQ(refused.text_of("result"), "error");
    EXPECT_NE(refused.text_of("error-reason").find("unit carol's"), std::string::npos)
        << refused.text_of("error-reason");
    EXPECT_EQ(offer_as("198.51.100.9", "alice").text_of("result"), "error");
    EXPECT_TRUE(relay.open_media.empty());
    EXPECT_EQ(server->size(), 0U) << "nothing is left";
    EXPECT_EQ(offer_as("10.64.0.2", "+46701").text_of("result"), "ok");
}

TEST(ClockRate, IsTheFirstPayloadTypes) {
    const auto rate = [](const std::string& formats, const std::string& more) {
        const auto read = sdp::parse("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
                                     "m=audio 4000 RTP/AVP " +
                                     formats + "\r\n" + more);
        return read ? sdp::clock_rate(read->m_lines.at(0)) : 0U;
    };
    EXPECT_EQ(rate("0", ""), 8000U);
    EXPECT_EQ(rate("9 0", ""), 8000U);
    EXPECT_EQ(rate("10", ""), 44100U);
    EXPECT_EQ(rate("96 0", "a=rtpmap:0 PCMU/8000\r\na=rtpmap:96 AMR-WB/16000\r\n"), 16000U);
    EXPECT_EQ(rate("111", "a=rtpmap:111 opus/48000/2\r\n"), 48000U);
    for (const auto* broken : {"a=rtpmap:111\r\n", "a=rtpmap:111 opus\r\n", "a=rtpmap:111 opus/0\r\n",
                               "a=rtpmap:111 opus/99999999999\r\n", "a=rtpmap:111 opus/x\r\n"})
        EXPECT_EQ(rate("111", broken), 8000U) << broken;
}

TEST_F(Metadata, EndsAreToldToTheStoreInWords) {
    const auto cause = [&] { return store.ended.empty() ? std::string("(none)") : store.ended.back().cause; };
    establish("c");
    command("delete", {{"call-id", "c"}, {"from-tag", "a"}});
    EXPECT_EQ(cause(), "hung up");
    offer("d", sdp("10.64.0.2", 4000));
    command("delete", {{"call-id", "d"}, {"from-tag", "a"}});
    EXPECT_EQ(cause(), "ended before it was answered");
    establish("e");
    relay.on_ended(3, "e", "media timeout: unit alice was silent");
    EXPECT_EQ(cause(), "media timeout: unit alice was silent");
    // The process died after its media's end and before its own.
    establish("f");
    relay.open_media.clear();
    boot();
    EXPECT_EQ(cause(), "media ended");
    EXPECT_EQ(store.ended.size(), 4U);
    EXPECT_TRUE(store.calls.empty());
}

} // namespace
} // namespace tandem::callcontrol
