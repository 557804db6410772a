// SPDX-License-Identifier: Apache-2.0
// Packets for our own addresses: calls that a PBX joined without being in the media's way, or that come by twice, are
// taken in again without the wire; a ring of such calls ends.
#include <gtest/gtest.h>

#include "dataplane/pipeline/testbed_test.hpp"

namespace tandem::pipeline::testing {
namespace {

struct Turns : ::testing::Test {
    testbed t;
    // What arrives at `in` from `from` goes on from `out` to `to`.
    void add(api::flow_id in, const api::net_address& from, api::flow_id out, const api::net_address& to) {
        api::flow_config c{};
        c.id = in;
        c.reverse = out;
        c.tag = 1;
        c.carries = api::carries_rtp | api::carries_rtcp;
        c.source.policy = api::source_policy::signalled;
        c.source.signalled = from;
        c.route.rtp_out = c.route.rtcp_out = out;
        c.route.rtp_remote = c.route.rtcp_remote = to;
        ASSERT_EQ(t.flows().add(c, 0), api::status::ok);
    }
    void turn(api::flow_id in) {
        auto& hops = t.hops()[t.flows().find(in)];
        hops.rtp = hops.rtcp = way_back();
    }
};

TEST_F(Turns, TwoCallsThatNameEachOthersPorts) {
    const auto first = local(core4, 5000), second = local(core4, 6000);
    add(id(access4, 4000), unit4, id(core4, 5000), second);
    add(id(core4, 5000), second, id(access4, 4000), unit4);
    add(id(core4, 6000), first, id(core4, 6002), phone4);
    add(id(core4, 6002), phone4, id(core4, 6000), first);
    turn(id(access4, 4000));
    turn(id(core4, 6002));
    std::vector<bytes> frames;
    for (std::uint16_t n = 0; n < 70; ++n) // more than a burst
        frames.push_back(frame(rtp(n), unit4, local(access4, 4000)));
    const auto there = t.pass(0, frames);
    ASSERT_EQ(there.size(), frames.size());
    for (std::uint16_t n = 0; n < 70; ++n) {
        EXPECT_EQ(there[n].payload, rtp(n)) << "in their order";
        EXPECT_TRUE(flow::same_address(there[n].destination, phone4));
        EXPECT_TRUE(flow::same_address(there[n].source, local(core4, 6002)));
    }
    const auto back =
        t.pass(1, {frame(rtp(1, 8), phone4, local(core4, 6002)), frame(rtcp(8), phone4, local(core4, 6002))});
    ASSERT_EQ(back.size(), 2u);
    EXPECT_TRUE(flow::same_address(back[0].destination, unit4));
    EXPECT_EQ(t.counter(api::counter::turned_back), 72u);
    EXPECT_EQ(t.all_drops(), 0u);
    EXPECT_EQ(t.stats(id(core4, 6000)).rx_packets, 70u);
}

// Turned back, a frame has no VLAN's tag: it was on no wire.
TEST_F(Turns, AnAddressOfAVlanIsOursToo) {
    add(id(access4, 4000), unit4, id(core4, 5000), local(core4, 6000));
    add(id(core4, 6000), local(core4, 5000), id(core4, 6002), phone4);
    turn(id(access4, 4000));
    t.table().set_vlan(core4, 7);
    EXPECT_EQ(t.pass(0, {frame(rtp(1), unit4, local(access4, 4000))}).size(), 1u);
    EXPECT_EQ(t.drops(api::drop::wrong_vlan), 0u);
}

TEST_F(Turns, ARingEnds) {
    add(id(core4, 5000), local(core4, 6000), id(core4, 6000), local(core4, 5000)); // each is the other's peer
    add(id(core4, 6000), local(core4, 5000), id(core4, 5000), local(core4, 6000));
    turn(id(core4, 5000));
    turn(id(core4, 6000));
    for (unsigned n = 0; n < 200; ++n)
        t.inject(1, frame(rtp(static_cast<std::uint16_t>(n)), local(core4, 6000), local(core4, 5000)));
    t.pump();
    EXPECT_EQ(t.drops(api::drop::circulates), 200u);
    EXPECT_EQ(t.counter(api::counter::turned_back), 200u * most_turns);
}

TEST_F(Turns, APortOfOursWithoutAFlowIsNamed) {
    add(id(access4, 4000), unit4, id(core4, 5000), local(core4, 6000));
    turn(id(access4, 4000));
    EXPECT_TRUE(t.pass(0, {frame(rtp(1), unit4, local(access4, 4000))}).empty());
    EXPECT_EQ(t.drops(api::drop::no_flow), 1u);
}

// Heard from one of our own ports, a leg is there; not where the frame's layer 2 seems to say.
TEST_F(Turns, ALegThatIsLearnedMayBeOurs) {
    add(id(core4, 6000), local(core4, 5000), id(core4, 6002), phone4);
    api::flow_config c{};
    c.id = id(core4, 6002);
    c.reverse = id(core4, 6000);
    c.carries = api::carries_rtp | api::carries_rtcp;
    c.source.policy = api::source_policy::signalled;
    c.source.signalled = phone4;
    c.route.rtp_out = c.route.rtcp_out = id(core4, 6000);
    ASSERT_EQ(t.flows().add(c, 0), api::status::ok);
    api::flow_update u{};
    u.id = id(core4, 6000);
    u.mask = api::update_source;
    u.source.policy = api::source_policy::followed;
    ASSERT_EQ(t.flows().update(u), api::status::ok);
    add(id(access4, 4000), unit4, id(core4, 5000), local(core4, 6000));
    turn(id(access4, 4000));
    EXPECT_EQ(t.pass(0, {frame(rtp(1), unit4, local(access4, 4000))}).size(), 1u);
    EXPECT_TRUE(t.pass(1, {frame(rtp(1, 8), phone4, local(core4, 6002))}).empty());
    EXPECT_EQ(t.drops(api::drop::no_flow), 1u) << "core 5000 has no flow: it was looked for here, not on the wire";
}

} // namespace
} // namespace tandem::pipeline::testing
