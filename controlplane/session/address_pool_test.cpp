// SPDX-License-Identifier: Apache-2.0
// Inner addresses: stable per unit, the same number in both families, none given twice.
#include "controlplane/session/address_pool.hpp"

#include <gtest/gtest.h>

#include <set>

namespace tandem::session {
namespace {

using asio::ip::make_address;

address_pool pool(const char* n4, const char* n6) {
    return {n4 ? std::optional(asio::ip::make_network_v4(n4)) : std::nullopt,
            n6 ? std::optional(asio::ip::make_network_v6(n6)) : std::nullopt};
}

TEST(AddressPool, GatewayIsTheFirstHostUnitsFollow) {
    auto p = pool("10.64.0.0/16", "fd64::/64");
    EXPECT_EQ(p.gateway(), (address_pool::addresses{make_address("10.64.0.1"), make_address("fd64::1")}));
    EXPECT_EQ(p.of("alice"), (address_pool::addresses{make_address("10.64.0.2"), make_address("fd64::2")}));
    EXPECT_EQ(p.of("bob")->at(0), make_address("10.64.0.3"));
    EXPECT_EQ(p.of("alice")->at(0), make_address("10.64.0.2"));
    EXPECT_EQ(p.capacity(), 65533U);
    EXPECT_EQ(p.prefix_length(make_address("10.64.0.2")), 16U);
}

TEST(AddressPool, EveryAddressOnceThenNone) {
    auto p = pool("192.0.2.128/28", nullptr);
    std::set<asio::ip::address> seen;
    for (std::uint32_t i = 0; i < p.capacity(); ++i)
        EXPECT_TRUE(seen.insert(p.of("u" + std::to_string(i))->at(0)).second);
    EXPECT_EQ(seen.size(), 13U); // 16 less network, broadcast and gateway
    EXPECT_FALSE(seen.contains(make_address("192.0.2.143")));
    EXPECT_FALSE(p.of("one more"));
    p.forget("u5");
    EXPECT_EQ(p.of("one more")->at(0), make_address("192.0.2.135"));
    EXPECT_FALSE(p.of("two more"));
}

TEST(AddressPool, RestoreKeepsAndRefusesWhatIsForeign) {
    auto p = pool("10.64.0.0/16", "fd64::/64");
    EXPECT_TRUE(p.restore("alice", {make_address("10.64.0.9")}));
    EXPECT_FALSE(p.restore("bob", {make_address("10.64.0.9")}));
    EXPECT_FALSE(p.restore("bob", {make_address("10.65.0.9")}));
    EXPECT_FALSE(p.restore("bob", {make_address("10.64.0.1")}));
    EXPECT_FALSE(p.restore("bob", {}));
    EXPECT_TRUE(p.restore("bob", {make_address("fd64::a")}));
    EXPECT_EQ(p.of("bob")->at(0), make_address("10.64.0.10"));
    EXPECT_EQ(p.of("alice")->at(1), make_address("fd64::9"));
    for (int i = 0; i < 20; ++i) {
        const auto a = p.of("u" + std::to_string(i))->at(0);
        EXPECT_NE(a, make_address("10.64.0.9"));
        EXPECT_NE(a, make_address("10.64.0.10"));
    }
}

TEST(AddressPool, TooSmallHasNoCapacity) {
    EXPECT_EQ(pool("10.0.0.0/32", nullptr).capacity(), 0U);
    EXPECT_EQ(pool("10.0.0.0/31", nullptr).capacity(), 0U);
    EXPECT_EQ(pool("10.0.0.0/30", nullptr).capacity(), 1U);
    EXPECT_EQ(pool(nullptr, nullptr).capacity(), 0U);
    EXPECT_EQ(pool(nullptr, "fd00::/127").capacity(), 0U);
}

} // namespace
} // namespace tandem::session
