// SPDX-License-Identifier: Apache-2.0
// Media through the worker in every direction and suite, judged by libsrtp2. The testbed's end checks the account of
// frames.
#include <gtest/gtest.h>

#include "dataplane/pipeline/testbed_test.hpp"

namespace tandem::pipeline::testing {
namespace {

using api::suite;
constexpr suite protected_suites[] = {suite::aes_cm_128_hmac_sha1_80, suite::aes_cm_128_hmac_sha1_32,
                                      suite::aead_aes_128_gcm,        suite::aead_aes_256_gcm,
                                      suite::aes_256_cm_hmac_sha1_80, suite::aes_256_cm_hmac_sha1_32};

class EverySuite : public ::testing::TestWithParam<suite> {};
INSTANTIATE_TEST_SUITE_P(Rim08, EverySuite, ::testing::ValuesIn(protected_suites),
                         [](const auto& p) { return std::string(api::info(p.param).name); });

TEST_P(EverySuite, SrtpToRtpAndBack) {
    for (const std::uint8_t mki : std::initializer_list<std::uint8_t>{0, 4}) {
        testbed t;
        t.add_pair(access4, core4, GetParam(), suite::clear, mki);
        srtp_end unit_out(GetParam(), {{0, master_key(GetParam(), 1)}}, mki, false);
        srtp_end unit_in(GetParam(), {{0, master_key(GetParam(), 2)}}, mki, true);
        for (std::uint16_t n = 65500; n != 200; ++n) { // across the wrap
            auto up = t.pass(0, {frame(unit_out.protect(rtp(n)), unit4, local(access4, 4000))});
            ASSERT_EQ(up.size(), 1u);
            EXPECT_EQ(up[0].payload, rtp(n));
            EXPECT_TRUE(flow::same_address(up[0].source, local(core4, 5000)));
            EXPECT_TRUE(flow::same_address(up[0].destination, phone4));
            EXPECT_EQ(up[0].dscp, 46);
            EXPECT_EQ(up[0].ttl, 59); // it came with 60
            auto down = t.pass(1, {frame(rtp(n, 0x99), phone4, local(core4, 5000))});
            ASSERT_EQ(down.size(), 1u);
            EXPECT_TRUE(flow::same_address(down[0].destination, unit4)); // latched
            EXPECT_EQ(unit_in.unprotect(down[0].payload), rtp(n, 0x99));
        }
        EXPECT_EQ(t.all_drops(), 0u);
        EXPECT_EQ(t.stats(id(access4, 4000)).rx_packets, 236u);
        EXPECT_EQ(t.stats(id(access4, 4000)).expected, 236u);
    }
}

TEST_P(EverySuite, SrtpToSrtpWithOtherSuite) {
    for (const suite core_suite : protected_suites) {
        testbed t;
        t.add_pair(access4, core4, GetParam(), core_suite);
        srtp_end unit(GetParam(), {{0, master_key(GetParam(), 1)}}, 4, false);
        srtp_end phone(core_suite, {{0, master_key(core_suite, 4)}}, 0, true);
        std::vector<bytes> burst;
        for (std::uint16_t n = 65530; n != 58; ++n)
            burst.push_back(frame(unit.protect(rtp(n, 7, n % 200)), unit4, local(access4, 4000)));
        const auto out = t.pass(0, burst);
        ASSERT_EQ(out.size(), burst.size());
        std::uint16_t n = 65530;
        for (const auto& o : out) {
            EXPECT_EQ(phone.unprotect(o.payload), rtp(n, 7, n % 200));
            ++n;
        }
    }
}

TEST_P(EverySuite, MuxedRtcpBothWays) {
    testbed t;
    t.add_pair(access4, core4, GetParam());
    srtp_end unit_out(GetParam(), {{0, master_key(GetParam(), 1)}}, 4, false);
    srtp_end unit_in(GetParam(), {{0, master_key(GetParam(), 2)}}, 4, true);
    for (int i = 0; i < 5; ++i) {
        const auto up = t.pass(0, {frame(unit_out.protect(rtcp()), unit4, local(access4, 4000))});
        ASSERT_EQ(up.size(), 1u);
        EXPECT_EQ(up[0].payload, rtcp());
        const auto down = t.pass(1, {frame(rtcp(5), phone4, local(core4, 5000))});
        ASSERT_EQ(down.size(), 1u);
        EXPECT_EQ(unit_in.unprotect(down[0].payload), rtcp(5));
    }
    EXPECT_EQ(t.stats(id(access4, 4000)).rtcp_rx_packets, 5u);
    EXPECT_EQ(t.stats(id(core4, 5000)).rtcp_tx_packets, 5u);
}

// A receiver report with one block.
bytes receiver_report(std::uint32_t loss, std::uint32_t jitter) {
    bytes p{0x81, 201, 0, 7};
    for (const std::uint32_t word : {0x11223344U, 0x55667788U, loss, 99U, jitter, 0U, 0U})
        for (int shift = 24; shift >= 0; shift -= 8)
            p.push_back(static_cast<std::uint8_t>(word >> shift));
    return p;
}

// What either leg reports of what it hears is with its flow: decrypted, or in clear; never what did not authenticate.
TEST_P(EverySuite, ReportBlocksOfBothLegs) {
    testbed t;
    t.add_pair(access4, core4, GetParam());
    srtp_end unit(GetParam(), {{0, master_key(GetParam(), 1)}}, 4, false);
    const auto from_unit = [&](const bytes& packet) { (void)t.pass(0, {frame(packet, unit4, local(access4, 4000))}); };
    from_unit(unit.protect(receiver_report(0x10000005, 400)));
    from_unit(unit.protect(receiver_report(0x80ffffff, 160)));
    from_unit(unit.protect(rtcp())); // no block
    bytes forged = unit.protect(receiver_report(0xff00ffff, 9999));
    forged[forged.size() / 2] ^= 1;
    from_unit(forged);
    (void)t.pass(1, {frame(receiver_report(0x02000003, 80), phone4, local(core4, 5000))});
    const auto& up = t.stats(id(access4, 4000));
    EXPECT_EQ(up.reports, 2u);
    EXPECT_EQ(api::reported_fraction(up), 0x80);
    EXPECT_EQ(api::reported_cumulative(up), -1);
    EXPECT_EQ(up.reported_jitter, 160u);
    EXPECT_EQ(up.reported_jitter_max, 400u);
    const auto& down = t.stats(id(core4, 5000));
    EXPECT_EQ(down.reports, 1u);
    EXPECT_EQ(api::reported_cumulative(down), 3);
    EXPECT_EQ(down.reported_jitter_max, 80u);
}

// A flipped bit anywhere is refused and changes nothing: the true packet still passes after all of them.
TEST_P(EverySuite, EveryFlippedBitIsRefused) {
    testbed t;
    t.add_pair(access4, core4, GetParam());
    srtp_end unit(GetParam(), {{0, master_key(GetParam(), 1)}}, 4, false);
    const bytes packet = unit.protect(rtp(10, 3, 20));
    for (std::size_t bit = 0; bit < packet.size() * 8; ++bit) {
        bytes forged = packet;
        forged[bit / 8] = static_cast<std::uint8_t>(forged[bit / 8] ^ 1u << bit % 8);
        EXPECT_TRUE(t.pass(0, {frame(forged, unit4, local(access4, 4000))}).empty()) << "bit " << bit;
    }
    EXPECT_EQ(t.counter(api::counter::latches), 0u);
    EXPECT_EQ(t.pass(0, {frame(packet, unit4, local(access4, 4000))}).size(), 1u);
    EXPECT_EQ(t.counter(api::counter::latches), 1u);
}

TEST_P(EverySuite, ReplayIsRefusedWithinAndAcrossBursts) {
    testbed t;
    t.add_pair(access4, core4, GetParam());
    srtp_end unit(GetParam(), {{0, master_key(GetParam(), 1)}}, 4, false);
    std::vector<bytes> frames;
    for (std::uint16_t n = 1; n <= 200; ++n)
        frames.push_back(frame(unit.protect(rtp(n)), unit4, local(access4, 4000)));
    EXPECT_EQ(t.pass(0, {frames[199], frames[199], frames[198], frames[199]}).size(), 2u);
    EXPECT_EQ(t.drops(api::drop::srtp_replay), 2u);
    EXPECT_TRUE(t.pass(0, {frames[199], frames[198]}).empty());
    EXPECT_EQ(t.drops(api::drop::srtp_replay), 4u);
    EXPECT_TRUE(t.pass(0, {frames[0]}).empty());
    EXPECT_EQ(t.drops(api::drop::srtp_too_old), 1u);
    EXPECT_EQ(t.stats(id(access4, 4000)).replays, 5u);
    EXPECT_EQ(t.pass(0, {frames[150], frames[100]}).size(), 2u); // late ones still pass
}

// New epochs every few packets, in the middle of bursts, both directions: nothing is lost.
TEST_P(EverySuite, Rim13EpochsRotateUnderTraffic) {
    testbed t;
    const auto p = t.add_pair(access4, core4, GetParam());
    std::vector<srtp_end::key> up_keys, down_keys;
    for (std::uint8_t e = 0; e < 12; ++e) {
        up_keys.push_back({e, master_key(GetParam(), static_cast<std::uint8_t>(e == 0 ? 1 : 100 + e))});
        down_keys.push_back({e, master_key(GetParam(), static_cast<std::uint8_t>(e == 0 ? 2 : 200 + e))});
    }
    srtp_end unit_out(GetParam(), up_keys, 4, false), unit_in(GetParam(), down_keys, 4, true);
    std::uint16_t n = 65400;
    for (std::uint32_t epoch = 0; epoch < 12; ++epoch) {
        if (epoch != 0) {
            ASSERT_EQ(t.flows().install(
                          epoch_key(p.unit, api::side::in, epoch, GetParam(), static_cast<std::uint8_t>(100 + epoch))),
                      api::status::ok);
            ASSERT_EQ(t.flows().install(
                          epoch_key(p.core, api::side::out, epoch, GetParam(), static_cast<std::uint8_t>(200 + epoch))),
                      api::status::ok);
        }
        for (unsigned i = 0; i < 50; ++i, ++n) {
            if (epoch != 0 && i == 25) {
                ASSERT_EQ(t.flows().switch_to({p.core, epoch, api::side::out, {}}), api::status::ok);
            }
            const std::uint32_t sent_under = epoch != 0 && i % 3 == 0 ? epoch - 1 : epoch; // the old key still counts
            const auto up = t.pass(0, {frame(unit_out.protect(rtp(n), sent_under), unit4, local(access4, 4000))});
            ASSERT_EQ(up.size(), 1u) << "epoch " << epoch << " packet " << i;
            EXPECT_EQ(up[0].payload, rtp(n));
            const auto down = t.pass(1, {frame(rtp(n, 5), phone4, local(core4, 5000))});
            ASSERT_EQ(down.size(), 1u);
            EXPECT_EQ(unit_in.unprotect(down[0].payload), rtp(n, 5));
        }
        if (epoch != 0) {
            ASSERT_EQ(t.flows().retire({p.unit, epoch - 1, api::side::in, {}}), api::status::ok);
            ASSERT_EQ(t.flows().retire({p.core, epoch - 1, api::side::out, {}}), api::status::ok);
            t.flows().finish();
        }
    }
    EXPECT_EQ(t.all_drops(), 0u);
    // The old epoch is refused after its overlap.
    EXPECT_TRUE(t.pass(0, {frame(unit_out.protect(rtp(n), 10), unit4, local(access4, 4000))}).empty());
    EXPECT_EQ(t.drops(api::drop::srtp_unknown_mki), 1u);
    unsigned first_uses = 0;
    for (const auto& e : t.events())
        first_uses += e.type == api::event_type::epoch_first_use ? 1 : 0;
    EXPECT_EQ(first_uses, 12u);
}

TEST(Media, ClearToClear) {
    testbed t;
    auto c = t.add_pair(access4, core4, suite::aead_aes_128_gcm);
    ASSERT_EQ(t.flows().remove(c.unit), api::status::ok);
    t.flows().finish();
    api::flow_config up{};
    up.id = c.unit;
    up.reverse = c.core;
    up.carries = 3;
    up.source.policy = api::source_policy::followed;
    up.route.rtp_out = up.route.rtcp_out = c.core;
    up.route.rtp_remote = up.route.rtcp_remote = phone4;
    ASSERT_EQ(t.flows().add(up, 0), api::status::ok);
    const auto out = t.pass(0, {frame(rtp(1), unit4, local(access4, 4000))});
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].payload, rtp(1));
}

