// SPDX-License-Identifier: Apache-2.0
// The primary and its media against a small gateway in the same process: real TLS 1.3 on loopback, real control
// messages, a gateway's end of a secondary on a UDP socket. Rows RIM-02 to RIM-05, RIM-10, RIM-13, ORA-05, ORA-09,
// ORA-15.
#include <gtest/gtest.h>

#include "tools/agent/link/primary_fixture.hpp"

TEST_F(Primary, Rim05ConfigWithTheStrongCipherAndKeepalives) {
    start();
    ASSERT_TRUE(until([&] { return unit->up() && gateway.count(exchange::keepalive) >= 3; }));
    const message& first = gateway.requests.front();
    EXPECT_TRUE(first.is(exchange::config));
    EXPECT_EQ(first.tsid(), protocol::no_tsid); // ORA-05
    EXPECT_EQ(first.get<tlv::id_code>(), "alice");
    EXPECT_FALSE(first.has<tlv::resume_tsid>());
    for (std::size_t i = 1; i < gateway.requests.size(); i++) { // ORA-07, ORA-15
        EXPECT_EQ(gateway.requests[i].tsid(), session_id);
        EXPECT_GT(gateway.requests[i].sequence(), gateway.requests[i - 1].sequence());
    }
    EXPECT_EQ(unit->describe()["cipher"], "TLS_AES_256_GCM_SHA384");
    EXPECT_EQ(configured, 1);
}

TEST_F(Primary, Rim04WrongKeyIsSaidInWords) {
    start(bytes(32, 8));
    ASSERT_TRUE(until([&] { return unit->describe()["failures"] > 1; }));
    const std::string error = unit->describe()["last_error"];
    EXPECT_NE(error.find("gateway refused the key of id 'alice'"), std::string::npos) << error;
    EXPECT_FALSE(unit->up());
    EXPECT_EQ(configured, 0);
}

TEST_F(Primary, AGatewayThatDoesNotKnowTheKeyIsNoGateway) {
    tcp::acceptor deaf(io,
                       tcp::endpoint(asio::ip::address_v4::loopback(), 0)); // the list's first: nobody answers there
    config.gateways = {{asio::ip::address_v4::loopback(), deaf.local_endpoint().port()}, gateway.acceptor.local()};
    deaf.close();
    start();
    EXPECT_TRUE(until([&] { return unit->up(); }));
}

TEST_F(Primary, Rim01MediaBothWaysWhileDataGoesThePrimary) {
    start();
    ASSERT_TRUE(until([&] { return unit->up(); }));
    ASSERT_EQ(ask(open_request()), status::ok);
    EXPECT_EQ(gateway.responses.back().get<tlv::unit_media>()->address.bytes, mapped(127, 0, 0, 1, 0).ip);
    const auto end = gateway_end();
    udp::endpoint sender;
    (void)end->unprotect(from_unit(sender)); // SRTCP at once, for the latch
    EXPECT_EQ(end->counters.received_rtcp, 1U);
    EXPECT_EQ(media.capture(phone_packet(phone, inner, rtp(1))), captured::media);
    const auto got = parse_packet(end->unprotect(from_unit(sender)));
    EXPECT_EQ(bytes(got.payload.begin(), got.payload.end()), rtp(1));
    EXPECT_EQ(end->counters.received, 2U);
    EXPECT_EQ(sender.port(), gateway.responses.back().get<tlv::unit_media>()->port);
    // and back
    const auto down = end->protect(packet_class::rtp, rtp(9), clock::now());
    gateway_media.send_to(asio::buffer(down.data(), down.size()), sender);
    ASSERT_TRUE(until([&] { return !to_phone.empty(); }));
    const auto view = parse_packet(to_phone.front());
    EXPECT_EQ(view.source, inner);
    EXPECT_EQ(view.destination, phone);
    EXPECT_EQ(bytes(view.payload.begin(), view.payload.end()), rtp(9));
    // RIM-06: what is not media is not taken; what is media never goes to the primary
    EXPECT_EQ(media.capture(phone_packet(phone, mapped(10, 64, 0, 1, 5060), rtp(1))), captured::not_media);
    const auto stranger = mapped(10, 64, 0, 3, 7078);
    EXPECT_EQ(media.capture(phone_packet(stranger, inner, rtp(2))), captured::media);
    EXPECT_EQ(media.capture(phone_packet(phone, inner, bytes{1, 2, 3})), captured::media);
    EXPECT_EQ(media.find(5)->counters.wrong_source, 1U);
    EXPECT_EQ(media.find(5)->counters.not_protected, 1U);
    EXPECT_TRUE(gateway.packets.empty());
    const auto sip = phone_packet(phone, mapped(10, 64, 0, 1, 5060), bytes(100, 'S'));
    unit->send(sip);
    ASSERT_TRUE(until([&] { return !gateway.packets.empty(); }));
    EXPECT_EQ(gateway.packets.front(), sip);
}

