// SPDX-License-Identifier: Apache-2.0
// Packets for the control plane: only where the flow asks for them, with their bytes and source; what a source, a flow
// and a worker may hand up in a second; a full ring; and the way back down. Media beside them lose nothing.
#include <cstring>
#include <gtest/gtest.h>

#include <rte_mbuf.h>

#include "dataplane/pipeline/testbed_test.hpp"

namespace tandem::pipeline::testing {
namespace {

using api::drop;
using api::packet_kind;

constexpr std::uint64_t second = 1'000'000'000;

struct came {
    api::packet_in about;
    bytes payload;
};

struct Punts : ::testing::Test {
    testbed t;
    testbed::pair p = t.add_pair(access4, core4, gcm);
    srtp_end sender{gcm, {{0, master_key(gcm, 1)}}, 4, false};

    void wish(std::uint8_t flags, api::flow_id of) {
        api::flow_update u{};
        u.id = of;
        u.mask = api::update_flags;
        u.flags = flags;
        ASSERT_EQ(t.flows().update(u), api::status::ok);
    }
    static bytes starting(std::uint8_t first, std::size_t length = 100) {
        bytes b(length, 0x55);
        b[0] = first;
        return b;
    }
    std::size_t to_unit_port(const bytes& payload, const api::net_address& from = unit4) {
        return t.pass(0, {frame(payload, from, local(access4, 4000))}).size();
    }
    std::vector<came> up() {
        std::vector<came> all;
        while (const std::byte* slot = t.worker().punted().front()) {
            came c{};
            std::memcpy(&c.about, slot, sizeof c.about);
            const auto* first = reinterpret_cast<const std::uint8_t*>(slot + sizeof c.about);
            c.payload.assign(first, first + c.about.length);
            all.push_back(std::move(c));
            t.worker().punted().pop();
        }
        return all;
    }
};

TEST_F(Punts, OnlyWhatTheFlowAsksFor) {
    const bytes dtls = starting(22), stun = starting(1, 20), odd = starting(0x10);
    for (const auto& b : {dtls, stun, odd})
        EXPECT_EQ(to_unit_port(b), 0u);
    EXPECT_EQ(t.drops(drop::stun_unexpected), 2u);
    EXPECT_EQ(t.drops(drop::rtp_version), 1u);
    EXPECT_TRUE(up().empty());

    wish(api::flow_punts_dtls, p.unit);
    for (const auto& b : {dtls, stun, odd})
        EXPECT_EQ(to_unit_port(b), 0u);
    auto got = up();
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(got[0].payload, dtls);
    EXPECT_EQ(got[0].about.kind, packet_kind::dtls);
    EXPECT_EQ(got[0].about.id, p.unit);
    EXPECT_EQ(got[0].about.tag, 1u);
    EXPECT_NE(got[0].about.time_ns, 0u);
    EXPECT_TRUE(flow::same_address(got[0].about.source, unit4));
    EXPECT_EQ(t.drops(drop::stun_unexpected), 3u);
    EXPECT_EQ(t.drops(drop::rtp_version), 2u);
    EXPECT_EQ(t.counter(api::counter::punted), 1u);

    wish(api::flow_punts_stun | api::flow_punts_control, p.unit);
    for (const auto& b : {dtls, stun, odd})
        EXPECT_EQ(to_unit_port(b), 0u);
    got = up();
    ASSERT_EQ(got.size(), 3u) << "22 is 0x16, a control message's first byte";
    EXPECT_EQ(got[0].about.kind, packet_kind::control);
    EXPECT_EQ(got[1].about.kind, packet_kind::stun);
    EXPECT_EQ(got[2].about.kind, packet_kind::control);
}

TEST_F(Punts, MediaGoOnAndAreNeverHandedUp) {
    wish(api::flow_punts_stun | api::flow_punts_dtls, p.unit);
    EXPECT_EQ(to_unit_port(sender.protect(rtp(1))), 1u);
    bytes forged = sender.protect(rtp(2));
    forged[20] ^= 1;
    EXPECT_EQ(to_unit_port(forged), 0u);
    EXPECT_EQ(to_unit_port(starting(0x80, 5)), 0u);
    EXPECT_EQ(to_unit_port({}), 0u);
    EXPECT_EQ(t.drops(drop::srtp_auth), 1u);
    EXPECT_EQ(t.drops(drop::rtp_malformed), 2u);
    EXPECT_TRUE(up().empty());
    EXPECT_EQ(to_unit_port(sender.protect(rtp(3))), 1u);
}

TEST_F(Punts, DtlsAndControlCannotBeToldApart) {
    api::flow_update u{};
    u.id = p.unit;
    u.mask = api::update_flags;
    u.flags = api::flow_punts_dtls | api::flow_punts_control;
    EXPECT_EQ(t.flows().update(u), api::status::bad_state);
    api::flow_config c{};
    c.id = id(access4, 4100);
    c.carries = api::carries_rtp;
    c.source.policy = api::source_policy::signalled;
    c.route.rtp_out = p.core;
    c.flags = u.flags;
    EXPECT_EQ(t.flows().add(c, 0), api::status::bad_state);
}

TEST_F(Punts, LongOnesStay) {
    wish(api::flow_punts_dtls, p.unit);
    EXPECT_EQ(to_unit_port(starting(22, api::max_packet_bytes + 1)), 0u);
    EXPECT_EQ(t.drops(drop::punt_too_long), 1u);
    EXPECT_EQ(to_unit_port(starting(22, api::max_packet_bytes)), 0u);
    const auto got = up();
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(got[0].payload.size(), api::max_packet_bytes);
}

// The tables alone, by a clock of the test's own.
struct Limits : ::testing::Test {
    punt under;
    std::uint64_t now = 5 * second;
    const bytes payload = bytes(20, 22);

