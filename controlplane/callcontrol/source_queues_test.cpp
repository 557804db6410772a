// SPDX-License-Identifier: Apache-2.0
// Which socket a datagram comes to, in a network namespace of this process's own. Skipped without root.
#include <gtest/gtest.h>

#include <asio/ip/v6_only.hpp>
#include <cstdlib>
#include <sched.h>
#include <set>

#include "controlplane/callcontrol/source_queues.hpp"

namespace tandem::callcontrol {
namespace {

using asio::ip::udp;

class SourceQueues : public testing::Test {
protected:
    static constexpr int lost = -1;

    void SetUp() override {
        if (::unshare(CLONE_NEWNET) != 0)
            GTEST_SKIP() << "needs root for a network namespace of its own";
        std::string setup = "ip link set lo up";
        for (int i = 1; i < 200; ++i)
            setup += " && ip address add 198.51.100." + std::to_string(i) + "/24 dev lo";
        for (const char* one : {"fd64::1", "fd64::2", "fd64:0:0:9::1"})
            setup += std::string(" && ip address add ") + one + "/64 dev lo nodad";
        ASSERT_EQ(std::system(setup.c_str()), 0);
    }

    void listen(const char* address, who_asks who) {
        auto bound = source_queues(asio::ip::make_address(address), std::move(who)).bind(io, 0);
        ASSERT_TRUE(bound) << bound.error().message();
        sockets = std::move(*bound);
    }

    // Which socket a datagram from there comes to.
    int queue(const char* address, std::uint16_t port = 0) {
        udp::socket from(io, udp::endpoint(asio::ip::make_address(address), port));
        from.send_to(asio::buffer("x", 1), sockets.front().local_endpoint());
        int at = lost;
        for (std::size_t i = 0; i < sockets.size(); ++i) {
            char byte = 0;
            asio::error_code none;
            if (sockets[i].receive(asio::buffer(&byte, 1), 0, none) == 1 && !none)
                at = static_cast<int>(i);
        }
        return at;
    }
    static int group(int socket) { return socket < 0 ? lost : (socket - 1) / static_cast<int>(source_queues::lanes); }
    static network net(const char* text) { return *read_network(text); }

    asio::io_context io;
    std::vector<udp::socket> sockets;
};

TEST_F(SourceQueues, WhoMayNotAskEndsBeforeAnyQueue) {
    listen("198.51.100.1",
           {{net("198.51.100.128/26"), net("198.51.100.7"), net("fd64::2")}, {net("198.51.100.160/28")}});
    for (const char* good : {"198.51.100.7", "198.51.100.128", "198.51.100.191", "127.0.0.1"})
        EXPECT_GT(queue(good), 0) << good;
    EXPECT_EQ(dropped_by(sockets.front()), 0U);
    for (const char* bad : {"198.51.100.8", "198.51.100.127", "198.51.100.192", "198.51.100.160", "198.51.100.1"})
        EXPECT_EQ(queue(bad), lost) << bad;
    EXPECT_EQ(dropped_by(sockets.front()), 5U) << "each is counted";
}

TEST_F(SourceQueues, AnybodyMayAskWhereNobodyIsNamed) {
    listen("198.51.100.1", {{}, {net("198.51.100.160/28")}});
    std::set<int> seen;
    for (int i = 1; i < 160; ++i) {
        const int at = queue(("198.51.100." + std::to_string(i)).c_str());
        ASSERT_GT(at, 0) << i;
        seen.insert(group(at));
    }
    EXPECT_EQ(seen.size(), source_queues::groups);
    EXPECT_EQ(queue("198.51.100.161"), lost);
}

TEST_F(SourceQueues, ANamedProxySharesItsQueueWithNobody) {
    listen("198.51.100.1", {{net("198.51.100.0/24"), net("198.51.100.7"), net("198.51.100.8")}, {}});
    const int a = group(queue("198.51.100.7")), b = group(queue("198.51.100.8")), host = group(queue("127.0.0.1"));
    EXPECT_EQ(std::set({a, b, host}).size(), 3U);
    for (int i = 9; i < 160; ++i) {
        const int at = group(queue(("198.51.100." + std::to_string(i)).c_str()));
        EXPECT_TRUE(at != a && at != b && at != host) << i;
    }
}

TEST_F(SourceQueues, PortsOfOneSourceAreItsLanes) {
    listen("198.51.100.1", {{net("198.51.100.7")}, {}});
    std::set<int> seen;
    for (std::uint16_t port = 5000; port < 5032; ++port)
        seen.insert(queue("198.51.100.7", port));
    EXPECT_EQ(seen.size(), source_queues::lanes);
    EXPECT_EQ(queue("198.51.100.7", 5001), queue("198.51.100.7", 5001)) << "one sender's keep their order";
}

TEST_F(SourceQueues, OfIpv6Likewise) {
    listen("fd64::1", {{net("fd64::2"), net("fd64:0:0:8::/63"), net("198.51.100.7")}, {}});
    EXPECT_GT(queue("::1"), 0);
    EXPECT_GT(queue("fd64::2"), 0);
    EXPECT_GT(queue("fd64:0:0:9::1"), 0);
    EXPECT_NE(group(queue("fd64::2")), group(queue("::1")));
    EXPECT_EQ(queue("fd64::1"), lost);
}

TEST_F(SourceQueues, OnLoopbackThereIsThisHostAlone) {
    listen("127.0.0.1", {{net("198.51.100.7")}, {net("198.51.100.160/28")}});
    EXPECT_EQ(sockets.size(), 1 + source_queues::lanes);
    EXPECT_EQ(group(queue("127.0.0.1")), 0);
    EXPECT_EQ(group(queue("198.51.100.7")), 0);
    EXPECT_EQ(queue("198.51.100.8"), lost);
    EXPECT_EQ(queue("198.51.100.161"), lost);
}

TEST_F(SourceQueues, MorePrefixesThanTheKernelLooksAtKeepNobodyOut) {
    who_asks many;
    for (unsigned i = 0; i <= source_queues::most_rules; ++i)
        many.from.push_back(net(("10.0." + std::to_string(i) + ".0/24").c_str()));
    listen("198.51.100.1", std::move(many));
    EXPECT_GT(queue("198.51.100.9"), 0) << "the server asks for itself";
}

TEST_F(SourceQueues, APortThatIsTakenIsSaid) {
    listen("198.51.100.1", {});
    const auto at = sockets.front().local_endpoint();
    const auto again = source_queues(at.address(), {}).bind(io, at.port());
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error(), asio::error::address_in_use);
}

} // namespace
} // namespace tandem::callcontrol