TEST_F(Primary, Rim13SeedIsAnsweredAndUsedAtOnce) {
    start();
    ASSERT_TRUE(until([&] { return unit->up(); }));
    ASSERT_EQ(ask(open_request()), status::ok);
    EXPECT_EQ(ask(seed_request(2)), status::bad_epoch);
    ASSERT_EQ(ask(seed_request(1)), status::ok);
    EXPECT_EQ(gateway.responses.back().get<tlv::epoch>(), 1U);
    EXPECT_EQ(media.find(5)->send_epoch(), 1U);
    EXPECT_EQ(media.find(5)->epochs_held(), 2U);
    EXPECT_EQ(ask(seed_request(1)), status::ok); // our answer was lost
    ASSERT_TRUE(until([&] { return media.find(5)->epochs_held() == 1; }, 1s))
        << "the old epoch must go after overlap_ms";
    auto unknown =
        message::request(exchange::seed).add<tlv::media_id>(6).add<tlv::epoch>(1).add<tlv::seed>(bytes(16, 1));
    EXPECT_EQ(ask(std::move(unknown)), status::unknown_media);
}

TEST_F(Primary, Rim10MediaCloseEndsIt) {
    start();
    ASSERT_TRUE(until([&] { return unit->up(); }));
    ASSERT_EQ(ask(open_request()), status::ok);
    ASSERT_EQ(ask(message::request(exchange::media_close).add<tlv::media_id>(5)), status::ok);
    EXPECT_TRUE(media.empty());
    // RIM-06: what the phone still sends is no data for the primary.
    EXPECT_EQ(media.capture(phone_packet(phone, inner, rtp(1))), captured::media);
    EXPECT_EQ(media.describe()["after_close"], 1);
    EXPECT_EQ(media.capture(phone_packet(phone, mapped(10, 64, 0, 1, 20002), rtp(1))), captured::not_media);
    EXPECT_EQ(ask(message::request(exchange::media_close).add<tlv::media_id>(5)), status::unknown_media);
    EXPECT_NE(ask(open_request()), status::ok) << "its seed has had its time";
    ASSERT_EQ(ask(open_request(1)), status::ok); // the port is taken again
    EXPECT_EQ(media.capture(phone_packet(phone, inner, rtp(1))), captured::media);
    EXPECT_EQ(media.find(5)->counters.sent, 1U);
}

TEST_F(Primary, MediaOpenRefusesWhatItCannotDo) {
    start();
    ASSERT_TRUE(until([&] { return unit->up(); }));
    auto request = message::request(exchange::media_open).add<tlv::media_id>(5).add<tlv::epoch>(0).add<tlv::suite>(77);
    request.add<tlv::seed>(bytes(16, 1)).add<tlv::gateway_media>(wire(inner)).add<tlv::inner_media>(wire(inner));
    request.add<tlv::phone_media>(wire(phone));
    EXPECT_EQ(ask(std::move(request)), status::bad_suite);
    ASSERT_EQ(ask(open_request()), status::ok);
    auto same = open_request();
    EXPECT_EQ(ask(std::move(same)), status::ok); // asked again: the same media goes on
    EXPECT_EQ(media.size(), 1U);
}

