// SPDX-License-Identifier: Apache-2.0
// A re-offer is taken whole or not at all: whatever it asks for, and wherever it is refused, the running call's flows,
// keys, units, ports, rows and answers stay what they were.
#include "controlplane/media/fakes.hpp"

namespace tandem::media {
namespace {

using namespace std::chrono_literals;
using protocol::tlv;

struct reoffer_test : stand {
    struct seen {
        std::map<api::flow_id, dataplane_client::fake_dataplane::kept> flows;
        media_row row;
        std::size_t free = 0;
    };
    reoffer_test() { levels.level.rekey = 60s; }
    seen look(media_id id) {
        now->run_for(20ms); // words to units, ports in quarantine
        return {dataplane.copy(), store.rows.at(id), now->relay.free_ports()};
    }
    void expect_unchanged(media_id id, const seen& before) {
        now->run_for(options.quarantine + 20ms);
        const auto after = look(id);
        ASSERT_EQ(after.flows.size(), before.flows.size());
        for (const auto& [flow, was] : before.flows) {
            ASSERT_TRUE(after.flows.contains(flow)) << flow;
            const auto& is = after.flows.at(flow);
            EXPECT_EQ(std::memcmp(&is.config, &was.config, sizeof(was.config)), 0) << flow;
            EXPECT_EQ(is.in, was.in) << flow;
            EXPECT_EQ(is.out, was.out) << flow;
            EXPECT_EQ(is.sending, was.sending) << flow;
            EXPECT_EQ(is.slot, was.slot) << "removed and added again";
        }
        for (std::size_t i = 0; i < 2; ++i) {
            const auto &is = after.row.legs[i], &was = before.row.legs[i];
            EXPECT_EQ(is.kind, was.kind);
            EXPECT_EQ(is.port, was.port);
            EXPECT_EQ(is.local.rtp, was.local.rtp);
            EXPECT_EQ(is.local.rtcp, was.local.rtcp);
            EXPECT_EQ(is.remote_rtp, was.remote_rtp);
            EXPECT_EQ(is.suite, was.suite);
            EXPECT_EQ(is.epoch, was.epoch);
            EXPECT_EQ(is.mux, was.mux);
        }
        EXPECT_EQ(after.row.forward, before.row.forward);
        EXPECT_EQ(after.free, before.free) << "what the refused one took is given back";
        EXPECT_EQ(log.count("remove"), 0u);
        EXPECT_EQ(log.count("media_close"), 0u);
    }
    // All that a re-offer may ask for, of a call between alice and the core.
    static std::vector<std::pair<std::string, media_request>> wishes() {
        std::vector<std::pair<std::string, media_request>> out;
        const auto wish = [&](const char* name, auto change) {
            auto request = call(unit_leg("alice"), core_leg());
            change(request);
            out.emplace_back(name, request);
        };
        wish("IPv6 core", [](auto& r) {
            r.legs[1].ipv6 = true;
            r.legs[1].remote_rtp = at("2001:db8::7", 7000);
            r.legs[1].remote_rtcp = at("2001:db8::7", 7001);
        });
        wish("core instead of the unit", [](auto& r) { r.legs[0] = core_leg(); });
        wish("another unit instead of the core", [](auto& r) { r.legs[1] = unit_leg("carol", "10.64.0.3"); });
        wish("SDES", [](auto& r) { r.legs[1].srtp = keys(9); });
        wish("mux", [](auto& r) { r.legs[1].rtcp_mux = true; });
        wish("hold and a new address", [](auto& r) {
            r.forward = {false, true};
            r.legs[1].remote_rtp = at("198.51.100.78", 7200);
        });
        wish("another phone of the unit", [](auto& r) { r.legs[0].remote_rtp = at("10.64.0.2", 4400); });
        return out;
    }
};

TEST_F(reoffer_test, OfferTakesBesideAndWithdrawGivesBack) {
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    ASSERT_TRUE(now->wait(now->relay.open(wishes()[0].second))); // pools are made when an address is first used
    now->relay.withdraw(id);
    now->run_for(options.quarantine);
    const auto before = look(id);
    for (auto& [name, request] : wishes()) {
        for (auto& leg : request.legs) { // as an offer asks: without remotes
            leg.remote_rtp.reset();
            leg.remote_rtcp.reset();
        }
        const auto offered = now->wait(now->relay.open(request));
        ASSERT_TRUE(offered) << name << ": " << offered.error().text;
        EXPECT_EQ(offered->id, id) << name;
        now->relay.withdraw(id);
        SCOPED_TRACE(name);
        expect_unchanged(id, before);
    }
}

TEST_F(reoffer_test, WhatTheOfferTookIsWhatTheAnswerUses) {
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    auto request = wishes()[0].second;
    const auto offered = now->wait(now->relay.open(request));
    ASSERT_TRUE(offered);
    EXPECT_TRUE(offered->legs[1].rtp.address.is_v6());
    const auto unit_port = store.rows.at(id).legs[0].port;
    const auto answered = now->update(id, request);
    ASSERT_TRUE(answered) << answered.error().text;
    EXPECT_EQ(answered->legs[1].rtp, offered->legs[1].rtp);
    EXPECT_EQ(store.rows.at(id).legs[0].port, unit_port) << "the leg that stays keeps its port";
    EXPECT_EQ(store.rows.at(id).legs[1].local.rtp, offered->legs[1].rtp);
    EXPECT_EQ(dataplane.copy().size(), 3u);
    EXPECT_TRUE(dataplane.copy().contains(flow(id, 1)));
}

TEST_F(reoffer_test, OneThatCannotBePlannedChangesNothing) {
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    const auto before = look(id);
    auto request = wishes()[0].second;
    request.legs[1].interface = "nowhere";
    request.legs[0].remote_rtp = at("10.64.0.2", 4400); // the first leg could be had
    request.forward = {true, false};
    const auto refused = now->update(id, request);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().text.find("no IPv6 address named \"nowhere\""), std::string::npos)
        << refused.error().text;
    expect_unchanged(id, before);
    units.units["carol"].up = false;
    EXPECT_FALSE(now->update(id, wishes()[2].second));
    EXPECT_FALSE(now->wait(now->relay.open(wishes()[2].second)));
    expect_unchanged(id, before);
}

TEST_F(reoffer_test, BothLegsRefused) {
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    const auto before = look(id);
    auto request = call(unit_leg("dave"), core_leg());
    request.legs[1].interface = "nowhere";
    EXPECT_FALSE(now->update(id, request));
    expect_unchanged(id, before);
}

TEST_F(reoffer_test, UnitThatRefusesItsPhonesNewAddress) {
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    const auto before = look(id);
    auto request = wishes()[5].second;
    request.legs[0].remote_rtp = at("10.64.0.2", 4400);
    units.refusing.insert(protocol::exchange::media_open);
    EXPECT_FALSE(now->update(id, request));
    units.refusing.clear();
    expect_unchanged(id, before);
    const auto& last = units.opens.back();
    EXPECT_EQ(last.get<tlv::phone_media>()->port, 4000) << "the unit is told what is in force";
    EXPECT_EQ(last.get<tlv::epoch>(), 0u);
}

TEST_F(reoffer_test, DataPlaneThatRefusesInTheMiddle) {
    auto request = call(core_leg(), core_leg());
    request.legs[1].srtp = keys(7);
    const auto id = set_up(request);
    const auto before = look(id);
    auto again = call(core_leg(), core_leg());
    again.legs[0].remote_rtp = at("198.51.100.78", 7200);
    again.legs[1].srtp = keys(9);
    again.forward = {false, true};
    auto held = request; // keys stay: without a replacement
    held.legs[0].remote_rtp = again.legs[0].remote_rtp;
    held.forward = again.forward;
    for (const auto& [type, wish] :
         {std::pair{api::message_type::flow_replace, again}, {api::message_type::flow_update, held}}) {
        dataplane.refuse = {type};
        EXPECT_FALSE(now->update(id, wish));
        dataplane.refuse.clear();
        expect_unchanged(id, before);
    }
    ASSERT_TRUE(now->update(id, again)) << "later it can be had";
    EXPECT_EQ(dataplane.copy().at(flow(id, 1)).in.size(), 1u);
}

TEST_F(reoffer_test, SecondLineRefusedLeavesTheFirstAsItWas) {
    const auto audio = call(unit_leg("alice"), core_leg());
    auto video = call(unit_leg("alice"), core_leg());
    video.index = 1;
    video.kind = "video";
    const auto a = set_up(audio), v = set_up(video);
    const auto first = look(a), second = look(v);
    auto audio_again = audio, video_again = video;
    audio_again.forward = {true, false};
    audio_again.legs[1].remote_rtp = at("198.51.100.78", 7200);
    video_again.legs[0].remote_rtp = at("10.64.0.2", 4400);
    units.refusing.insert(protocol::exchange::media_open); // the second line's
    const auto done =
        now->wait(now->relay.update(std::vector{media_change{a, audio_again}, media_change{v, video_again}}));
    units.refusing.clear();
    EXPECT_FALSE(done);
    expect_unchanged(a, first);
    expect_unchanged(v, second);
    video_again.legs[1].interface = "nowhere"; // refused before anything was sent
    const auto sent = log.count("update");
    EXPECT_FALSE(now->wait(now->relay.update(std::vector{media_change{a, audio_again}, media_change{v, video_again}})));
    EXPECT_EQ(log.count("update"), sent);
    expect_unchanged(a, first);
}

TEST_F(reoffer_test, PhoneThatMovesWhileASeedHasNoAnswerIsToldAfterIt) {
    auto request = call(unit_leg("alice"), core_leg());
    const auto id = set_up(request);
    units.silent = true;
    ASSERT_FALSE(now->wait(now->relay.rekey(id))); // the unit may have got it
    units.silent = false;
    request.legs[0].remote_rtp = at("10.64.0.2", 4400);
    ASSERT_TRUE(now->update(id, request));
    EXPECT_EQ(units.opens.back().get<tlv::epoch>(), 1u) << "never an epoch that the unit may have left";
    EXPECT_LT(log.find("seed alice e1", log.find("seed alice e1")), log.find("media_open alice e1"));
    EXPECT_EQ(dataplane.copy().at(flow(id, 1)).sending, 1u);
}

TEST_F(reoffer_test, PhoneThatMovesDuringAReKeyWaitsForIt) {
    auto request = call(unit_leg("alice"), core_leg());
    const auto id = set_up(request);
    units.delay = 40ms;
    std::optional<result<media_locals>> moved;
    now->relay.session_up(units.units["alice"]); // re-keys now
    ASSERT_TRUE(now->until([&] { return log.count("seed alice e1") == 1; }));
    request.legs[0].remote_rtp = at("10.64.0.2", 4400);
    now->start_update(id, request, moved);
    ASSERT_TRUE(now->until([&] { return moved.has_value(); }));
    ASSERT_TRUE(*moved) << moved->error().text;
    EXPECT_EQ(units.opens.back().get<tlv::epoch>(), 1u);
    EXPECT_EQ(log.count("seed"), 1u);
}

} // namespace
} // namespace tandem::media
