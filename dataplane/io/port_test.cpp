// SPDX-License-Identifier: Apache-2.0
// AF_XDP ports on veth, with the XDP edge attached: frames in, frames out, and every way in which opening one can fail.
// The process lives in a network namespace of its own; the neighbour's end is read and written by a packet socket.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <fstream>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "bpf/loader/edge.hpp"
#include "bpf/loader/testing/packet_builder.hpp"
#include "bpf/loader/testing/programs.hpp"
#include "dataplane/api/drops.hpp"
#include "dataplane/api/edge_maps.h"
#include "dataplane/io/eal.hpp"
#include "dataplane/io/interface.hpp"
#include "dataplane/io/netns_fixture.hpp"
#include "dataplane/io/port.hpp"
#include "dataplane/io/ring_drops.hpp"

namespace tandem::io::testing {

namespace {

using bpf::testing::packet;
constexpr std::uint16_t media_port = 40000;

bool in_namespace = false;

eal& environment() {
    static eal running = [] {
        eal_config config;
        config.instance = "io-port-test";
        config.descriptors = 11 * 2048; // net_af_xdp keeps 4,096 buffers of each port that was opened and closed
        auto started = eal::start(config);
        if (!started) {
            std::fprintf(stderr, "%s\n", started.error().c_str());
            std::abort();
        }
        return std::move(*started);
    }();
    return running;
}

class af_xdp : public ::testing::Test {
protected:
    void SetUp() override {
        if (!in_namespace)
            GTEST_SKIP() << "cannot make a network namespace";
        ASSERT_EQ(std::system("ip link add tt0 type veth peer name tt1 && ip link set tt0 up && ip link set tt1 up"),
                  0);
        wire_ = ::socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
        sockaddr_ll where{};
        where.sll_family = AF_PACKET;
        where.sll_protocol = htons(ETH_P_ALL);
        where.sll_ifindex = static_cast<int>(::if_nametoindex("tt1"));
        ASSERT_EQ(::bind(wire_, reinterpret_cast<sockaddr*>(&where), sizeof(where)), 0);
        timeval wait{1, 0};
        ::setsockopt(wire_, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    }
    void TearDown() override {
        if (wire_ >= 0) {
            ::close(wire_);
            EXPECT_EQ(std::system("ip link del tt0"), 0);
        }
    }

    tl::expected<port, std::string> open(const std::string& interface, unsigned workers = 1) {
        return open_port({.kind = port_kind::af_xdp, .interface = interface, .media_addresses = {media_address()}},
                         environment().pool(), workers);
    }
    std::string refusal(const std::string& interface, unsigned workers = 1) {
        auto p = open(interface, workers);
        return p ? "opened" : p.error();
    }
    static bpf::edge::address media_address() {
        bpf::edge::address media{};
        media[10] = media[11] = 0xff;
        inet_pton(AF_INET, "192.0.2.1", media.data() + 12);
        return media;
    }
    static void write_edge(port& p) { p.edge->open_port(0, media_port); }
    static bpf::testing::frame datagram(std::uint16_t to, std::uint8_t value = 0x80, std::size_t length = 40) {
        return packet().eth().ipv4("198.51.100.7", "192.0.2.1").udp(5004, to).payload(length, value).bytes();
    }
    void send(const bpf::testing::frame& f) {
        ASSERT_EQ(::send(wire_, f.data(), f.size(), 0), static_cast<ssize_t>(f.size()));
    }

    void expect_sent(port& p, rte_mbuf* m, std::uint8_t value) {
        const auto bytes =
            packet().eth().ipv4("192.0.2.1", "198.51.100.7").udp(media_port, 5004).payload(100, value).bytes();
        std::memcpy(rte_pktmbuf_append(m, static_cast<std::uint16_t>(bytes.size())), bytes.data(), bytes.size());
        ASSERT_EQ(rte_eth_tx_burst(p.id, 0, &m, 1), 1);
        bpf::testing::frame got(2048);
        do { // the kernel says things of its own here, IPv6 most of all
            got.resize(2048);
            const ssize_t n = ::recv(wire_, got.data(), got.size(), 0);
            ASSERT_GT(n, 0) << "nothing came out";
            got.resize(static_cast<std::size_t>(n));
        } while (got != bytes);
    }

    // What the port receives within the time, one frame.
    static rte_mbuf* receive(const port& p, std::chrono::milliseconds wait) {
        auto end = std::chrono::steady_clock::now() + wait;
        do {
            for (std::uint16_t q = 0; q < p.rx_queues; ++q) {
                rte_mbuf* got = nullptr;
                if (rte_eth_rx_burst(p.id, q, &got, 1) == 1)
                    return got;
            }
            std::this_thread::yield();
        } while (std::chrono::steady_clock::now() < end);
        return nullptr;
    }
    static std::uint32_t attached(const char* interface) { return bpf::testing::attached(::if_nametoindex(interface)); }

    int wire_ = -1;
};

TEST_F(af_xdp, ReceivesOpenPortsOnly) {
    auto p = open("tt0");
    ASSERT_TRUE(p) << p.error();
    EXPECT_EQ(p->mode, xdp_mode::driver);
    EXPECT_EQ(p->mtu, 1500);
    write_edge(*p);
    send(datagram(media_port + 2));
    send(datagram(media_port, 0x81));
    rte_mbuf* got = receive(*p, std::chrono::seconds(3));
    ASSERT_NE(got, nullptr);
    EXPECT_EQ(got->pkt_len, 14u + 20 + 8 + 40);
    EXPECT_EQ(rte_pktmbuf_mtod(got, std::uint8_t*)[42], 0x81);
    EXPECT_GE(rte_pktmbuf_headroom(got), mbuf_headroom);
    rte_pktmbuf_free(got);
    auto verdicts = p->edge->verdicts().value();
    EXPECT_EQ(verdicts[TANDEM_EDGE_TO_WORKER], 1u);
    EXPECT_EQ(verdicts[static_cast<std::size_t>(api::drop::edge_closed_port)], 1u);
    EXPECT_EQ(receive(*p, std::chrono::milliseconds(50)), nullptr);
}

TEST_F(af_xdp, SendsWhatItIsGiven) {
    auto p = open("tt0");
    ASSERT_TRUE(p) << p.error();
    expect_sent(*p, rte_pktmbuf_alloc(environment().pool()), 0x42);
}

TEST_F(af_xdp, SendsOutOfEveryBuffer) {
    auto p = open("tt0");
    ASSERT_TRUE(p) << p.error();
    std::vector<rte_mbuf*> all;
    while (rte_mbuf* one = rte_pktmbuf_alloc(environment().pool()))
        all.push_back(one);
    ASSERT_GT(all.size(), 1000u);
    std::ranges::sort(all);
    expect_sent(*p, all.back(), 0x43);
    expect_sent(*p, all.front(), 0x44);
    rte_pktmbuf_free_bulk(all.data() + 1, static_cast<unsigned>(all.size() - 2));
}

// More frames than there are buffers, back where they came from: none is lost.
TEST_F(af_xdp, BuffersComeBack) {
    constexpr unsigned frames = 40'000;
    {
        auto p = open("tt0");
        ASSERT_TRUE(p) << p.error();
        write_edge(*p);
        unsigned sent = 0, received = 0, returned = 0;
        auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (received < frames && std::chrono::steady_clock::now() < end) {
            for (int i = 0; i < 32 && sent < frames; ++i, ++sent)
                send(datagram(media_port, static_cast<std::uint8_t>(sent), 1400));
            rte_mbuf* got[64];
            std::uint16_t n = rte_eth_rx_burst(p->id, 0, got, 64);
            received += n;
            std::uint16_t out = rte_eth_tx_burst(p->id, 0, got, n);
            returned += out;
            rte_pktmbuf_free_bulk(got + out, n - out);
        }
        EXPECT_EQ(received, frames);
        EXPECT_GT(returned, frames * 9 / 10);
    }
}

// More than the rings hold while nobody receives: what is lost there is counted, and nothing else is lost.
TEST_F(af_xdp, CountsWhatItsRingsHadNoRoomFor) {
    constexpr unsigned frames = 5000;
    std::vector<port> ports;
    ports.push_back(open("tt0").value());
    write_edge(ports[0]);
    std::array<api::worker_stats, 1> stats{};
    auto counted = [&](api::counter which) { return stats[0].counters[static_cast<std::size_t>(which)]; };
    stats[0].counters[static_cast<std::size_t>(api::counter::rx_no_buffer)] = 7; // a predecessor's
    ring_drop_counters drops(stats);
    for (unsigned i = 0; i < frames; ++i)
        send(datagram(media_port));
    for (unsigned i = 0; i < 100 && ports[0].edge->verdicts().value()[TANDEM_EDGE_TO_WORKER] < frames; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_EQ(ports[0].edge->verdicts().value()[TANDEM_EDGE_TO_WORKER], frames);
    drops.refresh(ports);
    const std::uint64_t lost = counted(api::counter::rx_ring_full) + counted(api::counter::rx_no_buffer) - 7;
    unsigned received = 0;
    for (rte_mbuf* got = nullptr; (got = receive(ports[0], std::chrono::milliseconds(200))) != nullptr; ++received)
        rte_pktmbuf_free(got);
    EXPECT_GT(lost, 0u);
    EXPECT_EQ(received + lost, frames);
    EXPECT_EQ(counted(api::counter::tx_invalid), 0u);
}

TEST_F(af_xdp, ClosingDetaches) {
    {
        auto p = open("tt0");
        ASSERT_TRUE(p) << p.error();
        EXPECT_NE(attached("tt0"), 0u);
        EXPECT_NE(refusal("tt0").find("another Tandem data plane already uses tt0"), std::string::npos);
        EXPECT_NE(attached("tt0"), 0u) << "the refused one must not detach the first";
    }
    EXPECT_EQ(attached("tt0"), 0u);
    EXPECT_TRUE(bpf::interface_claim::take(::if_nametoindex("tt0"), "tt0")) << "given up";
}

// What others may do to a port that is in use.
TEST_F(af_xdp, TellsWhetherMediaStillComes) {
    using state = api::health_state;
    const auto ip = [](const char* words) { return std::system(words) == 0; };
    auto p = open("tt0");
    ASSERT_TRUE(p) << p.error();
    EXPECT_EQ(look_at(*p), state::ok);
    ASSERT_TRUE(ip("ip link set tt1 down"));
    const auto comes_to = [&](state what) { // a carrier's end may be told some tenths of a second late
        for (int i = 0; i < 300 && look_at(*p) != what; ++i)
            ::usleep(10'000);
        return look_at(*p);
    };
    EXPECT_EQ(comes_to(state::no_carrier), state::no_carrier);
    ASSERT_TRUE(ip("ip link set tt1 up"));
    EXPECT_EQ(comes_to(state::ok), state::ok);
    ASSERT_TRUE(ip("ip link set tt0 down"));
    EXPECT_EQ(comes_to(state::interface_down), state::interface_down);
    ASSERT_TRUE(ip("ip link set tt0 up"));
    EXPECT_EQ(comes_to(state::ok), state::ok);
    ASSERT_TRUE(bpf::testing::take_socket_out(::if_nametoindex("tt0"), 0));
    EXPECT_EQ(look_at(*p), state::no_socket);
    ASSERT_TRUE(ip("ip link set dev tt0 xdp off"));
    EXPECT_EQ(look_at(*p), state::no_program);
    ASSERT_TRUE(bpf::testing::attach_foreign(::if_nametoindex("tt0")));
    EXPECT_EQ(look_at(*p), state::foreign_program);
    ASSERT_TRUE(ip("ip link del tt0"));
    EXPECT_EQ(look_at(*p), state::interface_gone);
    ASSERT_TRUE(ip("ip link add tt0 type veth peer name tt1 && ip link set tt0 up"));
    EXPECT_EQ(look_at(*p), state::interface_gone) << "another of the same name is not ours";
}

TEST_F(af_xdp, TwoPortsShareThePool) {
    ASSERT_EQ(std::system("ip link add tt2 type veth peer name tt3 && ip link set tt2 up && ip link set tt3 up"), 0);
    {
        auto a = open("tt0");
        auto b = open("tt2");
        ASSERT_TRUE(a) << a.error();
        ASSERT_TRUE(b) << b.error();
        write_edge(*a);
        send(datagram(media_port));
        rte_mbuf* got = receive(*a, std::chrono::seconds(3));
        ASSERT_NE(got, nullptr);
        EXPECT_EQ(rte_eth_tx_burst(b->id, 0, &got, 1), 1);
    }
    EXPECT_EQ(std::system("ip link del tt2"), 0);
}

TEST_F(af_xdp, KilledTandemsProgramIsReplaced) {
    ASSERT_TRUE(bpf::testing::attach_stale(::if_nametoindex("tt0")));
    std::uint32_t stale = attached("tt0");
    ASSERT_NE(stale, 0u);
    auto p = open("tt0");
    ASSERT_TRUE(p) << p.error();
    EXPECT_NE(attached("tt0"), stale);
    send(datagram(media_port)); // the addresses were told with the opening, the ports not yet
    EXPECT_EQ(receive(*p, std::chrono::milliseconds(100)), nullptr);
    EXPECT_EQ(p->edge->verdicts().value()[static_cast<std::size_t>(api::drop::edge_closed_port)], 1u);
    ASSERT_FALSE(p->notes.empty());
    EXPECT_NE(p->notes[0].find("took the place"), std::string::npos) << p->notes[0];
}

TEST_F(af_xdp, ForeignProgramIsNotTouched) {
    ASSERT_TRUE(bpf::testing::attach_foreign(::if_nametoindex("tt0")));
    std::uint32_t theirs = attached("tt0");
    EXPECT_NE(refusal("tt0").find("another XDP program ('someone_else'"), std::string::npos) << refusal("tt0");
    EXPECT_EQ(attached("tt0"), theirs);
}

TEST_F(af_xdp, GenericModeIsSaidAloud) {
    ASSERT_EQ(std::system("ip link add ttbr type bridge && ip link set ttbr mtu 9000 up"), 0);
    auto p = open("ttbr");
    ASSERT_FALSE(p);
    EXPECT_NE(p.error().find("ip link set dev ttbr mtu 1500"), std::string::npos) << p.error();
    ASSERT_EQ(std::system("ip link set dev ttbr mtu 1500"), 0);
    p = open("ttbr");
    ASSERT_TRUE(p) << p.error();
    EXPECT_EQ(p->mode, xdp_mode::generic);
    ASSERT_FALSE(p->notes.empty());
    EXPECT_NE(p->notes.back().find("generic mode"), std::string::npos) << p->notes.back();
    EXPECT_STREQ(describe(*p).xdp_mode, "generic");
}

TEST_F(af_xdp, LoIsOpenedWhateverItsMtu) {
    ASSERT_EQ(std::system("ip link set lo up"), 0); // MTU 65536
    const auto p = open("lo");
    ASSERT_TRUE(p) << p.error();
    EXPECT_TRUE(p->loopback);
    EXPECT_TRUE(p->notes.empty()) << p->notes.back();
    int accepted = 0;
    std::ifstream("/proc/sys/net/ipv4/conf/lo/accept_local") >> accepted;
    EXPECT_EQ(accepted, 1);
}

TEST_F(af_xdp, VethHasOneQueue) {
    EXPECT_EQ(prepare_queues({.interface = "tt0"}, 1).value_or(0), 1);
    auto too_many = prepare_queues({.interface = "tt0"}, 2);
    ASSERT_FALSE(too_many);
    EXPECT_NE(too_many.error().find("set workers = 1"), std::string::npos) << too_many.error();
    auto gone = prepare_queues({.interface = "nothere0"}, 1);
    ASSERT_FALSE(gone);
    EXPECT_NE(gone.error().find("no interface 'nothere0'"), std::string::npos) << gone.error();
}

TEST_F(af_xdp, MissingInterfaceIsNamed) {
    EXPECT_NE(refusal("nothere0").find("no interface 'nothere0'"), std::string::npos) << refusal("nothere0");
    EXPECT_NE(refusal("a-name-that-is-too-long-for-linux").find("is no interface name"), std::string::npos);
    EXPECT_NE(refusal("").find("is no interface name"), std::string::npos);
}

TEST_F(af_xdp, MissingPrivilegesAreNamed) {
    EXPECT_TRUE(check_privileges());
    std::thread poor([this] { // capabilities belong to a thread
        __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
        __user_cap_data_struct none[2]{};
        ASSERT_EQ(::syscall(SYS_capset, &header, none), 0);
        auto allowed = check_privileges();
        ASSERT_FALSE(allowed);
        EXPECT_NE(allowed.error().find("CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF"), std::string::npos) << allowed.error();
        EXPECT_EQ(refusal("tt0"), allowed.error());
    });
    poor.join();
}

} // namespace

} // namespace tandem::io::testing

int main(int argc, char** argv) {
    // Before the EAL makes threads: they are born into the namespace of their maker.
    tandem::io::testing::in_namespace = ::unshare(CLONE_NEWNET) == 0;
    ::testing::InitGoogleTest(&argc, argv);
    if (tandem::io::testing::in_namespace)
        tandem::io::testing::environment();
    return RUN_ALL_TESTS();
}