TEST_F(Primary, MediaSurviveAReconnectThatResumes) {
    start();
    ASSERT_TRUE(until([&] { return unit->up(); }));
    ASSERT_EQ(ask(open_request()), status::ok);
    gateway.peers.back()->carrier->close();
    ASSERT_TRUE(until([&] { return !unit->up(); }));
    EXPECT_EQ(media.capture(phone_packet(phone, inner, rtp(1))), captured::media);
    ASSERT_TRUE(until([&] { return unit->up() && gateway.count(exchange::config) == 2; }));
    EXPECT_EQ(media.size(), 1U);
    EXPECT_EQ(configured, 1); // same addresses: nothing to set, no privilege needed
    const auto resumed = std::find_if(gateway.requests.rbegin(), gateway.requests.rend(),
                                      [](const auto& m) { return m.is(exchange::config); });
    EXPECT_EQ(resumed->get<tlv::resume_tsid>(), session_id);
    EXPECT_EQ(resumed->tsid(), protocol::no_tsid);
    EXPECT_EQ(ask(seed_request(1)), status::ok);
}

TEST_F(Primary, ANewSessionEndsTheMediaOfTheOld) {
    start();
    ASSERT_TRUE(until([&] { return unit->up(); }));
    ASSERT_EQ(ask(open_request()), status::ok);
    gateway.tsid = 0x9999;
    gateway.peers.back()->carrier->close();
    ASSERT_TRUE(until([&] { return gateway.count(exchange::config) == 2 && unit->up(); }));
    EXPECT_TRUE(media.empty());
}

TEST_F(Primary, SilenceOfThreeIntervalsMeansReconnect) {
    start();
    ASSERT_TRUE(until([&] { return unit->up(); }));
    gateway.silent = true;
    ASSERT_TRUE(until([&] { return !unit->up(); }, 2s));
    gateway.silent = false;
    EXPECT_TRUE(until([&] { return unit->up(); }));
}

TEST_F(Primary, Rim03LifetimeIsWishedForAndRenewedInTime) {
    config.lifetime_s = 2;
    gateway.lifetime = 120;
    start();
    ASSERT_TRUE(until([&] { return unit->up(); }));
    EXPECT_EQ(unit->describe()["lifetime_s"], 2);
    ASSERT_EQ(ask(open_request()), status::ok);
    bool gap = false;
    ASSERT_TRUE(until([&] {
        gap = gap || !unit->up();
        return unit->describe()["renewals"] >= 1;
    }));
    EXPECT_FALSE(gap) << "the new connection must be ready before the old one goes";
    EXPECT_EQ(media.size(), 1U);
    EXPECT_EQ(ask(seed_request(1)), status::ok);
}

TEST_F(Primary, Col18ASoftMoveMakesTheNextWhileTheOldOneServes) {
    const path_place loopback{"lo", mapped(127, 0, 0, 1, 0).ip};
    start();
    ASSERT_TRUE(until([&] { return unit->up(); }));
    ASSERT_EQ(ask(open_request()), status::ok);
    EXPECT_FALSE(unit->move(loopback, move_kind::soft));
    bool gap = false;
    ASSERT_TRUE(until([&] {
        gap = gap || !unit->up();
        return unit->describe()["moves"] == 1;
    }));
    EXPECT_FALSE(gap);
    EXPECT_EQ(reached, (std::vector<std::pair<std::string, bool>>{{"lo", true}}));
    EXPECT_EQ(media.size(), 1U);
    EXPECT_TRUE(unit->move(loopback, move_kind::hard)) << "it is there already";
    EXPECT_TRUE(unit->up());
    EXPECT_EQ(ask(seed_request(1)), status::ok);
}

