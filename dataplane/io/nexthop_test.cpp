// SPDX-License-Identifier: Apache-2.0
// Next hops against the real kernel in throw-away network namespaces: routes and neighbours as an operator changes
// them.
#include "dataplane/io/nexthop.hpp"

#include <chrono>
#include <cstring>

#include <arpa/inet.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <poll.h>

#include "dataplane/io/link.hpp"
#include "dataplane/io/netlink.hpp"
#include "dataplane/io/netns_fixture.hpp"

namespace tandem::io::testing {

namespace {

api::net_address address(const char* text) {
    api::net_address a{};
    if (inet_pton(AF_INET6, text, a.ip) != 1) {
        a.ip[10] = a.ip[11] = 0xff;
        inet_pton(AF_INET, text, a.ip + 12);
    }
    return a;
}

class nexthop : public ::testing::Test {
protected:
    void SetUp() override {
        if (!net_.make())
            GTEST_SKIP() << "cannot make a network namespace";
        net_.here("ip link add tt2 type veth peer name tt3");
        net_.here("ip link set tt2 up");
        net_.here("ip link set tt3 up");
        net_.here("ip addr add 203.0.113.1/24 dev tt2");
        two_namespaces::sysctl("ipv4/neigh/tt0/retrans_time_ms", "50");
        two_namespaces::sysctl("ipv4/neigh/tt0/mcast_solicit", "2");
        const unsigned ports[] = {0, ::if_nametoindex("tt0")}; // port 0 has no kernel interface
        auto made = nexthop_resolver::make(ports);
        ASSERT_TRUE(made) << made.error();
        resolver_ = std::move(*made);
    }

    hop_result resolve(const char* remote) {
        return resolver_->resolve(address(std::strchr(remote, ':') != nullptr ? "2001:db8::1" : "192.0.2.1"),
                                  address(remote));
    }

    // Takes the kernel's news until the answer has this state, as the control thread would; false after 3 s.
    bool becomes(const char* remote, hop_state state) {
        auto end = std::chrono::steady_clock::now() + std::chrono::seconds(3);
        while (resolve(remote).state != state) {
            std::uint64_t before = resolver_->generation();
            pollfd p{resolver_->fd(), POLLIN, 0};
            if (std::chrono::steady_clock::now() > end)
                return false;
            ::poll(&p, 1, 100);
            bool changed = resolver_->process();
            EXPECT_EQ(changed, resolver_->generation() != before);
        }
        return true;
    }

    // The news that are on their way after a command.
    bool settle() {
        bool changed = false;
        pollfd p{resolver_->fd(), POLLIN, 0};
        while (::poll(&p, 1, 100) > 0)
            changed |= resolver_->process();
        return changed;
    }