    drop take(const std::string& ip, api::flow_id of, bool read = true) {
        api::packet_in about{};
        about.time_ns = now;
        about.id = of;
        about.source = address(ip, 5);
        about.length = static_cast<std::uint16_t>(payload.size());
        const auto said = under.take(about, payload);
        if (said == drop::none && read)
            under.pop();
        return said;
    }
    std::uint64_t taken(unsigned tries, const std::function<std::string(unsigned)>& from,
                        const std::function<api::flow_id(unsigned)>& of, drop otherwise) {
        std::uint64_t n = 0;
        for (unsigned i = 0; i < tries; ++i)
            if (const drop said = take(from(i), of(i)); said == drop::none)
                ++n;
            else
                EXPECT_EQ(said, otherwise);
        return n;
    }
    static std::string host(unsigned i) {
        return "10." + std::to_string(i / 65536) + "." + std::to_string(i / 256 % 256) + "." + std::to_string(i % 256);
    }
};

TEST_F(Limits, ASourceAFlowAWorker) {
    const auto one = [](unsigned) { return std::string("192.0.2.7"); };
    const auto many = [](unsigned i) { return host(i); };
    const auto flow = [](unsigned) { return api::flow_id{4000}; };
    const auto flows = [](unsigned i) { return api::flow_id{i}; };
    EXPECT_EQ(taken(1000, one, flows, drop::punt_source_limit), punt::per_source);
    now += second;
    EXPECT_EQ(taken(1000, one, flows, drop::punt_source_limit), punt::per_source) << "as many in the next second";
    now += 10 * second;
    EXPECT_EQ(taken(100'000, many, flow, drop::punt_flow_limit), punt::per_flow);
    EXPECT_EQ(taken(1000, one, flows, drop::punt_source_limit), punt::per_source) << "that took nothing of others'";
    now += 10 * second;
    std::uint64_t n = 0;
    for (unsigned i = 0; i < 100'000; ++i) {
        const drop said = take(host(i), i);
        n += said == drop::none ? 1 : 0;
        EXPECT_TRUE(said == drop::none || said == drop::punt_limit || said == drop::punt_flow_limit ||
                    said == drop::punt_source_limit);
    }
    EXPECT_EQ(n, punt::per_worker);
}

// A /64 is one source; another one has its own share.
TEST_F(Limits, SourcesAreNetworks) {
    const auto flows = [](unsigned i) { return api::flow_id{i}; };
    EXPECT_EQ(
        taken(
            1000, [](unsigned i) { return "2001:db8::" + std::to_string(i + 1); }, flows, drop::punt_source_limit),
        punt::per_source);
    EXPECT_EQ(take("2001:db8:0:1::1", 70'000), drop::none);
}

TEST_F(Limits, AFullRing) {
    for (unsigned i = 0; i < punt::slots; ++i)
        EXPECT_EQ(take(host(i), i, false), drop::none);
    EXPECT_EQ(take(host(1000), 1000, false), drop::punt_full);
    under.pop();
    EXPECT_EQ(take(host(1001), 1001, false), drop::none);
}

// Down: a frame that the control thread made leaves as it is; one for an own address is taken in again.
TEST_F(Punts, FramesOfTheControlPlane) {
    const auto whole = [&](const bytes& payload, const api::net_address& from, const api::net_address& to) {
        rte_mbuf* m = rte_pktmbuf_alloc(t.buffers());
        const std::size_t headers = header_bytes(true, false);
        auto* const at = reinterpret_cast<std::uint8_t*>(
            rte_pktmbuf_append(m, static_cast<std::uint16_t>(headers + payload.size())));
        std::memcpy(at + headers, payload.data(), payload.size());
        write_headers(at + headers, static_cast<std::uint16_t>(payload.size()), {{2}, {4}, no_vlan},
                      make_endpoints(from, to), 0);
        return m;
    };
    const bytes answer = starting(22);
    whole_frame out{whole(answer, local(access4, 4000), unit4), 0, false};
    t.worker().call([&] { t.worker().send_whole({&out, 1}); });
    const auto frames = t.collect(0);
    ASSERT_EQ(frames.size(), 1u);
    const auto opened = open_frame(frames[0]);
    ASSERT_TRUE(opened.has_value());
    EXPECT_EQ(opened->payload, answer);
    EXPECT_EQ(t.counter(api::counter::packets_out), 1u);

    wish(api::flow_punts_dtls, p.unit);
    whole_frame back{whole(answer, local(access4, 4000), local(access4, 4000)), 0, true};
    t.worker().call([&] { t.worker().send_whole({&back, 1}); });
    t.pump();
    const auto got = up();
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(got[0].payload, answer);
}

} // namespace
} // namespace tandem::pipeline::testing
