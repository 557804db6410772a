// SPDX-License-Identifier: Apache-2.0
// Pure parts: port pairs and the flows that two legs give.
#include "controlplane/media/flow_plan.hpp"
#include "controlplane/media/ports.hpp"

#include <cstring>
#include <gtest/gtest.h>
#include <map>
#include <set>

#include "controlplane/dataplane_client/client.hpp"

namespace tandem::media {
namespace {

using namespace std::chrono_literals;

endpoint at(const char* ip, std::uint16_t port) {
    return {asio::ip::make_address(ip), port};
}

bool is(const api::net_address& wire, const char* ip, std::uint16_t port) {
    const auto wanted = dataplane_client::to_net_address(asio::ip::make_address(ip), port);
    return std::memcmp(&wire, &wanted, sizeof(wire)) == 0;
}

leg_shape unit() {
    leg_shape leg;
    leg.address_index = 0;
    leg.port = 20000;
    leg.mux = true;
    leg.suite = api::suite::aead_aes_128_gcm;
    leg.mki_length = 4;
    leg.source = api::source_policy::authenticated;
    return leg;
}
leg_shape core(bool mux = false) {
    leg_shape leg;
    leg.address_index = 1;
    leg.port = 30000;
    leg.mux = mux;
    leg.remote_rtp = at("198.51.100.7", 7000);
    leg.remote_rtcp = at("198.51.100.7", 7001);
    leg.signalled_rtp = leg.remote_rtp;
    leg.signalled_rtcp = leg.remote_rtcp;
    leg.strict_port = true;
    return leg;
}

TEST(FlowPlan, UnitToCoreWithoutMuxHasThreeFlows) {
    const std::array legs{unit(), core()};
    const auto flows = plan_flows(legs, {.tag = 9, .timeout_s = 60});
    ASSERT_EQ(flows.size(), 3u);
    const auto& up = flows[0];
    EXPECT_EQ(up.id, api::make_flow_id(0, 20000));
    EXPECT_EQ(up.reverse, api::make_flow_id(1, 30000));
    EXPECT_EQ(up.carries, api::carries_rtp | api::carries_rtcp);
    EXPECT_EQ(up.in.suite, api::suite::aead_aes_128_gcm);
    EXPECT_EQ(up.out.suite, api::suite::clear);
    EXPECT_EQ(up.in.mki_length, 4);
    EXPECT_EQ(up.out.mki_length, 0);
    EXPECT_EQ(up.source.policy, api::source_policy::authenticated);
    EXPECT_EQ(up.tag, 9u);
    EXPECT_EQ(up.route.rtp_out, api::make_flow_id(1, 30000));
    EXPECT_EQ(up.route.rtcp_out, api::make_flow_id(1, 30001));
    EXPECT_TRUE(is(up.route.rtp_remote, "198.51.100.7", 7000));
    EXPECT_TRUE(is(up.route.rtcp_remote, "198.51.100.7", 7001));

    const auto& down = flows[1];
    EXPECT_EQ(down.id, api::make_flow_id(1, 30000));
    EXPECT_EQ(down.carries, api::carries_rtp);
    EXPECT_EQ(down.source.policy, api::source_policy::signalled);
    EXPECT_TRUE(is(down.source.signalled, "198.51.100.7", 7000));
    EXPECT_EQ(down.out.suite, api::suite::aead_aes_128_gcm);
    EXPECT_EQ(down.out.mki_length, 4);
    EXPECT_EQ(down.route.rtp_out, api::make_flow_id(0, 20000));
    EXPECT_EQ(down.route.rtcp_out, api::make_flow_id(0, 20000));
    EXPECT_EQ(down.route.rtp_remote.port, 0); // not known before the unit is heard

    const auto& reports = flows[2];
    EXPECT_EQ(reports.id, api::make_flow_id(1, 30001));
    EXPECT_EQ(reports.carries, api::carries_rtcp);
    EXPECT_EQ(reports.reverse, api::make_flow_id(0, 20000));
    EXPECT_EQ(reports.timeout_s, 0);
    EXPECT_TRUE(is(reports.source.signalled, "198.51.100.7", 7001));
}

TEST(FlowPlan, MuxedCoreLegHasOneFlow) {
    const auto flows = plan_flows({unit(), core(true)}, {});
    ASSERT_EQ(flows.size(), 2u);
    EXPECT_EQ(flows[0].route.rtcp_out, flows[0].route.rtp_out);
    EXPECT_TRUE(is(flows[0].route.rtcp_remote, "198.51.100.7", 7000));
    EXPECT_EQ(flows[1].carries, api::carries_rtp | api::carries_rtcp);
}

TEST(Rim32, UnitToUnitHasTwoIndependentSecondaries) {
    auto second = unit();
    second.port = 20002;
    const auto flows = plan_flows({unit(), second}, {});
    ASSERT_EQ(flows.size(), 2u);
    for (const auto& flow : flows) {
        EXPECT_EQ(flow.in.suite, api::suite::aead_aes_128_gcm);
        EXPECT_EQ(flow.out.suite, api::suite::aead_aes_128_gcm);
        EXPECT_EQ(flow.source.policy, api::source_policy::authenticated);
    }
    EXPECT_EQ(flows[0].reverse, flows[1].id);
    EXPECT_EQ(flows[1].reverse, flows[0].id);
}

TEST(FlowPlan, HoldPausesOnlyTheDirectionThatIsOff) {
    const auto flows = plan_flows({unit(), core(true)}, {.forward = {false, true}}); // nothing towards the unit
    EXPECT_EQ(flows[0].flags, 0);
    EXPECT_EQ(flows[1].flags, api::flow_paused);
}

TEST(FlowPlan, UpdatesNameOnlyWhatChanged) {
    auto before = std::array{unit(), core()};
    auto after = before;
    after[1].remote_rtp = after[1].signalled_rtp = at("198.51.100.8", 7100);
    const auto a = plan_flows(before, {}), b = plan_flows(after, {});
    ASSERT_TRUE(same_structure(a, b));
    EXPECT_TRUE(plan_updates(a, a).empty());
    const auto updates = plan_updates(a, b);
    ASSERT_EQ(updates.size(), 2u);
    EXPECT_EQ(updates[0].id, before[0].rtp());
    EXPECT_EQ(updates[0].mask, api::update_remote);
    EXPECT_EQ(updates[1].id, before[1].rtp());
    EXPECT_EQ(updates[1].mask, api::update_source);
    after[1].suite = api::suite::aes_cm_128_hmac_sha1_80;
    EXPECT_FALSE(same_structure(a, plan_flows(after, {})));
    EXPECT_FALSE(same_structure(a, plan_flows(before, {.retransmissions = {97}}))) << "no update tells them";
}

// The flows that each new one takes its state from.
struct named {
    std::vector<api::flow_id> in, out;
};
std::map<api::flow_id, named> names(const std::array<leg_shape, 2>& before, const std::array<leg_shape, 2>& after,
                                    std::array<bool, 2> goes_on = {true, true}) {
    std::map<api::flow_id, named> out;
    for (const auto& item : plan_replacements(by_leg(before), after, plan_flows(after, {}), goes_on)) {
        auto& to = out[item.config.id];
        for (const auto id : item.in_from)
            if (id != 0)
                to.in.push_back(id);
        for (const auto id : item.out_from)
            if (id != 0)
                to.out.push_back(id);
    }
    return out;
}

TEST(Replacements, MuxJoinsTwoFlowsAndUnmuxSplitsOne) {
    const std::array apart{unit(), core(false)}, joined{unit(), core(true)};
    const auto up = unit().rtp(), down = core().rtp(), reports = core().rtcp();
    const auto mux = names(apart, joined);
    ASSERT_EQ(mux.size(), 2u);
    EXPECT_EQ(mux.at(up).in, std::vector{up});
    EXPECT_EQ(mux.at(up).out, std::vector{up});
    EXPECT_EQ(mux.at(down).in, (std::vector{down, reports}));
    EXPECT_EQ(mux.at(down).out, (std::vector{down, reports}));
    const auto split = names(joined, apart);
    ASSERT_EQ(split.size(), 3u);
    EXPECT_EQ(split.at(down).in, std::vector{down});
    EXPECT_EQ(split.at(reports).in, std::vector{down});
    EXPECT_EQ(split.at(reports).out, std::vector{down});
}

TEST(Replacements, ALegAtAnotherPortGoesOnAnotherPeerDoesNot) {
    std::array before{unit(), core()}, after = before;
    after[1].port = 31000;
    after[1].address_index = 3;
    const auto moved = names(before, after);
    EXPECT_EQ(moved.at(after[1].rtp()).in, std::vector{before[1].rtp()});
    EXPECT_EQ(moved.at(after[1].rtcp()).in, std::vector{before[1].rtcp()});
    EXPECT_EQ(moved.at(unit().rtp()).out, std::vector{unit().rtp()});
    const auto other = names(before, after, {true, false});
    EXPECT_TRUE(other.at(after[1].rtp()).in.empty()) << "nothing of the earlier peer";
    EXPECT_EQ(other.at(after[1].rtp()).out, std::vector{before[1].rtp()}) << "what the unit hears goes on";
    EXPECT_EQ(other.at(unit().rtp()).in, std::vector{unit().rtp()});
    EXPECT_TRUE(other.at(unit().rtp()).out.empty());
}

TEST(Replacements, LegOfAFlowAlsoWhereItsLegMuxes) {
    const std::array legs{unit(), core(true)};
    EXPECT_EQ(leg_of(legs, unit().rtp()), 0u);
    EXPECT_EQ(leg_of(legs, api::make_flow_id(1, 30001)), 1u);
    EXPECT_FALSE(leg_of(legs, api::make_flow_id(1, 30002)));
}

TEST(Ports, EvenPairsInsideTheRangeNoneTwice) {
    port_pool pool(20001, 20011, 0ms); // pairs 20002, 20004, 20006, 20008, 20010
    EXPECT_EQ(pool.total(), 5u);
    std::set<std::uint16_t> seen;
    const auto now = port_pool::clock::now();
    for (int i = 0; i < 5; ++i) {
        const auto port = pool.take(now);
        ASSERT_TRUE(port);
        EXPECT_EQ(*port % 2, 0);
        EXPECT_GE(*port, 20002);
        EXPECT_LE(*port, 20010);
        EXPECT_TRUE(seen.insert(*port).second);
    }
    EXPECT_FALSE(pool.take(now));
}

TEST(Ports, QuarantineHoldsAReleasedPort) {
    port_pool pool(20000, 20003, 100ms);
    const auto now = port_pool::clock::now();
    const auto first = pool.take(now);
    pool.release(*first, now);
    EXPECT_NE(pool.take(now + 99ms), first) << "another one is free";
    EXPECT_EQ(pool.free_now(now + 100ms), 1u);
    EXPECT_EQ(pool.take(now + 100ms), first);
}

TEST(Ports, WhereNothingElseIsFreeTheOneThatRestsLongestServesAgain) {
    port_pool pool(20000, 20039, 5s);
    const auto now = port_pool::clock::now();
    std::vector<std::uint16_t> order;
    while (const auto port = pool.take(now))
        order.push_back(*port);
    ASSERT_EQ(order.size(), 20u);
    for (const auto port : order)
        pool.release(port, now);
    EXPECT_EQ(pool.take(now, [&](std::uint16_t port) { return port != order[0]; }), order[1]);
    EXPECT_EQ(pool.take(now), order[0]);
    EXPECT_EQ(pool.take(now), order[2]);
    EXPECT_EQ(pool.left(), 17u);
}

TEST(Ports, ChosenAtRandomAndMarkedOnesStayOut) {
    port_pool pool(20000, 29999, 0ms);
    EXPECT_TRUE(pool.mark(20000));
    EXPECT_FALSE(pool.mark(20000));
    const auto now = port_pool::clock::now();
    unsigned ascending = 0;
    std::uint16_t last = 0;
    for (int i = 0; i < 100; ++i) {
        const auto port = *pool.take(now);
        EXPECT_NE(port, 20000);
        ascending += port == last + 2 ? 1 : 0;
        last = port;
    }
    EXPECT_LT(ascending, 10u);
    EXPECT_EQ(pool.in_use(), 101u);
}

// Many short calls one after the other fill no gateway.
TEST(Ports, ThoseThatRestAreNotInUse) {
    const auto table = std::make_shared<port_table>(20000, 20007, 1h);
    const auto address = asio::ip::make_address("192.0.2.1");
    const auto kept = table->take(address, "", true);
    for (int i = 0; i < 2; ++i)
        ASSERT_TRUE(table->take(address, "", true)); // and given back
    EXPECT_EQ(table->free_now(), 1U);
    table->each_pool([](const auto&, std::size_t total, std::size_t left) {
        EXPECT_EQ(total, 4U);
        EXPECT_EQ(total - left, 1U);
    });
}

TEST(Ports, RefusedOnesAreLeftFree) {
    port_pool pool(20000, 20003, 0ms);
    const auto now = port_pool::clock::now();
    EXPECT_EQ(pool.take(now, [](std::uint16_t port) { return port == 20002; }), 20002);
    EXPECT_FALSE(pool.take(now, [](std::uint16_t) { return false; }));
    EXPECT_EQ(pool.take(now), 20000);
}

} // namespace
} // namespace tandem::media
