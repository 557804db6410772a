// SPDX-License-Identifier: Apache-2.0
// Changes of a running media keep its state: whatever changes on either leg, keys that stay keep their epochs and
// streams, nothing is removed and added, and no key that was in use begins again (the fake data plane watches).
#include "controlplane/media/fakes.hpp"

namespace tandem::media {
namespace {

using namespace std::chrono_literals;
using protocol::tlv;

struct swap_test : stand {
    static constexpr std::uint32_t ssrc = 0x5eed;
    static constexpr std::uint64_t far = (3U << 16) + 100; // rollover counter 3
    using kept = dataplane_client::fake_dataplane::kept;
    swap_test() { levels.level.rekey = 60s; }

    static leg_request sdes_leg(std::uint8_t fill, std::uint16_t port = 7000) {
        auto leg = core_leg();
        leg.remote_rtp = at("198.51.100.77", port);
        leg.srtp = keys(fill);
        return leg;
    }
    // Streams have run for long on all SRTP sides.
    void speak() {
        for (const auto& [id, flow] : dataplane.copy()) {
            if (flow.config.in.suite != api::suite::clear)
                dataplane.speak(id, api::side::in, ssrc, far);
            if (flow.config.out.suite != api::suite::clear)
                dataplane.speak(id, api::side::out, ssrc, far);
        }
    }
    media_id speaking(const media_request& request) {
        const auto id = set_up(request);
        speak();
        return id;
    }
    // Killed after a change was made and before it was written.
    void change_half(media_id id, const media_request& request) {
        const auto before = store.rows.at(id);
        ASSERT_TRUE(now->update(id, request));
        store.rows[id] = before;
        restart();
    }
    kept flow_of(media_id id, std::size_t leg, unsigned plus = 0) { return dataplane.copy().at(flow(id, leg, plus)); }
    void expect_goes_on(const std::map<std::uint32_t, api::stream_state>& streams) {
        ASSERT_TRUE(streams.contains(ssrc));
        EXPECT_EQ(streams.at(ssrc).rtp.next, far);
    }
};

TEST_F(swap_test, MuxComesAndGoesWhileSrtpRuns) {
    auto request = call(unit_leg("alice"), sdes_leg(7));
    const auto id = speaking(request);
    for (const bool mux : {true, false, true}) {
        request.legs[1].rtcp_mux = mux;
        ASSERT_TRUE(now->update(id, request)) << mux;
        EXPECT_EQ(dataplane.copy().size(), mux ? 2u : 3u);
        const auto down = flow_of(id, 1), up = flow_of(id, 0);
        expect_goes_on(down.in_streams);
        expect_goes_on(down.out_streams);
        expect_goes_on(up.in_streams);
        expect_goes_on(up.out_streams);
        EXPECT_EQ(down.in.begin()->first, 0u) << "the key keeps its epoch";
        EXPECT_EQ(up.out.begin()->second, std::vector<std::uint8_t>(30, 8));
        EXPECT_EQ(down.sending, 0u);
    }
    EXPECT_EQ(log.count("replace"), 3u);
    EXPECT_EQ(log.count("remove"), 0u);
    EXPECT_EQ(log.count("media_open"), 1u) << "the unit has nothing to hear";
}

TEST_F(swap_test, TheOtherLegTurnsToSrtpAndBack) {
    auto request = call(sdes_leg(7), core_leg());
    const auto id = speaking(request);
    request.legs[1].srtp = keys(20, api::suite::aead_aes_128_gcm);
    ASSERT_TRUE(now->update(id, request));
    expect_goes_on(flow_of(id, 0).in_streams);
    expect_goes_on(flow_of(id, 1).out_streams);
    EXPECT_EQ(flow_of(id, 1).in.size(), 1u);
    request.legs[1].srtp.reset();
    ASSERT_TRUE(now->update(id, request));
    expect_goes_on(flow_of(id, 0).in_streams);
    expect_goes_on(flow_of(id, 1).out_streams);
    EXPECT_TRUE(flow_of(id, 1).in.empty());
    EXPECT_EQ(log.count("remove"), 0u);
}

TEST_F(swap_test, AnUnchangedSendKeyKeepsItsEpochBesideThePeersNewOne) {
    auto request = call(core_leg(), sdes_leg(7));
    const auto id = speaking(request);
    request.legs[1].srtp->receive = keys(40).receive;
    ASSERT_TRUE(now->update(id, request));
    const auto in = flow_of(id, 1), out = flow_of(id, 0);
    EXPECT_EQ(in.in, (std::map<std::uint32_t, std::vector<std::uint8_t>>{{1, std::vector<std::uint8_t>(30, 40)}}));
    EXPECT_EQ(out.out, (std::map<std::uint32_t, std::vector<std::uint8_t>>{{0, std::vector<std::uint8_t>(30, 8)}}));
    EXPECT_EQ(out.sending, 0u);
    expect_goes_on(in.in_streams);
    expect_goes_on(out.out_streams);
    request.legs[1].srtp->send = keys(50).send;
    ASSERT_TRUE(now->update(id, request));
    EXPECT_EQ(flow_of(id, 0).sending, 2u) << "a number that neither direction has had";
    EXPECT_EQ(flow_of(id, 1).in.begin()->first, 1u);
}

TEST_F(swap_test, PeersMkiIsTheOneOnTheWire) {
    auto leg = sdes_leg(7);
    leg.srtp->mki_length = 2;
    leg.srtp->receive_mki = 0x1234;
    leg.srtp->send_mki = 9;
    auto request = call(core_leg(), leg);
    const auto id = set_up(request);
    EXPECT_EQ(flow_of(id, 1).config.in.mki_length, 2);
    EXPECT_EQ(dataplane.mki(flow(id, 1), api::side::in, 0), 0x1234u);
    EXPECT_EQ(dataplane.mki(flow(id, 0), api::side::out, 0), 9u);
    request.legs[1].srtp->receive = keys(40).receive; // the peer uses the value again with a new key
    ASSERT_TRUE(now->update(id, request));
    EXPECT_EQ(dataplane.mki(flow(id, 1), api::side::in, 1), 0x1234u);
}

TEST_F(swap_test, AnotherSuiteBeginsAnewOnItsLegAlone) {
    auto request = call(sdes_leg(7), sdes_leg(17, 7100));
    const auto id = speaking(request);
    request.legs[1].srtp = keys(60, api::suite::aead_aes_256_gcm);
    ASSERT_TRUE(now->update(id, request));
    expect_goes_on(flow_of(id, 0).in_streams);
    expect_goes_on(flow_of(id, 1).out_streams);
    EXPECT_TRUE(flow_of(id, 1).in_streams.empty());
    EXPECT_EQ(flow_of(id, 1).config.in.suite, api::suite::aead_aes_256_gcm);
}

TEST_F(swap_test, AnotherFamilyIsAnotherPortWithTheSameState) {
    auto request = call(unit_leg("alice"), sdes_leg(7));
    const auto id = speaking(request);
    const auto old = flow(id, 1);
    request.legs[1].ipv6 = true;
    request.legs[1].remote_rtp = at("2001:db8::7", 7000);
    request.legs[1].remote_rtcp = at("2001:db8::7", 7001);
    ASSERT_TRUE(now->update(id, request));
    EXPECT_FALSE(dataplane.copy().contains(old));
    expect_goes_on(flow_of(id, 1).in_streams);
    expect_goes_on(flow_of(id, 0).out_streams);
    expect_goes_on(flow_of(id, 0).in_streams);
    EXPECT_EQ(log.count("media_open"), 1u);
}

TEST_F(swap_test, AUnitsLegBecomesACoreLegAndAUnitsAgain) {
    auto request = call(unit_leg("alice"), sdes_leg(7));
    const auto id = speaking(request);
    request.legs[0] = core_leg();
    ASSERT_TRUE(now->update(id, request));
    EXPECT_TRUE(now->until([&] { return log.count("media_close alice") == 1; }));
    expect_goes_on(flow_of(id, 1).in_streams);
    EXPECT_TRUE(flow_of(id, 0).in.empty());
    EXPECT_EQ(dataplane.copy().size(), 4u);
    request.legs[0] = unit_leg("alice");
    ASSERT_TRUE(now->update(id, request));
    EXPECT_EQ(units.opens.back().get<tlv::epoch>(), 1u) << "no epoch number comes back";
    EXPECT_EQ(flow_of(id, 0).in.begin()->first, 1u);
    EXPECT_EQ(flow_of(id, 1).sending, 1u);
    expect_goes_on(flow_of(id, 1).in_streams);
    EXPECT_EQ(dataplane.copy().size(), 3u);
    ASSERT_TRUE(now->wait(now->relay.rekey(id)));
    EXPECT_EQ(flow_of(id, 1).sending, 2u);
}

TEST_F(swap_test, AUnitThatLostItsSecondaryBeginsAnewAndTheOtherLegGoesOn) {
    const auto id = speaking(call(unit_leg("alice"), sdes_leg(7)));
    units.refusing.insert(protocol::exchange::seed);
    ASSERT_TRUE(now->wait(now->relay.rekey(id)));
    units.refusing.clear();
    EXPECT_GE(*units.opens.back().get<tlv::epoch>(), 2u);
    EXPECT_FALSE(units.opens.back().get<tlv::goes_on>());
    EXPECT_TRUE(flow_of(id, 0).in_streams.empty()) << "the unit counts from 0 again, under another key";
    EXPECT_TRUE(flow_of(id, 1).out_streams.empty());
    expect_goes_on(flow_of(id, 1).in_streams);
    expect_goes_on(flow_of(id, 0).out_streams);
    EXPECT_EQ(log.count("remove"), 0u);
    EXPECT_EQ(now->relay.count().renewed, 1u);
    ASSERT_TRUE(now->wait(now->relay.rekey(id)));
}

TEST_F(swap_test, AUnitThatLostItsSecondaryGetsItsPhonesNewAddressWithAFreshOne) {
    auto request = call(unit_leg("alice"), sdes_leg(7));
    const auto id = speaking(request);
    request.legs[0].remote_rtp = at("10.64.0.2", 4400);
    units.lost_media = true; // refuses what says that it goes on
    ASSERT_TRUE(now->update(id, request));
    EXPECT_EQ(units.opens.back().get<tlv::epoch>(), 1u);
    EXPECT_EQ(units.opens.back().get<tlv::phone_media>()->port, 4400);
    EXPECT_TRUE(flow_of(id, 0).in_streams.empty());
    expect_goes_on(flow_of(id, 1).in_streams);
}

TEST_F(swap_test, ALegThatIsHeardElsewhereIsStillSentToThereAfterTheOtherLegChanged) {
    auto request = call(unit_leg("alice"), core_leg());
    const auto id = set_up(request);
    dataplane.move(flow(id, 1), "203.0.113.99", 6000); // as the data plane latches
    request.legs[1].rtcp_mux = true;
    ASSERT_TRUE(now->update(id, request));
    EXPECT_EQ(dataplane_client::from_net_ip(flow_of(id, 1).config.route.rtp_remote.ip).to_string(), "203.0.113.99");
}

TEST_F(swap_test, CountersGoOnWithTheirLeg) {
    auto request = call(unit_leg("alice"), core_leg());
    const auto id = set_up(request);
    dataplane.stats(flow(id, 0)).rx_packets = 70;
    dataplane.stats(flow(id, 1)).rx_packets = 50;
    request.legs[1].srtp = keys(7);
    ASSERT_TRUE(now->update(id, request));
    EXPECT_EQ(now->relay.info(id)->legs[0].received.packets, 70u);
    EXPECT_EQ(now->relay.info(id)->legs[1].received.packets, 50u);
    request.legs[0] = core_leg(); // another peer: counted together, as one leg
    ASSERT_TRUE(now->update(id, request));
    dataplane.stats(flow(id, 0)).rx_packets = 5;
    EXPECT_EQ(now->relay.info(id)->legs[0].received.packets, 75u);
}

// --- both sides' ends
// --------------------------------------------------------------------------------------------------

TEST_F(swap_test, FlowsOfAHalfMadeChangeAreBroughtToWhatTheJournalSays) {
    auto request = call(unit_leg("alice"), sdes_leg(7));
    const auto id = speaking(request);
    request.legs[1].rtcp_mux = true;
    change_half(id, request);
    ASSERT_TRUE(now->until([&] { return now->relay.count().repaired == 1; }));
    EXPECT_EQ(dataplane.copy().size(), 3u);
    expect_goes_on(flow_of(id, 1).in_streams);
    expect_goes_on(flow_of(id, 1, 1).in_streams);
    expect_goes_on(flow_of(id, 0).in_streams);
    EXPECT_EQ(log.count("remove"), 0u);
    now->relay.session_up(units.units["alice"]);
    EXPECT_TRUE(now->until([&] { return now->relay.info(id)->rekeys == 1; }));
}

TEST_F(swap_test, FlowsAtThePortsOfAHalfMadeChangeToo) {
    auto request = call(unit_leg("alice"), sdes_leg(7));
    const auto id = speaking(request);
    request.legs[1].ipv6 = true;
    request.legs[1].remote_rtp = at("2001:db8::7", 7000);
    change_half(id, request);
    ASSERT_TRUE(now->until([&] { return now->relay.count().repaired == 1; }));
    EXPECT_EQ(dataplane.copy().size(), 3u);
    expect_goes_on(flow_of(id, 1).in_streams);
}

TEST_F(swap_test, AKeyThatEndedInAHalfMadeChangeEndsTheMediaWithItsCause) {
    auto request = call(core_leg(), sdes_leg(7));
    const auto id = set_up(request);
    request.legs[1].srtp = keys(60, api::suite::aead_aes_256_gcm);
    change_half(id, request);
    ASSERT_TRUE(now->until([&] { return !now->ended.empty(); }));
    EXPECT_NE(now->ended[0].find("SDES keys had ended"), std::string::npos) << now->ended[0];
    EXPECT_TRUE(dataplane.copy().empty());
}

TEST_F(swap_test, AChangeWhoseAnswerWasLostIsKnownByWhatIsThere) {
    auto request = call(unit_leg("alice"), sdes_leg(7));
    const auto id = speaking(request);
    request.legs[1].srtp = keys(40, api::suite::aead_aes_256_gcm);
    dataplane.mute = {api::message_type::flow_replace}; // takes it and does not say so
    std::optional<result<media_locals>> changed;
    now->start_update(id, request, changed);
    ASSERT_TRUE(now->until([&] { return log.count("replace") == 1; }));
    dataplane.stop();
    dataplane.mute.clear();
    dataplane.start();
    ASSERT_TRUE(now->until([&] { return changed.has_value(); }));
    EXPECT_TRUE(*changed) << changed->error().text;
    EXPECT_EQ(log.count("replace"), 1u);
    EXPECT_EQ(store.rows.at(id).legs[1].suite, api::suite::aead_aes_256_gcm);
    expect_goes_on(flow_of(id, 0).in_streams);
}

TEST_F(swap_test, AChangeWhoseAnswerWasLostForLongIsTakenBack) {
    auto request = call(core_leg(), sdes_leg(7));
    const auto id = speaking(request);
    auto again = request;
    again.legs[1].srtp = keys(40);
    dataplane.mute = {api::message_type::flow_replace}; // takes it and does not say so
    std::optional<result<media_locals>> changed;
    now->start_update(id, again, changed);
    ASSERT_TRUE(now->until([&] { return log.count("replace") == 1; }));
    dataplane.stop();
    dataplane.mute.clear();
    ASSERT_TRUE(now->until([&] { return changed.has_value(); })); // not longer than a caller waits
    dataplane.start();
    ASSERT_TRUE(now->until([&] { return now->relay.count().repaired == 1; }));
    EXPECT_FALSE(*changed);
    EXPECT_EQ(flow_of(id, 0).out.begin()->second, std::vector<std::uint8_t>(30, 8)) << "as both ends know it";
    expect_goes_on(flow_of(id, 0).out_streams);
    expect_goes_on(flow_of(id, 1).in_streams);
}

TEST_F(swap_test, FlowsThatWereLostComeBackAheadOfAllThatWasSent) {
    const auto id = speaking(call(unit_leg("alice"), sdes_leg(7)));
    copied();
    dataplane.stats(flow(id, 1)).rx_packets += 128; // since the copy, at most so many
    dataplane.stop();
    ASSERT_TRUE(now->until([&] { return !now->relay.ready(); }));
    dataplane.forget_flows();
    dataplane.start();
    ASSERT_TRUE(now->until([&] { return now->relay.count().reinstalled == 1; }));
    EXPECT_EQ(flow_of(id, 1).in_streams.at(ssrc).rtp.next, far + 128);
    EXPECT_EQ(flow_of(id, 1).in_streams.at(ssrc).rtp.seen[0], ~std::uint64_t{0});
    EXPECT_EQ(flow_of(id, 0).out_streams.at(ssrc).rtp.next, far + 128);
    EXPECT_EQ(flow_of(id, 0).out.begin()->second, std::vector<std::uint8_t>(30, 8)) << "SDES keys stay the call's";
    EXPECT_EQ(units.opens.back().get<tlv::epoch>(), 1u);
    EXPECT_TRUE(flow_of(id, 0).in_streams.empty()) << "a fresh epoch needs none";
    EXPECT_LT(log.find("put"), log.find("install", log.find("put")));
}

TEST_F(swap_test, WhatIsNotKnownWellEnoughEndsWithItsCause) {
    const auto id = set_up(call(unit_leg("alice"), sdes_leg(7)));
    const auto clear = set_up(call(unit_leg("alice"), core_leg(), "c2"));
    speak();
    copied();
    dataplane.stats(flow(id, 1)).rx_packets += 129;
    dataplane.stop();
    ASSERT_TRUE(now->until([&] { return !now->relay.ready(); }));
    dataplane.forget_flows();
    dataplane.start();
    ASSERT_TRUE(now->until([&] { return !now->ended.empty() && now->relay.count().reinstalled == 1; }));
    EXPECT_EQ(now->ended.size(), 1u);
    EXPECT_NE(now->ended[0].find("packet counts"), std::string::npos) << now->ended[0];
    EXPECT_FALSE(now->relay.info(id));
    EXPECT_TRUE(now->relay.info(clear)->active) << "needs no counts";
}

TEST_F(swap_test, FirstPacketsSinceTheCopyAreNotSentAgainUnderTheirIndices) {
    const auto id = set_up(call(unit_leg("alice"), sdes_leg(7)));
    dataplane.speak(flow(id, 0), api::side::out, ssrc, far); // the unit spoke, the phone not yet
    copied();
    dataplane.stats(flow(id, 1)).rx_packets += 1;
    dataplane.stop();
    ASSERT_TRUE(now->until([&] { return !now->relay.ready(); }));
    dataplane.forget_flows();
    dataplane.start();
    ASSERT_TRUE(now->until([&] { return !now->ended.empty(); }));
    EXPECT_NE(now->ended[0].find("packet counts"), std::string::npos) << now->ended[0];
}

TEST_F(swap_test, AUnitThatIsAwayWhenFlowsComeBackDoesNotStopTheOtherLeg) {
    set_up(call(unit_leg("alice"), sdes_leg(7)));
    speak();
    copied();
    units.units["alice"].up = false;
    dataplane.stop();
    ASSERT_TRUE(now->until([&] { return !now->relay.ready(); }));
    dataplane.forget_flows();
    dataplane.start();
    ASSERT_TRUE(now->until([&] { return now->relay.count().reinstalled == 1; }));
    EXPECT_EQ(dataplane.copy().size(), 3u);
    units.units["alice"].up = true;
    now->relay.session_up(units.units["alice"]);
    ASSERT_TRUE(now->until([&] { return now->relay.count().renewed == 1; }));
    EXPECT_EQ(units.opens.back().get<tlv::epoch>(), 2u);
    EXPECT_EQ(log.count("put"), 1u);
}

} // namespace
} // namespace tandem::media
