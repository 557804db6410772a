// SPDX-License-Identifier: Apache-2.0
// What a frame must be before it counts as media: of its address's VLAN, not at the end of its way, and whole where its
// port looks at that.
#include "dataplane/pipeline/checksum.hpp"
#include "dataplane/pipeline/testbed_test.hpp"

#include <gtest/gtest.h>

namespace tandem::pipeline::testing {

namespace {

using api::drop;

// As a router in between would leave it.
bytes with_hops(bytes f, std::uint8_t hops) {
    if (f[12] == 0x08) {
        f[14 + 8] = hops;
        f[14 + 10] = f[14 + 11] = 0;
        const std::uint16_t sum = checksum::fold(checksum::add(f.data() + 14, 20));
        std::memcpy(f.data() + 14 + 10, &sum, sizeof sum);
    } else {
        f[14 + 7] = hops;
    }
    return f;
}

// With a right UDP checksum, made without the code under test.
bytes whole(bytes f, bool v6) {
    const std::size_t udp = v6 ? 54 : 34, addresses = v6 ? 22 : 26;
    f[udp + 6] = f[udp + 7] = 0;
    unsigned long sum = 17 + (f.size() - udp);
    const auto add = [&](std::size_t from, std::size_t to) {
        for (std::size_t i = from; i < to; ++i)
            sum += (i - from) % 2 == 0 ? static_cast<unsigned long>(f[i]) << 8 : f[i];
    };
    add(addresses, udp);
    add(udp, f.size());
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    f[udp + 6] = static_cast<std::uint8_t>(~sum >> 8);
    f[udp + 7] = static_cast<std::uint8_t>(~sum);
    return f;
}

class Arriving : public ::testing::TestWithParam<bool> {
protected:
    const bool v6 = GetParam();
    const unsigned core = v6 ? core6 : core4;
    const api::net_address phone = v6 ? phone6 : phone4;
    bytes from_phone(std::uint16_t n, int vlan = -1) const { return frame(rtp(n), phone, local(core, 5000), vlan); }
    // A call whose unit has been heard: the phone's packets have somewhere to go.
    void call(testbed& t) const {
        const unsigned access = v6 ? access6 : access4;
        t.add_pair(access, core, gcm);
        srtp_end unit(gcm, {{0, master_key(gcm, 1)}}, 4, false);
        EXPECT_EQ(t.pass(0, {frame(unit.protect(rtp(1)), v6 ? unit6 : unit4, local(access, 4000))}).size(), 1U);
    }
};
INSTANTIATE_TEST_SUITE_P(Families, Arriving, ::testing::Bool(),
                         [](const auto& family) { return family.param ? "IPv6" : "IPv4"; });

TEST_P(Arriving, ByAnotherVlanIsDropped) {
    testbed t;
    call(t);
    EXPECT_EQ(t.pass(1, {from_phone(1), from_phone(2, 7)}).size(), 2U) << "nobody knows where the address is";

    t.table().set_vlan(core, flow::port_table::untagged);
    EXPECT_EQ(t.pass(1, {from_phone(3)}).size(), 1U);
    EXPECT_EQ(t.pass(1, {from_phone(4, 0)}).size(), 1U) << "a priority tag";
    EXPECT_TRUE(t.pass(1, {from_phone(5, 7), from_phone(6, 4094)}).empty());
    EXPECT_EQ(t.drops(drop::wrong_vlan), 2U);

    t.table().set_vlan(core, 7);
    EXPECT_EQ(t.pass(1, {from_phone(7, 7)}).size(), 1U);
    EXPECT_TRUE(t.pass(1, {from_phone(8), from_phone(9, 8)}).empty());
    EXPECT_EQ(t.drops(drop::wrong_vlan), 4U);
}

TEST_P(Arriving, LeavesWithOneHopLess) {
    testbed t;
    call(t);
    std::uint16_t n = 0;
    for (const int hops : {255, 64, 3, 2}) {
        const auto out = t.pass(1, {with_hops(from_phone(++n), static_cast<std::uint8_t>(hops))});
        ASSERT_EQ(out.size(), 1U) << hops;
        EXPECT_EQ(out[0].ttl, hops - 1);
    }
    const auto tagged = t.pass(1, {from_phone(++n, 7)}); // another way through the parser
    ASSERT_EQ(tagged.size(), 1U);
    EXPECT_EQ(tagged[0].ttl, 59);
    EXPECT_TRUE(t.pass(1, {with_hops(from_phone(++n), 1), with_hops(from_phone(++n), 0)}).empty());
    EXPECT_EQ(t.drops(drop::hops_over), 2U);
}

TEST_P(Arriving, BrokenIsDroppedWhereThePortLooks) {
    testbed t(1, std::nullopt, idle_mode::adaptive, true);
    call(t);                                 // the unit's checksum is wrong, but SRTP has its tag
    for (std::uint16_t n = 1; n < 40; ++n) { // every alignment
        const bytes good = whole(frame(rtp(n, 1, n), phone, local(core, 5000)), v6);
        ASSERT_EQ(t.pass(1, {good}).size(), 1U) << n;
        bytes bad = whole(frame(rtp(static_cast<std::uint16_t>(n + 100), 1, n), phone, local(core, 5000)), v6);
        bad.back() = static_cast<std::uint8_t>(bad.back() ^ 4U);
        EXPECT_TRUE(t.pass(1, {bad}).empty()) << n;
    }
    EXPECT_EQ(t.drops(drop::udp_checksum), 39U);
    bytes none = from_phone(200);
    none[(v6 ? 54 : 34) + 6] = none[(v6 ? 54 : 34) + 7] = 0;
    EXPECT_EQ(t.pass(1, {none}).size(), v6 ? 0U : 1U) << "IPv4 may be without one";
}

} // namespace

} // namespace tandem::pipeline::testing