TEST_F(Primary, Col10AHardMoveClosesAndResumesAtOnce) {
    start();
    ASSERT_TRUE(until([&] { return unit->up(); }));
    ASSERT_EQ(ask(open_request()), status::ok);
    (void)unit->move({"lo", mapped(127, 0, 0, 2, 0).ip}, move_kind::hard);
    ASSERT_TRUE(until([&] { return unit->up() && gateway.count(exchange::config) == 2; }));
    EXPECT_EQ(std::string(unit->describe()["outer"]).substr(0, 10), "127.0.0.2:");
    EXPECT_EQ(unit->describe()["sessions"], 1);
    EXPECT_EQ(media.size(), 1U);
    EXPECT_EQ(unit->describe()["failures"], 0);
}

TEST_F(Primary, Col10AnAttemptThatAMoveEndedIsNoSilenceOfThePath) {
    const path_place loopback{"lo", mapped(127, 0, 0, 1, 0).ip};
    start();
    ASSERT_TRUE(until([&] { return unit->up(); }));
    (void)unit->move(loopback, move_kind::hard);
    ASSERT_TRUE(until([&] { return !unit->up(); }));
    (void)unit->move({}, move_kind::hard); // no path is left, and then the same one again, while it connects
    (void)unit->move(loopback, move_kind::hard);
    ASSERT_TRUE(until([&] { return unit->up(); }));
    EXPECT_EQ(reached, (std::vector<std::pair<std::string, bool>>{{"lo", true}}));
}

TEST_F(Primary, Col18BackBeforeTheAttemptHasEnded) {
    const path_place loopback{"lo", mapped(127, 0, 0, 1, 0).ip};
    start();
    ASSERT_TRUE(until([&] { return unit->up(); }));
    (void)unit->move(loopback, move_kind::soft);
    ASSERT_TRUE(until([&] { return unit->describe()["moves"] == 1; }));
    const auto before = gateway.peers.size();
    (void)unit->move({"lo", mapped(127, 0, 0, 2, 0).ip}, move_kind::soft);
    ASSERT_TRUE(until([&] { return gateway.peers.size() > before; }));
    EXPECT_TRUE(unit->move(loopback, move_kind::soft)) << "it is still there";
    EXPECT_FALSE(until([&] { return unit->describe()["moves"] != 1; }, 500ms));
    EXPECT_EQ(std::string(unit->describe()["outer"]).substr(0, 10), "127.0.0.1:");
}

TEST_F(Primary, Col09APathThatDoesNotAnswerIsTold) {
    start();
    ASSERT_TRUE(until([&] { return unit->up(); }));
    (void)unit->move({"no-such-link", mapped(127, 0, 0, 1, 0).ip}, move_kind::soft);
    ASSERT_TRUE(until([&] { return !reached.empty(); }));
    EXPECT_EQ(reached.front(), (std::pair<std::string, bool>{"no-such-link", false}));
    EXPECT_TRUE(unit->up()) << "the old one serves";
    EXPECT_EQ(gateway.count(exchange::config), 1U);
}

// Of the old connection's requests, too, some are on their way when the unit learns of the new one.
TEST_F(Primary, Rim03TheOldConnectionIsHeardForAWhile) {
    config.lifetime_s = 2;
    start();
    ASSERT_TRUE(until([&] { return unit->describe()["renewals"] >= 1; }));
    ASSERT_EQ(gateway.peers.size(), 2U);
    auto& old = *gateway.peers.front();
    EXPECT_EQ(answer_of([&] { gateway.request(old, message::request(exchange::keepalive)); }), status::ok);
    EXPECT_TRUE(unit->up());
}

