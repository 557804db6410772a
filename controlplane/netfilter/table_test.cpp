// SPDX-License-Identifier: Apache-2.0
// Rules in a network namespace of this process's own, seen by datagrams over its loopback. Skipped without root.
#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <cstdlib>
#include <optional>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "controlplane/netfilter/table.hpp"

namespace tandem::netfilter {
namespace {

prefix network(const char* text, std::uint8_t length) {
    prefix p{{}, length, std::string_view(text).find(':') == std::string_view::npos};
    ::inet_pton(p.ipv4 ? AF_INET : AF_INET6, text, p.ip.data());
    return p;
}

class Rules : public testing::Test {
protected:
    void SetUp() override {
        if (::unshare(CLONE_NEWNET) != 0)
            GTEST_SKIP() << "needs root for a network namespace of its own";
        ASSERT_EQ(std::system("ip link set lo up && ip address add fd64::2/128 dev lo"), 0);
    }

    // Whether a datagram from and to this address of the loopback arrives.
    static bool arrives(const char* address) {
        const bool ipv4 = std::string_view(address).find(':') == std::string_view::npos;
        sockaddr_storage at{};
        socklen_t length = sizeof at;
        at.ss_family = static_cast<sa_family_t>(ipv4 ? AF_INET : AF_INET6);
        if (ipv4)
            ::inet_pton(AF_INET, address, &reinterpret_cast<sockaddr_in*>(&at)->sin_addr);
        else
            ::inet_pton(AF_INET6, address, &reinterpret_cast<sockaddr_in6*>(&at)->sin6_addr);
        const int fd = ::socket(at.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        auto* const where = reinterpret_cast<sockaddr*>(&at);
        EXPECT_EQ(::bind(fd, where, ipv4 ? sizeof(sockaddr_in) : sizeof(sockaddr_in6)), 0);
        ::getsockname(fd, where, &length);
        (void)!::sendto(fd, "x", 1, 0, where, length);
        pollfd wait{fd, POLLIN, 0};
        const bool came = ::poll(&wait, 1, 100) == 1;
        ::close(fd);
        return came;
    }

    static table make(table::life how = table::life::lasting, std::string name = "tandem") {
        auto opened = table::open(std::move(name), how);
        EXPECT_TRUE(opened);
        return std::move(*opened);
    }
    static chain entry(std::vector<rule> rules, std::string name = "entry") {
        return {std::move(name), hook::prerouting, priority_raw, std::move(rules)};
    }
};

TEST_F(Rules, AddressesDecide) {
    auto t = make();
    ASSERT_TRUE(arrives("127.1.2.3") && arrives("fd64::2"));
    auto done = t.put({entry({rule().to(network("127.1.2.0", 23)).drop(), rule().from(network("fd64::", 64)).drop()})});
    ASSERT_TRUE(done) << done.error();
    EXPECT_FALSE(arrives("127.1.2.3"));
    EXPECT_FALSE(arrives("127.1.3.3")) << "a prefix, not whole bytes";
    EXPECT_TRUE(arrives("127.1.4.3"));
    EXPECT_FALSE(arrives("fd64::2"));
    EXPECT_TRUE(arrives("::1"));
}

TEST_F(Rules, TheFirstThatFitsDecides) {
    auto t = make();
    ASSERT_TRUE(t.put({entry({rule().from_interface("lo").accept(), rule().to(network("127.1.0.0", 16)).drop()})}));
    EXPECT_TRUE(arrives("127.1.2.3"));
    ASSERT_TRUE(t.put({entry({rule().from_interface("l").accept(), rule().to(network("127.1.0.0", 16)).drop()})}));
    EXPECT_FALSE(arrives("127.1.2.3")) << "a name is whole";
    ASSERT_TRUE(t.put({entry({rule().not_from_interface("lo").to(network("127.1.0.0", 16)).drop()})}));
    EXPECT_TRUE(arrives("127.1.2.3")) << "rules take the place of those before";
    ASSERT_TRUE(t.put({entry({rule().not_from_interface("tun9").to(network("127.1.0.0", 16)).drop()})}));
    EXPECT_FALSE(arrives("127.1.2.3"));
}

TEST_F(Rules, ThisHostItselfIsTold) {
    auto t = make();
    auto done = t.put({entry({rule().to(network("127.1.0.0", 16)).not_from_this_host().drop()})});
    ASSERT_TRUE(done) << done.error();
    EXPECT_TRUE(arrives("127.1.2.3"));
}

TEST_F(Rules, ChainsAreReplacedOneByOne) {
    auto first = make(), second = make();
    ASSERT_TRUE(first.put({entry({rule().to(network("127.1.0.0", 16)).drop()}, "a")}));
    ASSERT_TRUE(second.put({entry({rule().to(network("127.2.0.0", 16)).drop()}, "b")}));
    EXPECT_FALSE(arrives("127.1.0.1"));
    EXPECT_FALSE(arrives("127.2.0.1"));
    EXPECT_TRUE(first.has("a") && first.has("b") && !first.has("c"));
}

TEST_F(Rules, WhatIsLeftInAChainIsTold) {
    auto t = make();
    EXPECT_EQ(t.rules("entry"), 0U) << "no table";
    ASSERT_TRUE(t.put({entry({rule().from_interface("lo").accept(), rule().to(network("127.1.0.0", 16)).drop()}),
                       entry({rule().drop()}, "unused")}));
    EXPECT_EQ(t.rules("entry"), 2U);
    EXPECT_EQ(t.rules("other"), 0U);
    ASSERT_TRUE(t.put({entry({})})); // as `nft flush chain` does: the chain stays
    EXPECT_TRUE(t.has("entry"));
    EXPECT_EQ(t.rules("entry"), 0U);
    std::vector<rule> many(60, rule().from(network("10.0.0.0", 8)).drop());
    ASSERT_TRUE(t.put({entry(many)}));
    EXPECT_EQ(t.rules("entry"), 60U);
}

TEST_F(Rules, ARefusalChangesNothing) {
    auto t = make();
    ASSERT_TRUE(t.put({entry({rule().to(network("127.1.0.0", 16)).drop()})}));
    chain impossible{std::string(300, 'x'), hook::prerouting, priority_raw, {}};
    EXPECT_FALSE(t.put({entry({}), impossible}));
    EXPECT_FALSE(arrives("127.1.0.1"));
    EXPECT_TRUE(t.has("entry")) << "no answer of before is left";
}

TEST_F(Rules, ALastingTableStaysAndAnOwnOneGoes) {
    {
        auto lasting = make();
        auto own = make(table::life::own, "own");
        ASSERT_TRUE(lasting.put({entry({rule().to(network("127.1.0.0", 16)).drop()})}));
        ASSERT_TRUE(own.put({entry({rule().to(network("127.2.0.0", 16)).drop()})}));
        EXPECT_FALSE(arrives("127.2.0.1"));
        auto stranger = make(table::life::lasting, "own");
        EXPECT_FALSE(stranger.put({entry({})})) << "nobody else changes it";
    }
    EXPECT_FALSE(arrives("127.1.0.1"));
    for (int i = 0; i < 100 && !arrives("127.2.0.1"); ++i)
        ::usleep(10000); // the kernel clears up behind the socket
    EXPECT_TRUE(arrives("127.2.0.1"));
}

TEST_F(Rules, WithoutPrivilegeItSaysSo) {
    const pid_t child = ::fork();
    if (child == 0) {
        auto t = table::open("tandem", table::life::lasting);
        const bool dropped = ::setresuid(65534, 65534, 65534) == 0;
        const auto done = t->put({entry({})});
        _exit(dropped && !done && done.error().find("CAP_NET_ADMIN") != std::string::npos ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

} // namespace
} // namespace tandem::netfilter