    two_namespaces net_;
    std::unique_ptr<nexthop_resolver> resolver_;
};

TEST_F(nexthop, AnAddressIsOnItsPortsVlan) {
    const auto vlan_of = [&](const char* text) {
        const api::net_address a = address(text);
        std::array<std::uint8_t, 16> ip{};
        std::copy(std::begin(a.ip), std::end(a.ip), ip.begin());
        return resolver_->vlan_of(ip);
    };
    EXPECT_EQ(vlan_of("192.0.2.1"), 0) << "untagged";
    EXPECT_EQ(vlan_of("203.0.113.1"), std::nullopt) << "on no port of ours";
    EXPECT_EQ(vlan_of("192.0.2.99"), std::nullopt) << "on nothing";
    net_.here("ip addr add 192.0.2.1/32 dev tt2");
    settle();
    EXPECT_EQ(vlan_of("192.0.2.1"), std::nullopt) << "on two, of which one is none of ours";
}

TEST_F(nexthop, OnLinkNeighbourIsFound) {
    for (const char* remote : {"192.0.2.9", "2001:db8::9"}) {
        EXPECT_EQ(resolve(remote).state, hop_state::pending) << remote << ": nobody spoke to it before";
        ASSERT_TRUE(becomes(remote, hop_state::resolved)) << remote;
        next_hop hop = resolve(remote).hop;
        EXPECT_EQ(hop.port, 1);
        EXPECT_EQ(hop.vlan, 0);
        EXPECT_EQ(hop.mtu, 1500);
        EXPECT_EQ(hop.destination_mac, neighbour_mac);
        std::string mac = fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", hop.source_mac[0], hop.source_mac[1],
                                      hop.source_mac[2], hop.source_mac[3], hop.source_mac[4], hop.source_mac[5]);
        EXPECT_NE(two_namespaces::output("ip link show tt0").find(mac), std::string::npos) << mac;
    }
    settle();
    std::uint64_t before = resolver_->generation();
    EXPECT_EQ(resolve("192.0.2.9").state, hop_state::resolved);
    EXPECT_FALSE(settle());
    EXPECT_EQ(resolver_->generation(), before) << "quiet while nothing changes";
}

TEST_F(nexthop, GatewayAndRouteChanges) {
    EXPECT_EQ(resolve("198.51.100.7").state, hop_state::no_route);
    net_.here("ip route add 198.51.100.0/24 via 192.0.2.9");
    ASSERT_TRUE(becomes("198.51.100.7", hop_state::resolved));
    EXPECT_EQ(resolve("198.51.100.7").hop.destination_mac, neighbour_mac);

    net_.here("ip route replace 198.51.100.0/24 via 192.0.2.9 mtu 1400");
    EXPECT_TRUE(settle());
    EXPECT_EQ(resolve("198.51.100.7").hop.mtu, 1400);

    net_.here("ip route replace blackhole 198.51.100.0/24");
    EXPECT_TRUE(settle());
    EXPECT_EQ(resolve("198.51.100.7").state, hop_state::no_route);

    net_.here("ip route replace 198.51.100.0/24 via 203.0.113.7");
    EXPECT_TRUE(settle());
    EXPECT_EQ(resolve("198.51.100.7").state, hop_state::not_a_port) << "leaves by tt2";

    net_.here("ip -6 route add 2001:db8:f::/48 via 2001:db8::9");
    ASSERT_TRUE(becomes("2001:db8:f::7", hop_state::resolved));
    net_.here("ip route replace 198.51.100.0/24 via inet6 2001:db8::9 dev tt0");
    EXPECT_TRUE(settle());
    ASSERT_TRUE(becomes("198.51.100.7", hop_state::resolved)) << "IPv4 via an IPv6 neighbour";
    EXPECT_EQ(resolve("198.51.100.7").hop.destination_mac, neighbour_mac);
}

TEST_F(nexthop, NeighbourChangesAreSeen) {
    ASSERT_TRUE(becomes("192.0.2.9", hop_state::resolved));
    settle();
    net_.here("ip neigh replace 192.0.2.9 lladdr 02:00:00:00:00:aa dev tt0");
    EXPECT_TRUE(settle());
    EXPECT_EQ(resolve("192.0.2.9").hop.destination_mac, (std::array<std::uint8_t, 6>{2, 0, 0, 0, 0, 0xaa}));
    // Deleted by hand: it is asked for again without a call.
    net_.here("ip neigh del 192.0.2.9 dev tt0");
    EXPECT_TRUE(settle());
    ASSERT_TRUE(becomes("192.0.2.9", hop_state::resolved));
    EXPECT_EQ(resolve("192.0.2.9").hop.destination_mac, neighbour_mac);
    // What nobody here asked for changes nothing.
    settle();
    net_.here("ip neigh add 192.0.2.50 lladdr 02:00:00:00:00:50 dev tt0");
    EXPECT_FALSE(settle());
    EXPECT_EQ(resolve("192.0.2.50").state, hop_state::resolved) << "but is known when it is asked for";
}

TEST_F(nexthop, SilentNeighbourFailsAndComesBack) {
    ASSERT_TRUE(becomes("192.0.2.77", hop_state::failed));
    net_.there("ip addr add 192.0.2.77/24 dev tt1");
    resolver_->refresh();
    EXPECT_TRUE(becomes("192.0.2.77", hop_state::resolved));
}

TEST_F(nexthop, RefreshKeepsNeighboursFresh) {
    ASSERT_TRUE(becomes("192.0.2.9", hop_state::resolved));
    net_.here("ip neigh replace 192.0.2.9 lladdr 02:00:00:00:00:09 dev tt0 nud stale");
    net_.here("ip neigh replace 192.0.2.60 lladdr 02:00:00:00:00:60 dev tt0 nud stale");
    settle();
    resolver_->refresh();
    EXPECT_EQ(two_namespaces::output("ip neigh show 192.0.2.9").find("STALE"), std::string::npos)
        << "probed as if used";
    EXPECT_NE(two_namespaces::output("ip neigh show 192.0.2.60").find("STALE"), std::string::npos) << "not in use";
    EXPECT_EQ(resolve("192.0.2.9").state, hop_state::resolved) << "usable all the time";
}

TEST_F(nexthop, LinkDownAndUp) {
    ASSERT_TRUE(becomes("192.0.2.9", hop_state::resolved));
    net_.here("ip link set tt0 down");
    EXPECT_TRUE(becomes("192.0.2.9", hop_state::no_route));
    net_.here("ip link set tt0 up");
    EXPECT_TRUE(becomes("192.0.2.9", hop_state::resolved));
    net_.here("ip link set tt0 mtu 1300");
    settle();
    EXPECT_EQ(resolve("192.0.2.9").hop.mtu, 1300);
}

TEST_F(nexthop, OddPairs) {
    EXPECT_EQ(resolver_->resolve(address("192.0.2.1"), address("2001:db8::9")).state, hop_state::no_route);
    EXPECT_EQ(resolve("192.0.2.1").state, hop_state::not_a_port) << "the gateway itself";
    EXPECT_EQ(resolve("192.0.2.255").state, hop_state::no_route) << "broadcast";
    EXPECT_EQ(resolve("224.0.0.5").state, hop_state::no_route) << "multicast";
    EXPECT_EQ(resolve("0.0.0.0").state, hop_state::no_route);
    EXPECT_EQ(resolve("203.0.113.9").state, hop_state::not_a_port);
    // A media address that is announced by routing only.
    resolver_->resolve(address("192.0.2.200"), address("192.0.2.9"));
    settle();
    EXPECT_EQ(resolver_->resolve(address("192.0.2.200"), address("192.0.2.9")).state, hop_state::resolved);
}

TEST_F(nexthop, TheHostsOwnAddressesAreBehindLo) {
    net_.here("ip link set lo up");
    const unsigned ports[] = {::if_nametoindex("tt0"), ::if_nametoindex("lo")};
    resolver_ = std::move(*nexthop_resolver::make(ports));
    for (const auto* own : {"192.0.2.1", "203.0.113.1", "2001:db8::1"}) {
        EXPECT_TRUE(becomes(own, hop_state::resolved)) << own; // IPv6's may be tentative yet
        const auto found = resolve(own);
        EXPECT_EQ(found.hop.port, 1) << own;
        EXPECT_EQ(found.hop.destination_mac, (std::array<std::uint8_t, 6>{})) << own;
    }
    EXPECT_EQ(resolve("192.0.2.255").state, hop_state::no_route) << "broadcast";
    net_.here("ip link set lo down");
    settle();
    EXPECT_NE(resolve("192.0.2.1").state, hop_state::resolved);
}

TEST_F(nexthop, ManyRouteChangesAtOnce) {
    ASSERT_TRUE(becomes("192.0.2.9", hop_state::resolved));
    std::string batch = "/tmp/tandem-nexthop-test-" + std::to_string(::getpid());
    std::ofstream out(batch);
    for (int i = 0; i < 30000; ++i)
        out << "route add 10." << i / 256 << '.' << i % 256 << ".0/24 via 192.0.2.9\n";
    out.close();
    net_.here("ip -batch " + batch);
    std::remove(batch.c_str());
    EXPECT_TRUE(settle());
    EXPECT_TRUE(becomes("10.117.47.1", hop_state::resolved)) << "the last one";
    EXPECT_EQ(resolve("192.0.2.9").state, hop_state::resolved);
}

// RTM_NEWLINK as the kernel writes it for a VLAN (not every kernel that runs this test can make one).
std::optional<link> vlan_link(std::uint32_t lower, std::uint16_t id, std::uint16_t protocol) {
    char buffer[512];
    nlmsghdr* m = mnl_nlmsg_put_header(buffer);
    m->nlmsg_type = RTM_NEWLINK;
    auto* header = static_cast<ifinfomsg*>(mnl_nlmsg_put_extra_header(m, sizeof(ifinfomsg)));
    header->ifi_index = 77;
    header->ifi_flags = IFF_UP | IFF_RUNNING;
    mnl_attr_put_u32(m, IFLA_MTU, 1496);
    mnl_attr_put_u32(m, IFLA_LINK, lower);
    const std::uint8_t mac[6] = {2, 0, 0, 0, 0, 5};
    mnl_attr_put(m, IFLA_ADDRESS, sizeof(mac), mac);
    nlattr* info = mnl_attr_nest_start(m, IFLA_LINKINFO);
    mnl_attr_put_strz(m, IFLA_INFO_KIND, "vlan");
    nlattr* data = mnl_attr_nest_start(m, IFLA_INFO_DATA);
    mnl_attr_put_u16(m, IFLA_VLAN_ID, id);
    mnl_attr_put_u16(m, IFLA_VLAN_PROTOCOL, htons(protocol));
    mnl_attr_nest_end(m, data);
    mnl_attr_nest_end(m, info);
    const unsigned ports[] = {3, 9};
    return read_link(m, ports);
}

TEST(link, VlanOnAPort) {
    auto l = vlan_link(9, 42, 0x8100);
    ASSERT_TRUE(l);
    EXPECT_EQ(l->port, 1);
    EXPECT_EQ(l->vlan, 42);
    EXPECT_EQ(l->mtu, 1496);
    EXPECT_EQ(l->mac[5], 5);
    EXPECT_TRUE(l->up);
    EXPECT_FALSE(vlan_link(4, 42, 0x8100)) << "on another interface";
    EXPECT_FALSE(vlan_link(9, 42, 0x88a8)) << "a service tag";
}

} // namespace

} // namespace tandem::io::testing
