// SPDX-License-Identifier: Apache-2.0
// Where clear media may come from, as asked for and as configured; begun anew by signalling; shown.
#include <gtest/gtest.h>

#include "controlplane/media/fakes.hpp"

namespace tandem::media {
namespace {

using policy_of = api::source_policy;

struct learning_test : stand {
    api::source_config source(media_id id, std::size_t leg, bool rtcp = false) {
        const auto shape = now->relay.info(id)->legs[leg].local;
        for (const auto& [flow, kept] : dataplane.copy())
            if ((flow & 0xffff) == (rtcp ? shape.rtcp.port : shape.rtp.port) && kept.config.tag == id)
                return kept.config.source;
        ADD_FAILURE() << "no such flow";
        return {};
    }
    static bool is(const api::net_address& wire, const char* ip, std::uint16_t port) {
        const auto wanted = dataplane_client::to_net_address(asio::ip::make_address(ip), port);
        return std::memcmp(&wire, &wanted, sizeof(wire)) == 0;
    }
    static leg_request from_nat() { // SDP and SIP of a phone behind a carrier's NAT
        auto leg = core_leg();
        leg.remote_rtp = endpoint{asio::ip::make_address("100.64.7.7"), 7000};
        leg.remote_rtcp = endpoint{asio::ip::make_address("100.64.7.7"), 7001};
        leg.remote_unroutable = true;
        leg.source.signalled = asio::ip::make_address("192.168.1.2");
        leg.source.received_from = asio::ip::make_address("100.64.7.7");
        return leg;
    }
};

TEST_F(learning_test, OnceIsTheDefaultAndBothAddressesOfSignallingAreTheLikelyOnes) {
    const auto id = set_up(call(core_leg(), from_nat()));
    ASSERT_NE(id, 0u) << last_error;
    const auto plain = source(id, 0);
    EXPECT_EQ(plain.policy, policy_of::learned);
    EXPECT_EQ(plain.window_ms, 3000);
    EXPECT_EQ(plain.strict_port, 0);
    EXPECT_TRUE(is(plain.signalled, "198.51.100.77", 7000));
    EXPECT_EQ(plain.received_from.port, 0);
    const auto nat = source(id, 1);
    EXPECT_TRUE(is(nat.signalled, "192.168.1.2", 7000));
    EXPECT_TRUE(is(nat.received_from, "100.64.7.7", 0));
    EXPECT_TRUE(is(source(id, 1, true).signalled, "192.168.1.2", 7001));
}

TEST_F(learning_test, FlagsAndInterfacesChooseAnother) {
    options.learning_of["core"] = learning::off;
    restart();
    auto asked = core_leg();
    asked.source.how = learning::always;
    auto strict = core_leg();
    strict.source.strict = true;
    const auto id = set_up(call(std::move(asked), std::move(strict)));
    ASSERT_NE(id, 0u) << last_error;
    EXPECT_EQ(source(id, 0).policy, policy_of::followed);
    EXPECT_EQ(source(id, 1).policy, policy_of::signalled) << "as configured for the interface";
    EXPECT_TRUE(is(source(id, 1).signalled, "198.51.100.77", 7000)) << "strict: the port counts";
    EXPECT_EQ(now->relay.info(id)->legs[0].learning, "always");
    EXPECT_EQ(now->relay.info(id)->legs[1].learning, "off");
    const auto other = set_up(call(core_leg(), core_leg(), "c2"));
    EXPECT_TRUE(is(source(other, 0).signalled, "198.51.100.77", 0)) << "any port of the address";
    EXPECT_TRUE(now->relay.unknown_names().empty());
    options.learning_of["trunk"] = learning::off;
    restart();
    EXPECT_EQ(now->relay.unknown_names(), std::vector<std::string>{"trunk"});
}

TEST_F(learning_test, StrictReceivedFromIsNoWayAroundThePort) {
    options.endpoint_learning = learning::off;
    restart();
    auto same = core_leg(); // a phone that is where it says: both addresses of signalling are one
    same.source.strict = true;
    same.source.received_from = asio::ip::make_address("198.51.100.77");
    auto nat = from_nat();
    nat.source.strict = true;
    const auto id = set_up(call(same, nat));
    ASSERT_NE(id, 0u) << last_error;
    EXPECT_TRUE(is(source(id, 0).received_from, "198.51.100.77", 7000));
    EXPECT_TRUE(is(source(id, 0, true).received_from, "198.51.100.77", 7001));
    EXPECT_TRUE(is(source(id, 1).received_from, "100.64.7.7", 7000));
    same.source.strict = false;
    ASSERT_TRUE(now->update(id, call(same, nat)));
    EXPECT_TRUE(is(source(id, 0).received_from, "198.51.100.77", 0)) << "an update carries it";
    same.source.strict = true;
    ASSERT_TRUE(now->update(id, call(same, nat)));
    EXPECT_TRUE(is(source(id, 0).received_from, "198.51.100.77", 7000));
    EXPECT_EQ(log.count("replace"), 0u);
}

TEST_F(learning_test, ALegOfWhichOnlyRtcpIsKnown) {
    auto leg = from_nat();
    leg.remote_rtp.reset();
    leg.source.how = learning::off;
    leg.source.strict = true;
    auto request = call(core_leg(), std::move(leg));
    request.early = true;
    const auto opened = now->wait(now->relay.open(request));
    ASSERT_TRUE(opened) << opened.error().text;
    const auto rtp = source(opened->id, 1), rtcp = source(opened->id, 1, true);
    EXPECT_TRUE(is(rtp.received_from, "::", 0)) << "strict, and no port: nobody";
    EXPECT_TRUE(is(rtcp.signalled, "100.64.7.7", 7001));
}

TEST_F(learning_test, OffSendsWhereSignallingSaysBehindANat) {
    options.endpoint_learning = learning::off;
    restart();
    const auto id = set_up(call(core_leg(), from_nat()));
    ASSERT_NE(id, 0u) << last_error;
    EXPECT_EQ(dataplane.copy().at(flow(id, 0)).config.route.rtp_remote.port, 7000);
}

TEST_F(learning_test, SrtpIsHeardWhereverItComesFromAfterAuthenticationAlone) {
    auto leg = from_nat();
    leg.srtp = keys(7);
    leg.source.how = learning::always;
    const auto id = set_up(call(core_leg(), std::move(leg)));
    ASSERT_NE(id, 0u) << last_error;
    EXPECT_EQ(source(id, 1).policy, policy_of::authenticated);
    EXPECT_EQ(now->relay.info(id)->legs[1].learning, "");
}

TEST_F(learning_test, EachAnswerAndOfferBeginsItAnew) {
    const auto request = call(core_leg(), core_leg());
    const auto id = set_up(request);
    ASSERT_NE(id, 0u) << last_error;
    const auto before = log.count("update");
    ASSERT_TRUE(now->update(id, request)) << "nothing changed";
    EXPECT_EQ(log.count("update"), before + 1);
    now->wait(now->relay.learn_anew({id, id + 1}));
    EXPECT_EQ(log.count("update"), before + 2);
    auto secured = request; // the one leg's crypto changes: flows are replaced
    secured.legs[1].srtp = keys(9);
    ASSERT_TRUE(now->update(id, secured));
    EXPECT_EQ(source(id, 0).anew, 1);
    EXPECT_EQ(source(id, 1).anew, 0);
}

TEST_F(learning_test, ARekeyIsNoSignalling) {
    levels.level.rekey = std::chrono::milliseconds(100);
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    ASSERT_NE(id, 0u) << last_error;
    const auto before = log.count("update");
    ASSERT_TRUE(now->until([&] { return now->relay.info(id)->rekeys > 1; }));
    EXPECT_EQ(log.count("update"), before);
}

TEST_F(learning_test, WhatWasLearnedIsShownAndOutlivesTheControlPlane) {
    const auto id = set_up(call(core_leg(), from_nat()));
    ASSERT_NE(id, 0u) << last_error;
    dataplane.send(api::event_type::flow_latched, flow(id, 1), id,
                   dataplane_client::to_net_address(asio::ip::make_address("100.64.7.7"), 40404),
                   api::source_rule::received_from);
    ASSERT_TRUE(now->until([&] { return !now->relay.info(id)->legs[1].source_rule.empty(); }));
    const auto leg = now->relay.info(id)->legs[1];
    EXPECT_EQ(leg.source_rule, "received-from");
    EXPECT_EQ(leg.remote->port, 40404);
    EXPECT_GE(leg.source_seconds, 0);
    EXPECT_LT(leg.source_seconds, 5);
    const auto before = source(id, 1);
    restart();
    ASSERT_TRUE(now->until([&] { return now->relay.ready() && now->relay.info(id).has_value(); }));
    ASSERT_TRUE(now->update(id, call(core_leg(), from_nat())));
    const auto after = source(id, 1);
    EXPECT_TRUE(is(after.received_from, "100.64.7.7", 0));
    EXPECT_EQ(after.window_ms, before.window_ms);
}

TEST_F(learning_test, ClearMediaAreCarriedFromTheOfferOn) {
    auto request = call(core_leg(), leg_request());
    request.early = true;
    request.legs[1].remote_unroutable = true;
    const auto opened = now->wait(now->relay.open(request));
    ASSERT_TRUE(opened) << opened.error().text;
    const auto id = opened->id;
    EXPECT_EQ(source(id, 1).policy, policy_of::learned);
    EXPECT_FALSE(now->relay.info(id)->active) << "nobody answered";
    dataplane.send(api::event_type::flow_timeout, flow(id, 0), id);
    dataplane.send(api::event_type::flow_timeout, flow(id, 1), id);
    now->run_for(std::chrono::milliseconds(200));
    ASSERT_TRUE(now->relay.info(id)) << "it rings";
    restart();
    ASSERT_TRUE(now->until([&] { return now->relay.info(id).has_value(); }));
    const auto adds = log.count("add");
    request = call(core_leg(), core_leg());
    ASSERT_TRUE(now->update(id, request));
    EXPECT_EQ(log.count("add"), adds) << "the same flows go on";
    EXPECT_EQ(log.count("replace"), 0u);
    EXPECT_TRUE(now->relay.info(id)->active);
    EXPECT_TRUE(is(source(id, 1).signalled, "198.51.100.77", 7000));
    EXPECT_EQ(dataplane.copy().at(flow(id, 0)).config.route.rtp_remote.port, 7000);
}

} // namespace
} // namespace tandem::media
