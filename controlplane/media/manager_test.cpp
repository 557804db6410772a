// SPDX-License-Identifier: Apache-2.0
// Life of a media over a fake data plane and fake units: which flows, keys and messages each combination of legs gives,
// what is refused and how, that a re-key loses nothing, and that both sides' restarts are survived.
#include "controlplane/media/fakes.hpp"

#include "controlplane/protocol/seed_keys.hpp"

namespace tandem::media {
namespace {

using namespace std::chrono_literals;
using media_test = stand;
using protocol::direction;
using protocol::tlv;

std::vector<std::uint8_t> derived(const std::vector<std::uint8_t>& seed, session::tsid id, media_id media,
                                  direction way, std::uint32_t epoch) {
    const auto keys = protocol::derive_keys(
        protocol::secret(seed), {id, static_cast<std::uint32_t>(media), way, epoch, api::suite::aead_aes_128_gcm});
    return {keys->view().begin(), keys->view().end()};
}

TEST_F(media_test, Rim09_UnitToCoreFlowsKeysThenMediaOpen) {
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    ASSERT_NE(id, 0u) << last_error;
    EXPECT_EQ(dataplane.copy().size(), 3u);
    const auto add = log.find("add"), install = log.find("install"), open = log.find("media_open alice e0");
    EXPECT_LT(add, install);
    EXPECT_LT(install, open) << "the unit may send as soon as it has answered";
    const auto asked = units.opens.at(0).copy();
    const auto row = store.rows.at(id).legs[0];
    EXPECT_EQ(asked.get<tlv::gateway_media>()->port, row.port);
    EXPECT_EQ(protocol::from_wire(asked.get<tlv::gateway_media>()->address).to_string(), "192.0.2.1");
    EXPECT_EQ(protocol::from_wire(asked.get<tlv::inner_media>()->address).to_string(), "10.64.0.1");
    EXPECT_EQ(asked.get<tlv::inner_media>()->port, row.port) << "inner and outer ports are numbered alike";
    EXPECT_EQ(asked.get<tlv::inner_rtcp>()->port, row.port + 1);
    EXPECT_EQ(asked.get<tlv::phone_media>()->port, 4000);
    // The primary's peer and the port that the unit named are the first guess of where it is.
    const auto down = dataplane.copy().at(flow(id, 1)).config;
    EXPECT_EQ(dataplane_client::from_net_ip(down.route.rtp_remote.ip).to_string(), "203.0.113.5");
    EXPECT_EQ(down.route.rtp_remote.port, 5555);
}

TEST_F(media_test, Rim12_KeysOfBothDirectionsComeFromTheSeedByHkdf) {
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    ASSERT_EQ(units.seeds.size(), 1u);
    const auto flows = dataplane.copy();
    EXPECT_EQ(flows.at(flow(id, 0)).in.at(0), derived(units.seeds[0], 0xa11ce, id, direction::to_gateway, 0));
    EXPECT_EQ(flows.at(flow(id, 1)).out.at(0), derived(units.seeds[0], 0xa11ce, id, direction::to_unit, 0));
    EXPECT_EQ(flows.at(flow(id, 1, 1)).out.at(0), flows.at(flow(id, 1)).out.at(0));
    EXPECT_NE(flows.at(flow(id, 0)).in.at(0), flows.at(flow(id, 1)).out.at(0));
}

TEST_F(media_test, Rim12_SeedIsKeyUsesASeedPerDirectionAsItIs) {
    levels.level.seed_is_key = true;
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    ASSERT_NE(id, 0u) << last_error;
    ASSERT_EQ(units.seeds.size(), 2u);
    EXPECT_EQ(units.opens.at(0).get<tlv::key_use>(), 1);
    EXPECT_EQ(dataplane.copy().at(flow(id, 0)).in.at(0), units.seeds[0]);
    EXPECT_EQ(dataplane.copy().at(flow(id, 1)).out.at(0), units.seeds[1]);
}

TEST_F(media_test, Rim32_UnitToUnitHasTwoSecondariesWithIndependentSeeds) {
    const auto id = set_up(call(unit_leg("alice"), unit_leg("carol", "10.64.0.3")));
    ASSERT_NE(id, 0u) << last_error;
    ASSERT_EQ(units.seeds.size(), 2u);
    EXPECT_NE(units.seeds[0], units.seeds[1]);
    const auto flows = dataplane.copy();
    ASSERT_EQ(flows.size(), 2u);
    EXPECT_EQ(flows.at(flow(id, 0)).in.at(0), derived(units.seeds[0], 0xa11ce, id, direction::to_gateway, 0));
    EXPECT_EQ(flows.at(flow(id, 0)).out.at(0), derived(units.seeds[1], 0xca501, id, direction::to_unit, 0));
    EXPECT_EQ(log.count("media_open"), 2u);
}

TEST_F(media_test, TwoPhonesOfOneUnitHaveASecondaryEach) {
    const auto id = set_up(call(unit_leg("alice"), unit_leg("alice")));
    ASSERT_NE(id, 0u) << last_error;
    ASSERT_EQ(units.opens.size(), 2u);
    const auto told = [&](std::size_t n) { return *units.opens[n].get<tlv::media_id>(); };
    EXPECT_EQ(told(0), id);
    EXPECT_EQ(told(1), id | 0x8000'0000);
    EXPECT_NE(units.seeds[0], units.seeds[1]);
    const auto flows = dataplane.copy();
    EXPECT_EQ(flows.at(flow(id, 0)).in.at(0), derived(units.seeds[0], 0xa11ce, told(0), direction::to_gateway, 0));
    EXPECT_EQ(flows.at(flow(id, 1)).in.at(0), derived(units.seeds[1], 0xa11ce, told(1), direction::to_gateway, 0));
    restart();
    ASSERT_TRUE(now->until([&] { return now->relay.ready(); }));
    auto moved = call(unit_leg("alice"), unit_leg("alice"));
    moved.legs[1].remote_rtp = at("10.64.0.2", 4400);
    ASSERT_TRUE(now->update(id, moved));
    EXPECT_EQ(*units.opens.back().get<tlv::media_id>(), id | 0x8000'0000) << "known again after a restart";
    now->wait(now->relay.close(id, "bye"));
    now->run_for(20ms);
    EXPECT_EQ(log.count("media_close"), 2u);
}

TEST_F(media_test, BranchesOfACallHaveMediaOfTheirOwn) {
    auto first = call(unit_leg("alice"), core_leg()), second = first;
    second.branch = 1;
    const auto a = now->wait(now->relay.open(first)), b = now->wait(now->relay.open(second)),
               again = now->wait(now->relay.open(second));
    ASSERT_TRUE(a && b && again);
    EXPECT_NE(a->id, b->id);
    EXPECT_EQ(b->id, again->id);
    EXPECT_NE(a->legs[1].rtp, b->legs[1].rtp);
    restart();
    ASSERT_TRUE(now->until([&] { return now->relay.ready(); }));
    const auto after = now->wait(now->relay.open(second));
    ASSERT_TRUE(after);
    EXPECT_EQ(after->id, b->id);
}

// RFC 3264 8.4: c=0.0.0.0.
TEST_F(media_test, ALegOnHoldByItsAddressStaysWhereItIs) {
    for (const std::size_t holder : {0U, 1U}) {
        auto request = call(unit_leg("alice"), core_leg(), "c" + std::to_string(holder));
        const auto id = set_up(request);
        ASSERT_NE(id, 0u) << last_error;
        const auto opens = units.opens.size();
        const auto before = dataplane.copy();
        request.forward[holder] = false;
        request.legs[holder].remote_rtp.reset();
        request.legs[holder].remote_rtcp.reset();
        const auto held = now->update(id, request);
        ASSERT_TRUE(held) << held.error().text;
        const auto after = dataplane.copy();
        EXPECT_EQ(after.at(flow(id, 1 - holder)).config.flags, api::flow_paused);
        EXPECT_EQ(after.at(flow(id, holder)).config.source.signalled.port,
                  before.at(flow(id, holder)).config.source.signalled.port)
            << "it may play music";
        EXPECT_EQ(units.opens.size(), opens) << "its unit has nothing to hear";
        request.forward[holder] = true;
        request.legs[holder] = holder == 0 ? unit_leg("alice") : core_leg();
        ASSERT_TRUE(now->update(id, request));
        EXPECT_EQ(dataplane.copy().at(flow(id, 1 - holder)).config.flags, 0);
    }
}

TEST_F(media_test, SdesLegHasItsOwnKeysPerDirection) {
    auto core = core_leg();
    core.srtp = keys(7);
    const auto id = set_up(call(unit_leg("alice"), std::move(core)));
    ASSERT_NE(id, 0u) << last_error;
    const auto flows = dataplane.copy();
    EXPECT_EQ(flows.at(flow(id, 1)).in.at(0), std::vector<std::uint8_t>(30, 7));
    EXPECT_EQ(flows.at(flow(id, 0)).out.at(0), std::vector<std::uint8_t>(30, 8));
    EXPECT_EQ(flows.at(flow(id, 1)).config.in.mki_length, 0);
    EXPECT_EQ(flows.at(flow(id, 1)).config.source.policy, api::source_policy::authenticated);
}

TEST_F(media_test, NewSdesKeysInAReofferReplaceTheOldOnes) {
    auto first = call(core_leg(), core_leg());
    first.legs[1].srtp = keys(7);
    const auto id = set_up(first);
    ASSERT_NE(id, 0u) << last_error;
    auto again = call(core_leg(), core_leg());
    again.legs[1].srtp = keys(9);
    ASSERT_TRUE(now->update(id, again));
    const auto out = dataplane.copy().at(flow(id, 0));
    EXPECT_EQ(out.sending, 1u);
    ASSERT_EQ(out.out.size(), 1u);
    EXPECT_EQ(out.out.at(1), std::vector<std::uint8_t>(30, 10));
    EXPECT_EQ(log.count("remove"), 0u);
}

TEST_F(media_test, NothingIsSentToAnUnroutableAddressBeforeItsLegIsHeard) {
    auto leg = core_leg();
    leg.remote_unroutable = true;
    const auto id = set_up(call(core_leg(), std::move(leg)));
    const auto flows = dataplane.copy();
    EXPECT_EQ(flows.at(flow(id, 1)).config.source.policy, api::source_policy::learned);
    EXPECT_EQ(flows.at(flow(id, 0)).config.route.rtp_remote.port, 0);
    EXPECT_EQ(flows.at(flow(id, 1)).config.route.rtp_remote.port, 7000);
}

TEST_F(media_test, Rim02_NoPrimaryNoSecondary) {
    units.units["alice"].up = false;
    EXPECT_EQ(set_up(call(unit_leg("alice"), core_leg())), 0u);
    EXPECT_NE(last_error.find("unit alice has no primary tunnel up"), std::string::npos) << last_error;
    EXPECT_EQ(log.count("add"), 0u);
    units.units["alice"].up = true;
    EXPECT_NE(set_up(call(unit_leg("alice"), core_leg())), 0u);
}

TEST_F(media_test, RefusedMediaOpenLeavesNothingBehind) {
    units.refusing.insert(protocol::exchange::media_open);
    EXPECT_EQ(set_up(call(unit_leg("alice"), core_leg())), 0u);
    EXPECT_NE(last_error.find("unit alice"), std::string::npos) << last_error;
    EXPECT_TRUE(dataplane.copy().empty());
    EXPECT_TRUE(store.rows.empty());
    units.silent = true;
    units.refusing.clear();
    EXPECT_EQ(set_up(call(unit_leg("alice"), core_leg())), 0u);
    EXPECT_NE(last_error.find("did not answer in time"), std::string::npos) << last_error;
    EXPECT_TRUE(dataplane.copy().empty());
}

TEST_F(media_test, PortsRunOutWithWordsAndServeAgainAtOnce) {
    options.last_port = 20003; // two pairs per address
    restart();
    const auto a = set_up(call(unit_leg("alice"), core_leg(), "a")),
               b = set_up(call(unit_leg("alice"), core_leg(), "b"));
    ASSERT_TRUE(a != 0 && b != 0) << last_error;
    EXPECT_EQ(set_up(call(unit_leg("alice"), core_leg(), "c")), 0u);
    EXPECT_NE(last_error.find("all media ports of \"access\" (20000-20003) are in use"), std::string::npos)
        << last_error;
    now->wait(now->relay.close(a, "bye"));
    EXPECT_NE(set_up(call(unit_leg("alice"), core_leg(), "c")), 0u) << "nothing else is free: " << last_error;
    EXPECT_EQ(set_up(call(unit_leg("alice"), core_leg(), "d")), 0u);
}

// The fake data plane has 64 flows, of which 8 are left to calls that run; a core leg may need two.
TEST_F(media_test, RoomInTheFlowTableIsPromisedAtTheOffer) {
    const auto offer = [&](const std::string& id, bool running = false) {
        auto request = call(core_leg(), core_leg(), id);
        request.running = running;
        return now->wait(now->relay.open(request));
    };
    ASSERT_TRUE(now->until([&] { return now->relay.ready(); }));
    EXPECT_EQ(now->relay.flow_rooms().total, 56u);
    std::vector<media_id> all;
    for (int n = 0; n < 14; ++n) {
        const auto opened = offer("c" + std::to_string(n));
        ASSERT_TRUE(opened) << opened.error().text;
        all.push_back(opened->id);
    }
    EXPECT_EQ(now->relay.flow_rooms().reserved, 56u);
    const auto late = offer("late");
    ASSERT_FALSE(late);
    EXPECT_EQ(late.error().of, shortage::flows);
    EXPECT_NE(late.error().text.find("raise max_flows"), std::string::npos) << late.error().text;
    EXPECT_TRUE(offer("c0")) << "again is not new";
    EXPECT_TRUE(offer("more-1", true)) << "calls that run have the rest";
    EXPECT_TRUE(offer("more-2", true));
    EXPECT_FALSE(offer("more-3", true));
    now->wait(now->relay.close(all[0], "bye"));
    now->wait(now->relay.close(all[1], "bye"));
    now->wait(now->relay.close(all[2], "bye"));
    EXPECT_TRUE(offer("late"));
    restart(); // what is promised is known again
    EXPECT_EQ(now->relay.flow_rooms().reserved, 56u);
}

TEST(Ports, TheLastOnesAreLeftToCallsThatRun) {
    // 128 pairs, of which 2 are spare.
    auto table = std::make_shared<port_table>(std::uint16_t{20000}, std::uint16_t{20255}, 0ms);
    const auto ip = asio::ip::make_address("192.0.2.1");
    std::vector<leased_port> held;
    while (const auto port = table->take(ip, "", false))
        held.push_back(port);
    EXPECT_EQ(held.size(), 126u);
    EXPECT_TRUE(table->take(ip, "", true));
}

TEST_F(media_test, DataPlaneRefusalIsSaidAndCleanedUp) {
    dataplane.refuse.insert(api::message_type::flow_add);
    EXPECT_EQ(set_up(call(unit_leg("alice"), core_leg())), 0u);
    EXPECT_NE(last_error.find("flow table is full"), std::string::npos) << last_error;
    EXPECT_EQ(log.count("media_open"), 0u);
}

TEST_F(media_test, WithoutADataPlaneCallsAreRefusedWithTheReason) {
    dataplane.stop();
    ASSERT_TRUE(now->until([&] { return !now->relay.ready(); }));
    EXPECT_EQ(set_up(call(unit_leg("alice"), core_leg())), 0u);
    EXPECT_NE(last_error.find("start tandem-dataplane"), std::string::npos) << last_error;
    dataplane.start();
    ASSERT_TRUE(now->until([&] { return now->relay.ready(); }));
    EXPECT_NE(set_up(call(unit_leg("alice"), core_leg())), 0u) << last_error;
}

TEST_F(media_test, Rim10_CloseRemovesFlowsTellsTheUnitAndWritesTheRecord) {
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    auto& seen = dataplane.stats(flow(id, 0));
    seen.rx_packets = 100;
    seen.expected = 103;
    now->wait(now->relay.close(id, "bye"));
    EXPECT_TRUE(dataplane.copy().empty());
    EXPECT_TRUE(now->until([&] { return log.count("media_close alice") == 1; }));
    EXPECT_TRUE(store.rows.empty());
    ASSERT_EQ(store.records.size(), 1u);
    EXPECT_EQ(store.records[0].cause, "bye");
    EXPECT_EQ(store.records[0].legs[0].packets, 100u);
    EXPECT_EQ(store.records[0].legs[0].lost, 3u);
    now->wait(now->relay.close(id, "again")); // unknown: ignored
    EXPECT_EQ(store.records.size(), 1u);
}

TEST_F(media_test, HoldIsAFlagAndANewCoreAddressMovesOnlyWhatSendsThere) {
    auto request = call(unit_leg("alice"), core_leg());
    const auto id = set_up(request);
    request.forward = {true, false};
    ASSERT_TRUE(now->update(id, request));
    EXPECT_EQ(dataplane.copy().at(flow(id, 0)).config.flags, api::flow_paused);
    EXPECT_EQ(log.count("media_open"), 1u);
    request.forward = {true, true};
    request.legs[1].remote_rtp = at("198.51.100.78", 7200);
    ASSERT_TRUE(now->update(id, request));
    const auto flows = dataplane.copy();
    EXPECT_EQ(flows.at(flow(id, 0)).config.flags, 0);
    EXPECT_EQ(flows.at(flow(id, 0)).config.route.rtp_remote.port, 7200);
    EXPECT_EQ(flows.at(flow(id, 1)).config.source.signalled.port, 7200);
    EXPECT_EQ(log.count("media_open"), 1u);
}

TEST_F(media_test, PhoneThatMovesIsToldToItsUnitUnderTheSameKeys) {
    auto request = call(unit_leg("alice"), core_leg());
    const auto id = set_up(request);
    request.legs[0].remote_rtp = at("10.64.0.2", 4400);
    ASSERT_TRUE(now->update(id, request));
    ASSERT_EQ(units.opens.size(), 2u);
    EXPECT_EQ(units.opens[1].get<tlv::phone_media>()->port, 4400);
    EXPECT_EQ(units.opens[1].get<tlv::epoch>(), units.opens[0].get<tlv::epoch>());
    EXPECT_EQ(units.seeds[0], units.seeds[1]);
    EXPECT_EQ(log.count("remove"), 0u);
    EXPECT_NE(id, 0u);
}

TEST_F(media_test, OpenIsIdempotentPerCallAndIndex) {
    const auto request = call(unit_leg("alice"), core_leg());
    const auto a = now->wait(now->relay.open(request)), b = now->wait(now->relay.open(request));
    ASSERT_TRUE(a && b);
    EXPECT_EQ(a->id, b->id);
    EXPECT_EQ(a->legs[0].rtp.port, b->legs[0].rtp.port);
    EXPECT_EQ(now->relay.all().size(), 1u);
}

TEST_F(media_test, SilentUnitEndsItsMediaSilentCoreAloneDoesNot) {
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    dataplane.send(api::event_type::flow_timeout, flow(id, 1), id);
    now->run_for(50ms);
    EXPECT_TRUE(now->ended.empty());
    dataplane.send(api::event_type::flow_timeout, flow(id, 0), id);
    ASSERT_TRUE(now->until([&] { return !now->ended.empty(); }));
    EXPECT_NE(now->ended[0].find("unit alice was silent"), std::string::npos) << now->ended[0];
    EXPECT_TRUE(dataplane.copy().empty());
}

TEST_F(media_test, NobodySpeaksForTheTimeoutEndsTheMediaThoughAgentsKeepAlive) {
    options.timeout = 1s;
    restart();
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    auto& seen = dataplane.stats(flow(id, 0));
    for (int i = 0; i < 12; ++i) { // RTP goes on: no timeout
        ++seen.rx_packets;
        now->run_for(100ms);
    }
    EXPECT_TRUE(now->ended.empty());
    for (int i = 0; i < 25 && now->ended.empty(); ++i) { // only the agent's RTCP
        ++seen.rtcp_rx_packets;
        now->run_for(100ms);
    }
    ASSERT_FALSE(now->ended.empty());
    EXPECT_NE(now->ended[0].find("media timeout"), std::string::npos);
}

TEST_F(media_test, EndedSessionEndsItsMediaLostOneDoesNot) {
    const auto id = set_up(call(unit_leg("alice"), core_leg()));
    now->relay.session_down(units.units["alice"], false);
    now->run_for(30ms);
    EXPECT_TRUE(now->ended.empty());
    EXPECT_NE(id, 0u);
    now->relay.session_down(units.units["alice"], true);
    units.units.erase("alice");
    ASSERT_TRUE(now->until([&] { return !now->ended.empty(); }));
    EXPECT_TRUE(dataplane.copy().empty());
    EXPECT_TRUE(now->until([&] { return now->relay.unanswered_closes() == 0; })) << "nobody is left to be told";
}

TEST_F(media_test, ASessionThatEndedBesideARestartHasNoMediaAfterIt) {
    set_up(call(unit_leg("alice"), core_leg()));
    ASSERT_TRUE(now->wait(now->relay.open(call(core_leg(), unit_leg("alice"), "rings"))));
    const auto stays = set_up(call(unit_leg("carol", "10.64.0.3"), core_leg(), "carol's"));
    units.units.erase("alice");
    restart();
    ASSERT_TRUE(now->until([&] { return now->relay.all().size() == 1 && now->ended.size() == 2; }));
    EXPECT_EQ(now->relay.all().front().id, stays);
    EXPECT_TRUE(now->until([&] { return dataplane.copy().size() == 3; })) << dataplane.copy().size();
}

TEST_F(media_test, TenEndsOfOneSessionSayNothingToItsUnit) {
    for (int i = 0; i < 10; ++i)
        ASSERT_NE(set_up(call(unit_leg("alice"), core_leg(), "c" + std::to_string(i))), 0u) << last_error;
    const auto session = units.units["alice"];
    units.units.erase("alice");
    const auto before = units.requests;
    now->relay.session_down(session, true);
    ASSERT_TRUE(now->until([&] { return now->ended.size() == 10; }));
    EXPECT_EQ(units.requests, before) << "it is over: each end would ask again for all the others";
    EXPECT_EQ(now->relay.unanswered_closes(), 0u);
}

TEST_F(media_test, EndedSessionEndsCallsThatRing) {
    for (int i = 0; i < 4; ++i)
        ASSERT_TRUE(now->wait(now->relay.open(call(unit_leg("alice"), core_leg(), "rings" + std::to_string(i)))));
    now->relay.session_down(units.units["alice"], true);
    ASSERT_TRUE(now->until([&] { return now->ended.size() == 4; }));
    EXPECT_TRUE(now->relay.all().empty());
}

TEST_F(media_test, IdsAreOneOverAllGatewaysAndTheirNumbersOverRestarts) {
    std::set<media_id> ids;
    for (const auto* name : {"north", "south"}) {
        options.gateway = name;
        restart();
        ids.insert(set_up(call(unit_leg("alice"), core_leg(), name)));
    }
    std::set<media_id> parts;
    std::set<std::uint32_t> numbers;
    for (const auto id : ids) {
        EXPECT_LT(id, media_id{1} << 53) << "readers of JSON keep it";
        parts.insert(id >> media_number_bits);
        numbers.insert(number_of(id));
        EXPECT_TRUE(units.held.contains({"alice", number_of(id)}));
        EXPECT_EQ(dataplane.copy().at(flow(id, 0)).config.tag, id);
    }
    EXPECT_EQ(parts.size(), 2u);
    EXPECT_EQ(numbers.size(), 2u);
    EXPECT_EQ(now->relay.all().size(), 2u) << "the other gateway's media goes on here";
}

} // namespace
} // namespace tandem::media