// Every pair of families, tagged or not on arrival: headers are written anew, checksums in full.
TEST(Media, FamiliesAndVlan) {
    for (const unsigned access : {access4, access6})
        for (const unsigned core : {core4, core6})
            for (const int vlan : {-1, 100}) {
                testbed t;
                t.add_pair(access, core, suite::aead_aes_128_gcm);
                srtp_end unit_out(suite::aead_aes_128_gcm, {{0, master_key(suite::aead_aes_128_gcm, 1)}}, 4, false);
                srtp_end unit_in(suite::aead_aes_128_gcm, {{0, master_key(suite::aead_aes_128_gcm, 2)}}, 4, true);
                const auto& unit = access == access4 ? unit4 : unit6;
                const auto& phone = core == core4 ? phone4 : phone6;
                for (std::size_t size = 0; size < 40; ++size) { // every alignment of the checksum
                    const auto n = static_cast<std::uint16_t>(size);
                    const auto up =
                        t.pass(0, {frame(unit_out.protect(rtp(n, 1, size)), unit, local(access, 4000), vlan)});
                    ASSERT_EQ(up.size(), 1u);
                    EXPECT_EQ(up[0].payload, rtp(n, 1, size));
                    EXPECT_TRUE(flow::same_address(up[0].destination, phone));
                    EXPECT_EQ(up[0].vlan, -1);
                    const auto down = t.pass(1, {frame(rtp(n, 2, size), phone, local(core, 5000))});
                    ASSERT_EQ(down.size(), 1u);
                    EXPECT_TRUE(flow::same_address(down[0].destination, unit));
                    EXPECT_EQ(down[0].vlan, vlan); // the leg is on a VLAN: learned with its address
                    EXPECT_EQ(unit_in.unprotect(down[0].payload), rtp(n, 2, size));
                }
            }
}

