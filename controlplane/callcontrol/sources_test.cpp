// SPDX-License-Identifier: Apache-2.0
// Who is asked about where a leg's media come from: flags by rtpengine's names, addresses of SDP and SIP, for the
// message's sender alone.
#include <gtest/gtest.h>

#include "controlplane/callcontrol/call.hpp"
#include "controlplane/callcontrol/ng_fixture.hpp"

namespace tandem::callcontrol {
namespace {

using media::learning;

class Sources : public ng_fixture {
protected:
    // The offerer's leg, after an offer with this.
    media::source_wish after(entries more, const std::string& address = "198.51.100.1") {
        const auto id = "s" + std::to_string(++calls_);
        EXPECT_EQ(offer(id, sdp(address, 4000), std::move(more)).text_of("result"), "ok");
        EXPECT_EQ(answer(id, sdp("198.51.100.2", 5000)).text_of("result"), "ok");
        return asked(static_cast<media::media_id>(calls_)).legs[0].source;
    }
    std::optional<learning> learns(bencode::value flags) { return after({{"flags", std::move(flags)}}).how; }
    unsigned calls_ = 0;
};

bencode::value one(const char* flag) {
    return bencode::list{flag};
}

TEST_F(Sources, LearningByTheFlagsOfRtpengine) {
    EXPECT_EQ(learns(bencode::list{}), std::nullopt) << "as configured";
    EXPECT_EQ(learns(one("symmetric")), std::nullopt);
    EXPECT_EQ(learns(one("asymmetric")), learning::off);
    EXPECT_EQ(learns(one("media handover")), learning::always);
    EXPECT_EQ(learns(one("media_handover")), learning::always);
    EXPECT_EQ(learns(one("endpoint-learning-off")), learning::off);
    for (const auto* how : {"immediate", "delayed", "heuristic", "once"})
        EXPECT_EQ(learns(one((std::string("endpoint-learning-") + how).c_str())), learning::once) << how;
    EXPECT_EQ(learns(one("endpoint learning always")), learning::always);
    EXPECT_EQ(after({{"endpoint-learning", "off"}}).how, learning::off);
    EXPECT_TRUE(after({{"flags", one("strict-source")}}).strict);
    EXPECT_FALSE(after({}).strict);
}

TEST_F(Sources, AFlagIsForTheSenderOfItsMessage) {
    ASSERT_EQ(offer("c", sdp("198.51.100.1", 4000), {{"flags", one("asymmetric")}}).text_of("result"), "ok");
    ASSERT_EQ(answer("c", sdp("198.51.100.2", 5000), {{"flags", one("strict-source")}}).text_of("result"), "ok");
    const auto& legs = asked(1).legs;
    EXPECT_EQ(legs[0].source.how, learning::off);
    EXPECT_FALSE(legs[0].source.strict);
    EXPECT_EQ(legs[1].source.how, std::nullopt);
    EXPECT_TRUE(legs[1].source.strict);
}

TEST_F(Sources, BothAddressesOfSignallingAreTold) {
    const auto from = [](const char* address) { return bencode::value(bencode::list{"IP4", address}); };
    const auto behind_nat = after({{"received-from", from("203.0.113.7")}}, "192.168.1.2");
    EXPECT_EQ(behind_nat.signalled, asio::ip::make_address("192.168.1.2"));
    EXPECT_EQ(behind_nat.received_from, asio::ip::make_address("203.0.113.7"));
    EXPECT_EQ(asked(1).legs[0].remote_rtp->address, asio::ip::make_address("203.0.113.7"));
    const auto carrier = after({{"received-from", from("100.64.0.9")}}, "10.0.0.5");
    EXPECT_EQ(carrier.signalled, std::nullopt) << "what the SDP says is the remote";
    EXPECT_EQ(carrier.received_from, asio::ip::make_address("100.64.0.9"));
    EXPECT_EQ(asked(2).legs[0].remote_rtp->address, asio::ip::make_address("10.0.0.5"));
}

TEST_F(Sources, ARunningCallLearnsAnewWithItsOfferAlready) {
    establish("c");
    EXPECT_TRUE(relay.learnt_anew.empty());
    ASSERT_EQ(offer("c", sdp("10.64.0.2", 4000)).text_of("result"), "ok");
    EXPECT_EQ(relay.learnt_anew, std::vector<media::media_id>{1});
}

// A phone behind an agent that knows its LAN's address alone would else be taken for one in the core.
TEST_F(Sources, AUnitsPhoneUnderItsLansAddressIsReachedAtItsInnerOne) {
    received_from_required = true;
    boot();
    const bencode::value inner(bencode::list{"IP4", "10.64.0.2"});
    unsigned n = 0;
    for (const auto& [address, flags] : {std::pair{"192.168.7.7", bencode::list{}},
                                         {"127.0.0.1", bencode::list{}},
                                         {"169.254.3.4", bencode::list{}},
                                         {"203.0.113.9", bencode::list{"SIP-source-address"}}}) {
        const auto id = "u" + std::to_string(++n);
        const auto offered =
            offer(id, sdp(address, 4000, std::string("a=rtcp:4001 IN IP4 ") + address + "\r\n"),
                  {{"metadata", "caller=alice;callee=bob"}, {"received-from", inner}, {"flags", flags}});
        ASSERT_EQ(offered.text_of("result"), "ok") << offered.text_of("error-reason");
        ASSERT_EQ(answer(id, sdp("198.51.100.2", 5000)).text_of("result"), "ok");
        const auto& leg = asked(n).legs[0];
        EXPECT_EQ(fake_relay::text(leg), "unit:alice") << address;
        EXPECT_EQ(leg.remote_rtp, (media::endpoint{asio::ip::make_address("10.64.0.2"), 4000}));
        EXPECT_EQ(leg.remote_rtcp, (media::endpoint{asio::ip::make_address("10.64.0.2"), 4001}));
    }
    ASSERT_EQ(offer("called", sdp("198.51.100.2", 4000), {{"metadata", "caller=bob;callee=alice"}}).text_of("result"),
              "ok");
    const auto taken = answer("called", sdp("192.168.7.7", 5000), {{"received-from", inner}});
    EXPECT_EQ(taken.text_of("result"), "ok") << taken.text_of("error-reason");
    more_settings.is_inner = [](const auto& where) { return where.to_string().starts_with("10.64."); };
    boot();
    const auto own = offer("own", sdp("10.64.0.1", 4000), {{"received-from", inner}});
    EXPECT_NE(own.text_of("error-reason").find("inner address of a unit without a session"), std::string_view::npos);
    relay.core4 = asio::ip::make_address("192.168.1.1"); // then it may well be in the core
    ASSERT_EQ(offer("private", sdp("192.168.7.7", 4000), {{"received-from", inner}}).text_of("result"), "ok");
    EXPECT_EQ(fake_relay::text(asked(n + 2).legs[0]), "core:core");
}

TEST_F(Sources, ReportsDoNotGoIntoTheInnerNetworkNorOutOfIt) {
    unsigned n = 0;
    for (const auto& [address, rtcp] : {std::pair{"198.51.100.9", "10.64.0.2"},
                                        {"10.64.0.2", "198.51.100.9"},
                                        {"10.64.0.2", "10.64.0.3"},
                                        {"198.51.100.9", "224.0.0.1"}}) {
        const auto id = "r" + std::to_string(++n);
        offer(id, sdp(address, 4000, std::string("a=rtcp:4009 IN IP4 ") + rtcp + "\r\n"));
        answer(id, sdp("198.51.100.2", 5000));
        EXPECT_EQ(asked(n).legs[0].remote_rtcp, (media::endpoint{asio::ip::make_address(address), 4009})) << rtcp;
    }
}

TEST_F(Sources, WhoNamesItsOwnHostIsLearned) {
    ASSERT_EQ(offer("c", sdp("127.0.0.1", 4000)).text_of("result"), "ok");
    ASSERT_EQ(answer("c", sdp("198.51.100.2", 5000)).text_of("result"), "ok");
    EXPECT_TRUE(asked(1).legs[0].remote_unroutable);
}

TEST_F(Sources, OutliveTheProcess) {
    const auto told = after({{"received-from", bencode::list{"IP4", "203.0.113.7"}}, {"flags", one("media-handover")}},
                            "192.168.1.2");
    const auto loaded = load(store.calls.at("s1"));
    ASSERT_TRUE(loaded);
    EXPECT_EQ(loaded->front().lines.at(0).legs[0].source, told);
}

// The data plane has no way to the kernel of its own host, in this test.
TEST_F(Sources, APeerThatMediaCannotReachIsRefusedInWords) {
    more_settings.unreachable = [](const auto& where) {
        return where.address == asio::ip::make_address("198.51.100.9") ? std::string("not there, do this")
                                                                       : std::string();
    };
    boot();
    EXPECT_EQ(offer("o", sdp("198.51.100.9", 4000)).text_of("error-reason"), "not there, do this");
    ASSERT_EQ(offer("a", sdp("198.51.100.1", 4000)).text_of("result"), "ok");
    EXPECT_EQ(answer("a", sdp("198.51.100.9", 5000)).text_of("error-reason"), "not there, do this");
    EXPECT_EQ(answer("a", sdp("198.51.100.2", 5000)).text_of("result"), "ok");
}

} // namespace
} // namespace tandem::callcontrol
