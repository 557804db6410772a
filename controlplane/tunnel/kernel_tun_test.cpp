// SPDX-License-Identifier: Apache-2.0
// The kernel's TUN in a network namespace of this process's own: addresses, MTU, packets both ways. Skipped without
// root.
#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <chrono>
#include <cstring>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <set>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

#include "controlplane/protocol/inner_packet.hpp"
#include "controlplane/tunnel/inner_device.hpp"

namespace tandem::tunnel {
namespace {

using bytes = std::vector<std::uint8_t>;

tun_settings settings() {
    return {"tandemtest", asio::ip::network_v4(asio::ip::make_address_v4("10.64.0.1"), 16),
            asio::ip::network_v6(asio::ip::make_address_v6("fd64::1"), 64), 1280};
}

std::set<std::string> addresses_of(const char* name) {
    std::set<std::string> found;
    ifaddrs* all = nullptr;
    ::getifaddrs(&all);
    for (const ifaddrs* i = all; i != nullptr; i = i->ifa_next) {
        if (i->ifa_addr == nullptr || std::strcmp(i->ifa_name, name) != 0)
            continue;
        char text[INET6_ADDRSTRLEN] = "";
        if (i->ifa_addr->sa_family == AF_INET)
            ::inet_ntop(AF_INET, &reinterpret_cast<sockaddr_in*>(i->ifa_addr)->sin_addr, text, sizeof(text));
        else if (i->ifa_addr->sa_family == AF_INET6)
            ::inet_ntop(AF_INET6, &reinterpret_cast<sockaddr_in6*>(i->ifa_addr)->sin6_addr, text, sizeof(text));
        else
            continue;
        found.insert(text);
    }
    ::freeifaddrs(all);
    return found;
}

class KernelTun : public testing::Test {
protected:
    void SetUp() override {
        if (::unshare(CLONE_NEWNET) != 0)
            GTEST_SKIP() << "needs root for a network namespace of its own";
        if (::access("/dev/net/tun", R_OK | W_OK) != 0)
            GTEST_SKIP() << "needs /dev/net/tun";
    }
    asio::io_context io_;
};

TEST_F(KernelTun, HasItsAddressesAndMtu) {
    auto tun = make_kernel_tun(io_, settings());
    const auto ok = tun->start([](auto) {});
    ASSERT_TRUE(ok) << ok.error();
    EXPECT_EQ(addresses_of("tandemtest"), (std::set<std::string>{"10.64.0.1", "fd64::1"})); // no link-local one
    const int s = ::socket(AF_INET, SOCK_DGRAM, 0);
    ifreq request{};
    std::strcpy(request.ifr_name, "tandemtest");
    ASSERT_EQ(::ioctl(s, SIOCGIFMTU, &request), 0);
    EXPECT_EQ(request.ifr_mtu, 1280);
    ASSERT_EQ(::ioctl(s, SIOCGIFFLAGS, &request), 0);
    EXPECT_TRUE(request.ifr_flags & IFF_UP);
    ::close(s);

    auto second = make_kernel_tun(io_, settings());
    const auto taken = second->start([](auto) {});
    ASSERT_FALSE(taken);
    EXPECT_NE(taken.error().find("another program"), std::string::npos) << taken.error();
    tun->stop();
    EXPECT_EQ(::if_nametoindex("tandemtest"), 0U); // gone with its program
}

TEST_F(KernelTun, CarriesPacketsBothWays) {
    std::vector<bytes> read;
    auto tun = make_kernel_tun(io_, settings());
    const auto ok = tun->start([&](std::span<const std::uint8_t> p) { read.emplace_back(p.begin(), p.end()); });
    ASSERT_TRUE(ok) << ok.error();
    const int s = ::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    sockaddr_in own{}, unit{};
    own.sin_family = unit.sin_family = AF_INET;
    own.sin_port = unit.sin_port = htons(5060);
    own.sin_addr.s_addr = htonl(0x0A400001);
    unit.sin_addr.s_addr = htonl(0x0A400007);
    ASSERT_EQ(::bind(s, reinterpret_cast<sockaddr*>(&own), sizeof(own)), 0);
    ASSERT_EQ(::sendto(s, "ping", 4, 0, reinterpret_cast<sockaddr*>(&unit), sizeof(unit)), 4);
    io_.run_for(std::chrono::milliseconds(200));
    ASSERT_EQ(read.size(), 1U);
    const auto a = protocol::parse_inner(read[0]);
    ASSERT_TRUE(a);
    EXPECT_EQ(a->destination.bytes[15], 7);

    // Back: addresses and ports are the same backwards, so both checksums stay right.
    bytes back = read[0];
    std::swap_ranges(back.begin() + 12, back.begin() + 16, back.begin() + 16);
    ASSERT_TRUE(tun->write(back));
    char text[16] = "";
    EXPECT_EQ(::recv(s, text, sizeof(text), 0), 4);
    EXPECT_STREQ(text, "ping");
    ::close(s);
    tun->stop();
    EXPECT_FALSE(tun->write(back));
}

TEST_F(KernelTun, BadNameIsASentence) {
    for (const char* name : {"", "a-name-that-is-too-long"}) {
        auto s = settings();
        s.name = name;
        const auto ok = make_kernel_tun(io_, s)->start([](auto) {});
        ASSERT_FALSE(ok);
        EXPECT_NE(ok.error().find("1 to 15"), std::string::npos);
    }
}

} // namespace
} // namespace tandem::tunnel