// RTCP on a port of its own on the core leg; the unit leg is muxed (RFC 5761).
TEST(Media, SeparateRtcpOnTheCoreLeg) {
    testbed t;
    const auto phone_rtcp = address("198.51.100.9", 6001);
    const auto s = suite::aead_aes_128_gcm;
    api::flow_config up{};
    up.id = id(access4, 4000);
    up.reverse = id(core4, 5000);
    up.in.suite = s;
    up.carries = 3;
    up.in.mki_length = 4;
    up.route.rtp_out = id(core4, 5000);
    up.route.rtcp_out = id(core4, 5001);
    up.route.rtp_remote = phone4;
    up.route.rtcp_remote = phone_rtcp;
    api::flow_config down{};
    down.id = id(core4, 5000);
    down.reverse = up.id;
    down.out.suite = s;
    down.out.mki_length = 4;
    down.carries = api::carries_rtp;
    down.source.policy = api::source_policy::signalled;
    down.source.signalled = phone4;
    down.route.rtp_out = down.route.rtcp_out = up.id;
    api::flow_config down_rtcp = down;
    down_rtcp.id = id(core4, 5001);
    down_rtcp.carries = api::carries_rtcp;
    down_rtcp.source.signalled = phone_rtcp;
    for (const auto& c : {up, down, down_rtcp})
        ASSERT_EQ(t.flows().add(c, 0), api::status::ok);
    ASSERT_EQ(t.flows().install(epoch_key(up.id, api::side::in, 0, s, 1)), api::status::ok);
    ASSERT_EQ(t.flows().install(epoch_key(down.id, api::side::out, 0, s, 2)), api::status::ok);
    ASSERT_EQ(t.flows().install(epoch_key(down_rtcp.id, api::side::out, 0, s, 2)), api::status::ok);
    srtp_end unit_out(s, {{0, master_key(s, 1)}}, 4, false), unit_in(s, {{0, master_key(s, 2)}}, 4, true);

    const auto up_out = t.pass(0, {frame(unit_out.protect(rtp(1)), unit4, local(access4, 4000)),
                                   frame(unit_out.protect(rtcp()), unit4, local(access4, 4000))});
    ASSERT_EQ(up_out.size(), 2u);
    EXPECT_TRUE(flow::same_address(up_out[0].destination, phone4));
    EXPECT_TRUE(flow::same_address(up_out[1].source, local(core4, 5001)));
    EXPECT_TRUE(flow::same_address(up_out[1].destination, phone_rtcp));
    const auto down_out =
        t.pass(1, {frame(rtp(1, 9), phone4, local(core4, 5000)), frame(rtcp(9), phone_rtcp, local(core4, 5001))});
    ASSERT_EQ(down_out.size(), 2u); // both flows' remotes latched by the one muxed leg
    for (const auto& o : down_out) {
        EXPECT_TRUE(flow::same_address(o.destination, unit4));
        EXPECT_TRUE(unit_in.unprotect(o.payload).has_value());
    }
    EXPECT_TRUE(t.pass(1, {frame(rtcp(9), phone4, local(core4, 5000))}).empty());
    EXPECT_EQ(t.drops(api::drop::rtcp_unexpected), 1u);
    EXPECT_TRUE(t.pass(1, {frame(rtp(9), phone_rtcp, local(core4, 5001))}).empty());
    EXPECT_EQ(t.drops(api::drop::rtp_unexpected), 1u);
}

