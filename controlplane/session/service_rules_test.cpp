// SPDX-License-Identifier: Apache-2.0
#include "controlplane/session/service_rules.hpp"

#include <gtest/gtest.h>

namespace tandem::session {
namespace {

bool reaches(const char* rule, const char* to) {
    const auto parsed = parse_service(rule);
    const auto place = link::parse_endpoint(to);
    EXPECT_TRUE(parsed && place) << rule << " " << to;
    return parsed && place && may_reach({*parsed}, *place);
}
bool reaches_by_udp(const char* rule, const char* to) {
    return may_reach({*parse_service(rule)}, *link::parse_endpoint(to), service_kind::udp);
}

TEST(ServiceRules, NameAddressesNetworksAndPorts) {
    EXPECT_TRUE(reaches("198.51.100.7:80", "198.51.100.7:80"));
    EXPECT_FALSE(reaches("198.51.100.7:80", "198.51.100.7:81"));
    EXPECT_FALSE(reaches("198.51.100.7:80", "198.51.100.6:80"));
    EXPECT_TRUE(reaches("198.51.100.7:*", "198.51.100.7:1"));
    EXPECT_TRUE(reaches("198.51.96.0/20:80", "198.51.111.255:80"));
    EXPECT_FALSE(reaches("198.51.96.0/20:80", "198.51.112.0:80"));
    EXPECT_TRUE(reaches("[2001:db8::/33]:443", "[2001:db8:7fff::1]:443"));
    EXPECT_FALSE(reaches("[2001:db8::/33]:443", "[2001:db8:8000::1]:443"));
}

TEST(ServiceRules, OneFamilyIsNotTheOther) {
    EXPECT_TRUE(reaches("0.0.0.0/0:80", "203.0.113.1:80"));
    EXPECT_FALSE(reaches("0.0.0.0/0:80", "[2001:db8::1]:80"));
    EXPECT_TRUE(reaches("[::/0]:80", "[2001:db8::1]:80"));
    EXPECT_FALSE(reaches("[::/0]:80", "203.0.113.1:80"));
    EXPECT_FALSE(reaches("[::/0]:80", "[::ffff:203.0.113.1]:80"));
    EXPECT_FALSE(reaches("203.0.113.1:80", "[::ffff:203.0.113.1]:80"));
}

TEST(ServiceRules, LoopbackIsMeantWhereItIsNamed) {
    EXPECT_FALSE(reaches("0.0.0.0/0:*", "127.0.0.1:80"));
    EXPECT_TRUE(reaches("127.0.0.1:80", "127.0.0.1:80"));
    EXPECT_FALSE(reaches("[::/0]:*", "[::1]:80"));
}

TEST(ServiceRules, UdpIsMeantWhereItIsSaid) {
    EXPECT_TRUE(reaches_by_udp("198.51.100.7:53/udp", "198.51.100.7:53"));
    EXPECT_FALSE(reaches_by_udp("198.51.100.7:53", "198.51.100.7:53"));
    EXPECT_FALSE(reaches("198.51.100.7:53/udp", "198.51.100.7:53"));
    EXPECT_TRUE(reaches_by_udp("[2001:db8::/32]:*/udp", "[2001:db8::1]:5060"));
}

TEST(ServiceRules, NoRuleMeansThisHostByAnotherNameNorManyHosts) {
    for (const char* to : {"0.0.0.0:80", "224.0.0.1:80", "239.1.2.3:80"}) {
        EXPECT_FALSE(reaches("0.0.0.0/0:*", to)) << to;
        EXPECT_FALSE(reaches_by_udp("0.0.0.0/0:*/udp", to)) << to;
    }
    for (const char* to : {"[::]:80", "[ff02::1]:80"})
        EXPECT_FALSE(reaches("[::/0]:*", to)) << to;
}

TEST(ServiceRules, NothingIsAllowedWhereNothingIsSaid) {
    EXPECT_FALSE(may_reach({}, *link::parse_endpoint("198.51.100.7:80")));
}

TEST(ServiceRules, RefuseWhatIsNone) {
    for (const char* text : {"", ":", "198.51.100.7", "198.51.100.7:", "198.51.100.7:0", "198.51.100.7:65536",
                             "198.51.100.7:http", "example.org:80", "198.51.100.0/33:80", "198.51.100.0/:80",
                             "198.51.100.0/-1:80", "2001:db8::1:80", "[2001:db8::/129]:80", "[198.51.100.7]:80",
                             "198.51.100.7/udp", "198.51.100.7:53/tcp", "198.51.100.7:53/udp/udp"})
        EXPECT_FALSE(parse_service(text)) << text;
}

} // namespace
} // namespace tandem::session
