// SPDX-License-Identifier: Apache-2.0
// Frames from anywhere: cut at every byte, every byte changed, wrong versions, fragments. Each is dropped under a name;
// nothing is forwarded that is not the true packet; no buffer leaks (the testbed's end).
#include <gtest/gtest.h>
#include <random>

#include "dataplane/pipeline/checksum.hpp"
#include "dataplane/pipeline/testbed_test.hpp"

namespace tandem::pipeline::testing {
namespace {

using api::drop;

struct Hostile : ::testing::TestWithParam<bool> {
    bool v6 = GetParam();
    testbed t;
    testbed::pair p = t.add_pair(v6 ? access6 : access4, v6 ? core6 : core4, gcm);
    srtp_end unit{gcm, {{0, master_key(gcm, 1)}}, 4, false};
    bytes good = frame(unit.protect(rtp(1, 3, 40)), v6 ? unit6 : unit4, local(v6 ? access6 : access4, 4000));
    std::size_t ip = 14;
};
INSTANTIATE_TEST_SUITE_P(Families, Hostile, ::testing::Bool(), [](const auto& i) { return i.param ? "IPv6" : "IPv4"; });

TEST_P(Hostile, CutAtEveryByte) {
    for (std::size_t size = 1; size < good.size(); ++size)
        EXPECT_TRUE(t.pass(0, {bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size))}).empty()) << size;
    EXPECT_EQ(t.all_drops(), good.size() - 1);
    EXPECT_EQ(t.drops(drop::not_ip), 13u);
    EXPECT_GT(t.drops(drop::bad_ip), 0u);
    EXPECT_EQ(t.pass(0, {good}).size(), 1u);
}

TEST_P(Hostile, EveryByteChangedNeverForwardsAnotherPacket) {
    std::mt19937 random(7);
    for (std::size_t at = 12; at < good.size(); ++at)
        for (int i = 0; i < 4; ++i) {
            bytes bad = good;
            bad[at] = static_cast<std::uint8_t>(bad[at] ^ (1 + random() % 255));
            const auto out = t.pass(0, {bad});
            if (out.empty())
                continue;
            EXPECT_EQ(out[0].payload, rtp(1, 3, 40)) << at; // a field that we ignore: the true packet passed
            return;                                         // from here on it is a replay
        }
}

TEST_P(Hostile, UdpLengths) {
    const std::size_t udp = ip + (v6 ? 40 : 20);
    for (const unsigned length : {0u, 7u, static_cast<unsigned>(good.size() - udp + 1), 0xffffu}) {
        bytes bad = good;
        bad[udp + 4] = static_cast<std::uint8_t>(length >> 8);
        bad[udp + 5] = static_cast<std::uint8_t>(length);
        EXPECT_TRUE(t.pass(0, {bad}).empty());
    }
    EXPECT_EQ(t.drops(drop::bad_udp), 4u);
    bytes no_port = good;
    no_port[udp] = no_port[udp + 1] = 0;
    EXPECT_TRUE(t.pass(0, {no_port}).empty());
    EXPECT_EQ(t.drops(drop::bad_udp), 5u);
}

TEST_P(Hostile, PaddedFramesPass) { // Ethernet's minimum, trailing bytes
    bytes padded = good;
    padded.resize(good.size() + 30, 0xee);
    const auto out = t.pass(0, {padded});
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].payload, rtp(1, 3, 40));
}