// What rides on it is not to wait for an answer that cannot come.
TEST_F(Primary, TheOldConnectionIsClosedWhereItsNetworkIsGone) {
    config.lifetime_s = 2;
    start();
    ASSERT_TRUE(until([&] { return unit->describe()["renewals"] >= 1; }));
    ASSERT_EQ(gateway.peers.size(), 2U);
    const auto& old = *gateway.peers.front();
    const auto own = mapped(127, 0, 0, 1, 0).ip;
    links now;
    now.all = {{.interface = "lo", .up = true, .carrier = true, .addresses = {own}}};
    unit->links_changed(now);
    EXPECT_FALSE(until([&] { return old.ended; }, 200ms));
    now.all.front().carrier = false;
    unit->links_changed(now);
    EXPECT_TRUE(until([&] { return old.ended; }, 500ms));
    EXPECT_TRUE(unit->up());
    unit->links_changed(now); // there is none any more
    EXPECT_TRUE(unit->up());
}

// In one record with the CONFIG's answer: the unit serves them when the session that it names is in force, not before.
TEST_F(Primary, RequestsRightBehindTheConfigAnswerAreServed) {
    start();
    ASSERT_TRUE(until([&] { return unit->up(); }));
    gateway.tsid = 0x9999; // the old session's media go
    gateway.behind_config = [&](peer&) { gateway.forge(open_request(), gateway.tsid, 1); };
    gateway.peers.back()->carrier->close();
    ASSERT_TRUE(until([&] { return !gateway.responses.empty(); }));
    EXPECT_EQ(gateway.responses.front().code(), status::ok);
    EXPECT_EQ(media.size(), 1U);
}

TEST_F(Primary, Ora08WrongTsidEndsTheConnection) {
    start();
    ASSERT_TRUE(until([&] { return unit->up(); }));
    gateway.forge(message::request(exchange::keepalive), 0x777, 1);
    ASSERT_TRUE(until([&] { return !unit->up(); }));
    EXPECT_TRUE(gateway.responses.empty());
}

TEST_F(Primary, Ora15SequenceMustRise) {
    start();
    ASSERT_TRUE(until([&] { return unit->up(); }));
    const auto forged = [&](std::uint32_t sequence) {
        return answer_of([&] { gateway.forge(message::request(exchange::keepalive), session_id, sequence); });
    };
    ASSERT_EQ(forged(11), status::ok);
    EXPECT_EQ(forged(11), status::bad_sequence);
    EXPECT_EQ(forged(12), status::ok);
}

TEST_F(Primary, Ora09ReleaseFromBothSides) {
    start();
    ASSERT_TRUE(until([&] { return unit->up(); }));
    ASSERT_EQ(ask(open_request()), status::ok);
    ASSERT_EQ(ask(message::request(exchange::release).add<tlv::reason>("dropped by an operator")), status::ok);
    EXPECT_TRUE(media.empty());
    gateway.peers.back()->carrier->close();
    ASSERT_TRUE(until([&] { return gateway.count(exchange::config) == 2; }));
    EXPECT_FALSE(gateway.requests.back().has<tlv::resume_tsid>());
    ASSERT_TRUE(until([&] { return unit->up(); }));
    bool stopped = false;
    asio::co_spawn(io, unit->stop(), [&](const std::exception_ptr&) { stopped = true; });
    ASSERT_TRUE(until([&] { return stopped; }));
    EXPECT_EQ(gateway.count(exchange::release), 1U);
}

TEST_F(Primary, GarbageFromTheGatewayIsAnsweredOrDropped) {
    start();
    ASSERT_TRUE(until([&] { return unit->up(); }));
    bytes junk(40, 0xee);
    junk[0] = 0x10, junk[1] = 0, junk[2] = 0xf0, junk[3] = 1; // unknown type
    gateway.send(gateway.peers.back(), junk);
    ASSERT_TRUE(until([&] { return !gateway.undecoded.empty(); }));
    EXPECT_EQ(gateway.undecoded.back()[2], 0xf1); // the response to 0xf0: TLV 1 of 2 bytes, status unknown_type
    EXPECT_EQ(protocol::load_be(std::span(gateway.undecoded.back()).subspan(16, 6)), 0x0001'0002'0004U);
    gateway.send(gateway.peers.back(), bytes(10, 0x99));
    EXPECT_EQ(ask(message::request(exchange::keepalive)), status::ok);
    EXPECT_EQ(unit->describe()["malformed"], 2);
}