// Several SSRCs, header extensions, CSRCs, padding.
TEST(Media, ShapesOfRtp) {
    testbed t;
    const auto s = suite::aes_cm_128_hmac_sha1_80;
    t.add_pair(access4, core4, s);
    srtp_end unit(s, {{0, master_key(s, 1)}}, 4, false);
    for (std::uint32_t ssrc = 1; ssrc <= 4; ++ssrc)
        for (unsigned shape = 0; shape < 8; ++shape) {
            bytes p = rtp(static_cast<std::uint16_t>(shape), ssrc, 0);
            if ((shape & 1) != 0) { // three CSRCs
                p[0] = static_cast<std::uint8_t>(p[0] | 3);
                p.resize(p.size() + 12, 0xcc);
            }
            if ((shape & 2) != 0) { // extension of two words
                p[0] |= 0x10;
                for (const int b : {0xbe, 0xde, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8})
                    p.push_back(static_cast<std::uint8_t>(b));
            }
            p.resize(p.size() + 33, 0x77);
            if ((shape & 4) != 0) {
                p[0] |= 0x20;
                p.back() = 5;
            }
            const auto out = t.pass(0, {frame(unit.protect(p), unit4, local(access4, 4000))});
            ASSERT_EQ(out.size(), 1u);
            EXPECT_EQ(out[0].payload, p);
        }
}

} // namespace
} // namespace tandem::pipeline::testing