TEST_P(Hostile, WrongVersionAndProtocol) {
    for (const int version : {0, 5, 6, 15}) {
        bytes bad = good;
        bad[ip] = static_cast<std::uint8_t>(version << 4 | 5);
        if (v6 && version == 6)
            continue;
        EXPECT_TRUE(t.pass(0, {bad}).empty());
    }
    EXPECT_EQ(t.drops(drop::bad_ip), v6 ? 3u : 4u);
    bytes arp = good;
    arp[12] = 8, arp[13] = 6;
    EXPECT_TRUE(t.pass(0, {arp}).empty());
    EXPECT_EQ(t.drops(drop::not_ip), 1u);
    bytes twice = good; // two VLAN tags
    twice.insert(twice.begin() + 12, {0x81, 0, 0, 5, 0x81, 0, 0, 6});
    EXPECT_TRUE(t.pass(0, {twice}).empty());
    EXPECT_EQ(t.drops(drop::not_ip), 2u);
    if (!v6)
        return;
    bytes mapped = good; // an IPv4 address in an IPv6 packet would reach an IPv4 flow
    std::copy_n(local(access4, 0).ip, 16, mapped.begin() + 14 + 24);
    EXPECT_TRUE(t.pass(0, {mapped}).empty());
    EXPECT_EQ(t.drops(drop::bad_ip), 4u);
    bytes fragment = good;
    fragment[ip + 6] = 44;
    EXPECT_TRUE(t.pass(0, {fragment}).empty());
    EXPECT_EQ(t.drops(drop::fragment), 1u);
    bytes extension = good;
    extension[ip + 6] = 0; // hop-by-hop
    EXPECT_TRUE(t.pass(0, {extension}).empty());
    EXPECT_EQ(t.drops(drop::bad_udp), 1u);
}

class HostileIpv4 : public Hostile {};
INSTANTIATE_TEST_SUITE_P(Families, HostileIpv4, ::testing::Values(false), [](const auto&) { return "IPv4"; });

TEST_P(HostileIpv4, FragmentsAndChecksum) {
    const auto with_flags = [&](unsigned flags) {
        bytes f = good;
        f[ip + 6] = static_cast<std::uint8_t>(flags >> 8);
        f[ip + 7] = static_cast<std::uint8_t>(flags);
        f[ip + 10] = f[ip + 11] = 0;
        const std::uint16_t sum = checksum::fold(checksum::add(f.data() + ip, 20));
        std::memcpy(f.data() + ip + 10, &sum, 2);
        return f;
    };
    EXPECT_TRUE(t.pass(0, {with_flags(0x2000), with_flags(0x0001), with_flags(0x3fff)}).empty());
    EXPECT_EQ(t.drops(drop::fragment), 3u);
    bytes bad_sum = good;
    bad_sum[ip + 10] ^= 1;
    EXPECT_TRUE(t.pass(0, {bad_sum}).empty());
    bytes short_header = good;
    short_header[ip] = 0x44;
    EXPECT_TRUE(t.pass(0, {short_header}).empty());
    EXPECT_EQ(t.drops(drop::bad_ip), 2u);
    EXPECT_EQ(t.pass(0, {with_flags(0x4000)}).size(), 1u);
}

TEST_P(Hostile, PayloadCutAtEveryByte) { // lengths of IP and UDP right, SRTP cut
    const bytes whole = unit.protect(rtp(2, 3, 40));
    for (std::size_t size = 0; size < whole.size(); ++size)
        EXPECT_TRUE(t.pass(0, {frame(bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)),
                                     v6 ? unit6 : unit4, local(v6 ? access6 : access4, 4000))})
                        .empty());
    EXPECT_EQ(t.all_drops(), whole.size());
    EXPECT_EQ(t.drops(drop::rtp_malformed), 12u);
    EXPECT_EQ(t.drops(drop::srtp_truncated), 20u);
    EXPECT_EQ(t.drops(drop::srtp_unknown_mki) + t.drops(drop::srtp_auth), whole.size() - 32);
}

TEST_P(Hostile, Noise) {
    std::mt19937 random(11);
    for (int i = 0; i < 20000; ++i) {
        bytes f = i % 2 == 0 ? bytes(1 + random() % 200) : good;
        for (unsigned n = 0; n < (i % 2 == 0 ? f.size() : 1 + random() % 6); ++n)
            f[i % 2 == 0 ? n : 12 + random() % (f.size() - 12)] = static_cast<std::uint8_t>(random());
        t.inject(0, f);
        if (i % 50 == 0)
            t.pump();
    }
    t.pump();
    EXPECT_GT(t.all_drops(), 19000u);
}

} // namespace
} // namespace tandem::pipeline::testing
