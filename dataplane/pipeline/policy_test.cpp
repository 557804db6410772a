// SPDX-License-Identifier: Apache-2.0
// Who may send, where the leg is, what is on hold, what has no way out: each drop under its own name, and exactly
// counted.
#include <gtest/gtest.h>
#include <unistd.h>

#include "dataplane/flow/ageing.hpp"
#include "dataplane/pipeline/testbed_test.hpp"

namespace tandem::pipeline::testing {
namespace {

using api::drop;
const api::net_address elsewhere = address("203.0.113.5", 7777);

struct Policy : ::testing::Test {
    testbed t;
    testbed::pair p = t.add_pair(access4, core4, gcm);
    srtp_end unit{gcm, {{0, master_key(gcm, 1)}}, 4, false};
    bytes up(std::uint16_t n, const api::net_address& from) {
        return frame(unit.protect(rtp(n)), from, local(access4, 4000));
    }
    bytes down(std::uint16_t n) { return frame(rtp(n, 8), phone4, local(core4, 5000)); }
    api::flow_update change(api::flow_id id, unsigned mask) {
        api::flow_update u{};
        u.id = id;
        u.mask = static_cast<std::uint8_t>(mask);
        return u;
    }
};

TEST_F(Policy, NoRemoteUntilTheLegIsHeard) {
    EXPECT_TRUE(t.pass(1, {down(1)}).empty());
    EXPECT_EQ(t.drops(drop::no_remote), 1u);
    EXPECT_EQ(t.stats(p.core).tx_dropped, 1u);
    t.pass(0, {up(1, unit4)});
    EXPECT_EQ(t.pass(1, {down(2)}).size(), 1u);
}

TEST_F(Policy, LegMovesWithTheFirstAuthenticPacketOnly) {
    t.pass(0, {up(1, unit4)});
    bytes forged = up(2, elsewhere);
    forged.back() ^= 1;
    EXPECT_TRUE(t.pass(0, {forged}).empty());
    EXPECT_TRUE(flow::same_address(t.pass(1, {down(1)}).at(0).destination, unit4));
    const bytes late = up(3, unit4);
    EXPECT_EQ(t.pass(0, {up(4, elsewhere)}).size(), 1u);
    EXPECT_TRUE(flow::same_address(t.pass(1, {down(2)}).at(0).destination, elsewhere));
    EXPECT_EQ(t.pass(0, {late}).size(), 1u); // delivered, but it does not throw the leg back
    EXPECT_TRUE(flow::same_address(t.pass(1, {down(3)}).at(0).destination, elsewhere));
    EXPECT_TRUE(t.pass(0, {late}).empty()); // a replay from anywhere moves nothing
    unsigned latched = 0;
    for (const auto& e : t.events())
        if (e.type == api::event_type::flow_latched) {
            ++latched;
            EXPECT_EQ(e.id, p.unit);
        }
    EXPECT_EQ(latched, 2u);
    EXPECT_EQ(t.counter(api::counter::latches), 2u);
}

TEST_F(Policy, ClearMediaComesFromTheSignalledSourceOnly) {
    t.pass(0, {up(1, unit4)});
    EXPECT_TRUE(t.pass(1, {frame(rtp(1, 8), address("198.51.100.9", 6002), local(core4, 5000))}).empty());
    EXPECT_TRUE(t.pass(1, {frame(rtp(1, 8), address("198.51.100.8", 6000), local(core4, 5000))}).empty());
    EXPECT_EQ(t.drops(drop::wrong_source), 2u);
    EXPECT_EQ(t.stats(p.core).other_drops, 2u);
    EXPECT_EQ(t.pass(1, {down(1)}).size(), 1u);
}

TEST_F(Policy, EitherAddressOfSignallingMaySpeakWithoutMovingTheLeg) {
    t.pass(0, {up(1, unit4)});
    auto u = change(p.core, api::update_source);
    u.source.policy = api::source_policy::signalled;
    u.source.signalled = address("198.51.100.9", 0);
    u.source.received_from = address("203.0.113.1", 0);
    ASSERT_EQ(t.flows().update(u), api::status::ok);
    for (const auto& from : {address("198.51.100.9", 77), address("203.0.113.1", 78)})
        EXPECT_EQ(t.pass(1, {frame(rtp(static_cast<std::uint16_t>(from.port), 8), from, local(core4, 5000))}).size(),
                  1u);
    EXPECT_TRUE(t.pass(1, {frame(rtp(90, 8), elsewhere, local(core4, 5000))}).empty());
    EXPECT_EQ(t.stats(p.core).wrong_source, 1u);
    EXPECT_TRUE(flow::same_address(t.pass(0, {up(2, unit4)}).at(0).destination, phone4));
}

TEST_F(Policy, WherePortsAreSignalledTheyCountAtBothAddresses) {
    t.pass(0, {up(1, unit4)});
    EXPECT_EQ(t.pass(1, {down(1)}).size(), 1u); // heard before the policy changes: that does not count any more
    auto u = change(p.core, api::update_source);
    u.source.policy = api::source_policy::signalled;
    u.source.signalled = address("198.51.100.9", 4444);
    u.source.received_from = address("203.0.113.1", 4444);
    ASSERT_EQ(t.flows().update(u), api::status::ok);
    std::uint16_t sequence = 100;
    for (const auto* ip : {"198.51.100.9", "203.0.113.1"}) {
        EXPECT_TRUE(t.pass(1, {frame(rtp(++sequence, 8), address(ip, 6000), local(core4, 5000))}).empty());
        EXPECT_EQ(t.pass(1, {frame(rtp(++sequence, 8), address(ip, 4444), local(core4, 5000))}).size(), 1u);
    }
    EXPECT_EQ(t.stats(p.core).wrong_source, 2u);
}

struct LearnedSource : Policy {
    LearnedSource() { t.pass(0, {up(1, unit4)}); }
    void arm(std::uint16_t window_ms) {
        auto u = change(p.core, api::update_source);
        u.source.policy = api::source_policy::learned;
        u.source.window_ms = window_ms;
        u.source.signalled = phone4;
        ASSERT_EQ(t.flows().update(u), api::status::ok);
    }
    bytes from(const api::net_address& source) { return frame(rtp(++sent, 8), source, local(core4, 5000)); }
    bool heard(const api::net_address& source) { return !t.pass(1, {from(source)}).empty(); }
    api::net_address sent_to() { return t.pass(0, {up(++sent, unit4)}).at(0).destination; }
    std::uint16_t sent = 100;
};

TEST_F(LearnedSource, TheRightPartyTakesTheLegFromWhoeverCameFirst) {
    arm(60'000);
    EXPECT_TRUE(heard(elsewhere));
    EXPECT_TRUE(flow::same_address(sent_to(), elsewhere)); // the reverse flow follows
    const auto mapped = address("198.51.100.9", 41000);
    EXPECT_EQ(t.pass(1, {from(mapped), from(elsewhere)}).size(), 1u); // in one burst
    EXPECT_TRUE(flow::same_address(sent_to(), mapped));
    EXPECT_FALSE(heard(elsewhere));
    EXPECT_EQ(t.drops(drop::wrong_source), 2u);
    EXPECT_EQ(t.stats(p.core).wrong_source, 2u);
    EXPECT_EQ(t.stats(p.core).other_drops, 2u);
    api::flow_event last{};
    for (const auto& e : t.events())
        if (e.type == api::event_type::flow_latched && e.id == p.core)
            last = e;
    EXPECT_EQ(last.rule, api::source_rule::address);
}

TEST_F(LearnedSource, AfterTheWindowOnlySignallingBringsTheLegBack) {
    arm(1);
    EXPECT_TRUE(heard(elsewhere));
    usleep(3'000);
    EXPECT_FALSE(heard(phone4));
    arm(1);
    EXPECT_TRUE(heard(phone4));
    EXPECT_TRUE(flow::same_address(sent_to(), phone4));
    usleep(3'000);
    EXPECT_FALSE(heard(elsewhere));
    EXPECT_TRUE(heard(address("198.51.100.9", 9))) << "any port of it, any SSRC";
}

TEST_F(Policy, OnHold) {
    auto u = change(p.unit, api::update_flags);
    u.flags = api::flow_paused;
    ASSERT_EQ(t.flows().update(u), api::status::ok);
    EXPECT_TRUE(t.pass(0, {up(1, unit4)}).empty());
    EXPECT_EQ(t.drops(drop::paused), 1u);
    EXPECT_EQ(t.stats(p.unit).rx_packets, 1u);
    EXPECT_EQ(t.stats(p.unit).tx_dropped, 1u);
    EXPECT_EQ(t.pass(1, {down(1)}).size(), 1u); // it latched all the same
    u.flags = 0;
    ASSERT_EQ(t.flows().update(u), api::status::ok);
    EXPECT_EQ(t.pass(0, {up(2, unit4)}).size(), 1u);
}

TEST_F(Policy, RemoteAndDscpChange) {
    t.pass(0, {up(1, unit4)});
    auto u = change(p.unit, api::update_remote | api::update_dscp);
    u.route.rtp_out = u.route.rtcp_out = p.core;
    u.route.rtp_remote = u.route.rtcp_remote = address("198.51.100.10", 8000);
    u.dscp = 34;
    ASSERT_EQ(t.flows().update(u), api::status::ok);
    const auto out = t.pass(0, {up(2, unit4)});
    ASSERT_EQ(out.size(), 1u);
    EXPECT_TRUE(flow::same_address(out[0].destination, u.route.rtp_remote));
    EXPECT_EQ(out[0].dscp, 34);
    u.route.rtp_remote = address("2001:db8::1", 1);
    EXPECT_EQ(t.flows().update(u), api::status::bad_address); // family of the local address
}

TEST_F(Policy, NoNextHopAndTooBig) {
    t.pass(0, {up(1, unit4)});
    auto& hops = t.hops()[t.flows().find(p.unit)];
    const auto kept = hops;
    hops.rtp.state = hop_state::none;
    EXPECT_TRUE(t.pass(0, {up(2, unit4)}).empty());
    EXPECT_EQ(t.drops(drop::no_next_hop), 1u);
    hops = kept;
    hops.rtp.mtu = 12 + 160 + 28 - 1;
    EXPECT_TRUE(t.pass(0, {up(3, unit4)}).empty());
    EXPECT_EQ(t.drops(drop::too_big), 1u);
    ++hops.rtp.mtu;
    EXPECT_EQ(t.pass(0, {up(4, unit4)}).size(), 1u);
}

TEST_F(Policy, IndexIsNeverSentTwice) {
    t.pass(0, {up(1, unit4)});
    EXPECT_EQ(t.pass(1, {down(5)}).size(), 1u);
    EXPECT_TRUE(t.pass(1, {down(5)}).empty()); // clear side has no replay protection; ours must not make a two-time pad
    EXPECT_EQ(t.drops(drop::tx_index_reused), 1u);
}

TEST_F(Policy, KeysMissingOrUnknown) {
    srtp_end other(gcm, {{9, master_key(gcm, 1)}}, 4, false);
    EXPECT_TRUE(t.pass(0, {frame(other.protect(rtp(1), 9), unit4, local(access4, 4000))}).empty());
    EXPECT_EQ(t.drops(drop::srtp_unknown_mki), 1u);
    ASSERT_EQ(t.flows().retire({p.unit, 0, api::side::in, {}}), api::status::ok);
    t.flows().finish();
    EXPECT_TRUE(t.pass(0, {up(1, unit4)}).empty());
    EXPECT_EQ(t.drops(drop::srtp_no_key), 1u);
}

TEST_F(Policy, StunAndDtlsAreNamed) {
    bytes stun(20, 0), dtls(20, 22), odd(20, 100);
    for (const auto& b : {stun, dtls})
        EXPECT_TRUE(t.pass(0, {frame(b, unit4, local(access4, 4000))}).empty());
    EXPECT_EQ(t.drops(drop::stun_unexpected), 2u);
    EXPECT_TRUE(t.pass(0, {frame(odd, unit4, local(access4, 4000))}).empty());
    EXPECT_EQ(t.drops(drop::rtp_version), 1u);
    EXPECT_TRUE(t.pass(0, {frame({}, unit4, local(access4, 4000))}).empty());
    EXPECT_EQ(t.drops(drop::rtp_malformed), 1u);
    EXPECT_TRUE(t.pass(0, {frame(rtp(1), unit4, local(access4, 4002))}).empty());
    EXPECT_EQ(t.drops(drop::no_flow), 1u);
}

TEST_F(Policy, MoreSsrcsThanAFlowHolds) {
    for (std::uint32_t ssrc = 1; ssrc <= flow::max_streams; ++ssrc)
        EXPECT_EQ(t.pass(0, {frame(unit.protect(rtp(1, ssrc)), unit4, local(access4, 4000))}).size(), 1u);
    EXPECT_TRUE(t.pass(0, {frame(unit.protect(rtp(1, 100)), unit4, local(access4, 4000))}).empty());
    EXPECT_EQ(t.drops(drop::ssrc_limit), 1u);
}

TEST_F(Policy, RemovedFlowIsGoneAndWiped) {
    t.pass(0, {up(1, unit4)});
    const auto slot = t.flows().find(p.unit);
    ASSERT_EQ(t.flows().remove(p.unit), api::status::ok);
    t.flows().finish();
    EXPECT_TRUE(t.pass(0, {up(2, unit4)}).empty());
    EXPECT_EQ(t.drops(drop::no_flow), 1u);
    EXPECT_EQ(t.flows().remove(p.unit), api::status::unknown_flow);
    const auto& r = t.flows().shared().records()[slot];
    const auto* raw = reinterpret_cast<const std::uint8_t*>(&r);
    for (std::size_t i = 0; i < sizeof r; ++i)
        ASSERT_EQ(raw[i], 0) << i;
    EXPECT_EQ(t.flows().shared().keys().used(), 1u); // only the reverse flow's
}

TEST_F(Policy, WrongConfigurationsAreRefused) {
    api::flow_config c{};
    c.id = id(access4, 4100);
    c.carries = 3;
    c.route.rtp_out = c.route.rtcp_out = p.core;
    c.route.rtp_remote = c.route.rtcp_remote = phone4;
    c.source.policy = api::source_policy::signalled;
    const auto with = [&](auto&& change) {
        auto copy = c;
        change(copy);
        return t.flows().add(copy, 0);
    };
    EXPECT_EQ(with([](auto& x) { x.id = id(9, 4100); }), api::status::bad_address);
    EXPECT_EQ(with([](auto& x) { x.id = id(access4, 0); }), api::status::bad_port);
    EXPECT_EQ(with([](auto& x) { x.id = id(access4, 4000); }), api::status::flow_exists);
    EXPECT_EQ(with([](auto& x) { x.in.suite = static_cast<api::suite>(77); }), api::status::bad_suite);
    EXPECT_EQ(with([](auto& x) { x.source.policy = api::source_policy::authenticated; }), api::status::bad_suite);
    EXPECT_EQ(with([](auto& x) { x.carries = 0; }), api::status::bad_message);
    EXPECT_EQ(with([](auto& x) { x.dscp = 64; }), api::status::bad_message);
    EXPECT_EQ(with([](auto& x) {
                  x.out.suite = gcm;
                  x.out.mki_length = 5;
              }),
              api::status::bad_message);
    EXPECT_EQ(with([](auto& x) { x.route.rtp_remote = address("2001:db8::9", 1); }), api::status::bad_address);
    EXPECT_EQ(with([](auto& x) { x.route.rtcp_out = id(7, 5); }), api::status::bad_address);
    auto short_key = epoch_key(p.unit, api::side::in, 1, gcm, 9);
    short_key.key_length = 15;
    EXPECT_EQ(t.flows().install(short_key), api::status::bad_key_length);
    EXPECT_EQ(t.flows().install(epoch_key(p.unit, api::side::in, 0, gcm, 9)), api::status::bad_epoch);
    EXPECT_EQ(t.flows().switch_to({p.core, 5, api::side::out, {}}), api::status::bad_epoch);
    EXPECT_EQ(t.flows().install(epoch_key(id(access4, 9), api::side::in, 1, gcm, 9)), api::status::unknown_flow);
    for (unsigned port = 0; port < 62; ++port)
        ASSERT_EQ(with([&](auto& x) { x.id = id(core6, static_cast<std::uint16_t>(port + 1)); }), api::status::ok);
    EXPECT_EQ(with([](auto&) {}), api::status::table_full);
}

TEST(Ageing, OneTimeoutPerSilence) {
    constexpr std::uint64_t s = 1'000'000'000;
    flow::ageing a(4);
    a.begin(2, 10 * s, 0);
    EXPECT_EQ(a.look(2, 0, 5, 14 * s), std::nullopt);
    EXPECT_EQ(a.look(2, 0, 5, 15 * s), api::event_type::flow_timeout);
    EXPECT_EQ(a.look(2, 0, 5, 30 * s), std::nullopt);
    EXPECT_EQ(a.look(2, 31 * s, 5, 31 * s), api::event_type::flow_active);
    EXPECT_EQ(a.look(2, 33 * s, 5, 34 * s), std::nullopt);
    EXPECT_EQ(a.look(2, 33 * s, 5, 38 * s), api::event_type::flow_timeout);
    EXPECT_EQ(a.look(2, 33 * s, 0, 99 * s), std::nullopt);
    a.begin(3, 10 * s, 9 * s); // found again after a restart: it was active
    EXPECT_EQ(a.look(3, 11 * s, 5, 11 * s), std::nullopt);
}

} // namespace
} // namespace tandem::pipeline::testing
