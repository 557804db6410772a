// SPDX-License-Identifier: Apache-2.0
// What the edge decides for frames that are as they should be: every branch of edge.bpf.c, and its order.
#include <thread>

#include "bpf/edge_fixture.hpp"

namespace tandem::bpf::testing {

namespace {

using edge_decides = edge_test;

packet syn4(const char* from = far4) {
    return packet().eth().ipv4(from, media4).tcp(50000, tunnel, 0x02);
}

// A DTLS 1.2 record, epoch 0, that begins a handshake message of this type.
std::vector<std::uint8_t> dtls(std::uint8_t content, std::uint8_t handshake_type, std::uint8_t epoch = 0) {
    return {content, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 0, 0, 50, handshake_type, 0, 0, 38, 0, 0};
}

TEST_F(edge_decides, OpenPortIsRedirected) {
    give_socket();
    check({
        {"IPv4", udp4().bytes(), to_worker},
        {"IPv4 with options", packet().eth().ipv4(far4, media4, 40).udp(5004, open_port).payload(20).bytes(),
         to_worker},
        {"IPv4 with Ethernet padding", packet().eth().ipv4(far4, media4).udp(5004, open_port).pad(18).bytes(),
         to_worker},
        {"IPv6", udp6().bytes(), to_worker},
        {"802.1Q tag, IPv4", packet().eth().vlan(5).ipv4(far4, media4).udp(5004, open_port).payload(20).bytes(),
         to_worker},
        {"802.1ad tag, IPv6",
         packet().eth().vlan(5, 0x88a8).ipv6(far6, media6).udp(5004, open_port).payload(20).bytes(), to_worker},
        {"every extension header",
         packet()
             .eth()
             .ipv6(far6, media6)
             .hop_by_hop()
             .destination_options(3)
             .routing(2)
             .destination_options()
             .udp(5004, open_port)
             .payload(20)
             .bytes(),
         to_worker},
        {"empty datagram", packet().eth().ipv4(far4, media4).udp(5004, open_port).bytes(), to_worker},
        {"UDP shorter than IP says", udp4().udp_length(10).bytes(), to_worker},
    });
}

TEST_F(edge_decides, NoSocketNeverLeaksToTheKernel) {
    check({{"IPv4", udp4().bytes(), dropped(api::drop::edge_no_queue)},
           {"IPv6", udp6().bytes(), dropped(api::drop::edge_no_queue)}});
}

TEST_F(edge_decides, ClosedPortIsDropped) {
    give_socket();
    check({
        {"IPv4", udp4(closed_port).bytes(), dropped(api::drop::edge_closed_port)},
        {"IPv6", udp6(closed_port).bytes(), dropped(api::drop::edge_closed_port)},
        {"port 0", udp4(0).bytes(), dropped(api::drop::edge_closed_port)},
        {"port 65535", udp6(65535).bytes(), dropped(api::drop::edge_closed_port)},
        {"same port, not a media address", packet().eth().ipv4(far4, host4).udp(1, open_port).payload(9).bytes(),
         to_kernel},
        {"same port, not a media address, IPv6", packet().eth().ipv6(far6, host6).udp(1, open_port).payload(9).bytes(),
         to_kernel},
    });
}

TEST_F(edge_decides, PortsOpenAndCloseOneByOne) {
    give_socket();
    for (std::uint16_t port : {std::uint16_t{1}, std::uint16_t{63}, std::uint16_t{64}, std::uint16_t{65535}}) {
        edge_->open_port(0, port);
        EXPECT_EQ(run(udp4(port).bytes()), to_worker) << port;
        EXPECT_EQ(run(udp6(port).bytes()), dropped(api::drop::edge_closed_port)) << "the other address's " << port;
        EXPECT_EQ(run(udp4(static_cast<std::uint16_t>(port ^ 1)).bytes()), dropped(api::drop::edge_closed_port))
            << port;
        edge_->close_port(0, port);
        EXPECT_EQ(run(udp4(port).bytes()), dropped(api::drop::edge_closed_port)) << port;
    }
    EXPECT_EQ(run(udp4().bytes()), to_worker) << "was open all the time";
    ASSERT_TRUE(edge_->remove_media_address(address(media4)));
    EXPECT_EQ(run(udp4().bytes()), to_kernel) << "no media address any more";
}

TEST_F(edge_decides, LastAddressIndexHasItsOwnPorts) {
    give_socket();
    constexpr std::uint32_t last = TANDEM_EDGE_MAX_ADDRESSES - 1;
    ASSERT_TRUE(edge_->add_media_address(address("192.0.2.200"), last));
    EXPECT_FALSE(edge_->add_media_address(address("192.0.2.201"), last + 1));
    edge_->open_port(last, 65535);
    edge_->open_port(last + 1, 7); // out of range: nothing
    EXPECT_FALSE(edge_->is_open(last + 1, 7));
    EXPECT_EQ(run(packet().eth().ipv4(far4, "192.0.2.200").udp(1, 65535).payload(3).bytes()), to_worker);
    EXPECT_EQ(run(packet().eth().ipv4(far4, "192.0.2.200").udp(1, 65534).payload(3).bytes()),
              dropped(api::drop::edge_closed_port));
}

TEST_F(edge_decides, EverythingElseIsTheKernels) {
    check({
        {"ARP", packet().eth().arp().bytes(), to_kernel},
        {"ARP in a VLAN", packet().eth().vlan(9).arp().bytes(), to_kernel},
        {"two VLAN tags", packet().eth().vlan(1, 0x88a8).vlan(2).ipv4(far4, media4).udp(1, open_port).bytes(),
         to_kernel},
        {"TCP to a media address", packet().eth().ipv4(far4, media4).tcp(1, 22, 0x02).bytes(), to_kernel},
        {"TCP data to the tunnel", packet().eth().ipv4(far4, media4).tcp(1, tunnel, 0x10).payload(50).bytes(),
         to_kernel},
        {"ICMP", packet().eth().ipv4(far4, media4).protocol(1).payload(8).bytes(), to_kernel},
        {"ICMPv6", packet().eth().ipv6(far6, media6).protocol(58).payload(8).bytes(), to_kernel},
        {"ESP", packet().eth().ipv4(far4, media4).protocol(50).payload(80).bytes(), to_kernel},
        {"IPv6, no next header", packet().eth().ipv6(far6, media6).protocol(59).bytes(), to_kernel},
        {"IPv6 header to a mapped IPv4 media address",
         packet().eth().ipv6(far6, "::ffff:192.0.2.1").udp(1, open_port).bytes(), to_kernel},
        {"fragment of TCP", packet().eth().ipv4(far4, media4, 0, 0x2000).tcp(1, 22, 0x10).bytes(), to_kernel},
        {"fragment of UDP, not a media address", packet().eth().ipv4(far4, host4, 0, 0x2000).udp(1, 53).bytes(),
         to_kernel},
        {"later fragment of UDP, not a media address",
         packet().eth().ipv4(far4, host4, 0, 0x00b9).protocol(17).payload(8).bytes(), to_kernel},
    });
}

TEST_F(edge_decides, TunnelPortsGoToTheKernel) {
    ASSERT_TRUE(edge_->add_tunnel_port(5555, IPPROTO_UDP, false));
    check({
        {"SYN", syn4().bytes(), handshake},
        {"SYN to another port", packet().eth().ipv4(far4, media4).tcp(1, 4434, 0x02).bytes(), to_kernel},
        {"SYN and ACK", packet().eth().ipv4(far4, media4).tcp(1, tunnel, 0x12).bytes(), to_kernel},
        {"SYN, IPv6", packet().eth().ipv6(far6, media6).tcp(1, tunnel, 0x02).bytes(), handshake},
        {"SYN, not a media address", packet().eth().ipv4(far4, host4).tcp(1, tunnel, 0x02).bytes(), handshake},
        {"DTLS ClientHello", packet().eth().ipv4(far4, media4).udp(1, tunnel).data(dtls(22, 1)).bytes(), handshake},
        {"DTLS ServerHello", packet().eth().ipv4(far4, media4).udp(1, tunnel).data(dtls(22, 2)).bytes(), to_kernel},
        {"DTLS data", packet().eth().ipv4(far4, media4).udp(1, tunnel).data(dtls(23, 1)).bytes(), to_kernel},
        {"DTLS encrypted handshake", packet().eth().ipv4(far4, media4).udp(1, tunnel).data(dtls(22, 1, 1)).bytes(),
         to_kernel},
        {"too short for DTLS", packet().eth().ipv4(far4, media4).udp(1, tunnel).payload(13, 22).bytes(), to_kernel},
        {"ClientHello to an unlimited port", packet().eth().ipv4(far4, media4).udp(1, 5555).data(dtls(22, 1)).bytes(),
         to_kernel},
    });
    ASSERT_TRUE(edge_->remove_tunnel_port(tunnel, IPPROTO_UDP));
    EXPECT_EQ(run(udp4(tunnel).bytes()), dropped(api::drop::edge_closed_port));
    EXPECT_EQ(run(syn4().bytes()), handshake) << "TCP keeps its own";
}

TEST_F(edge_decides, SynFloodIsLimitedPerPrefix) {
    constexpr std::uint32_t per_second = 20, burst = 5;
    ASSERT_TRUE(edge_->set_handshake_limit(per_second, burst));
    unsigned passed = 0, refused = 0;
    auto flood = [&](const frame& syn, int packets) {
        for (int i = 0; i < packets; ++i) {
            outcome o = run(syn);
            if (o == handshake)
                ++passed;
            else if (o == dropped(api::drop::edge_handshake_limit))
                ++refused;
        }
    };
    auto began = std::chrono::steady_clock::now();
    flood(syn4().bytes(), 200);
    std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    EXPECT_EQ(passed + refused, 200u);
    EXPECT_GE(passed, burst);
    EXPECT_LE(passed, burst + 1 + static_cast<unsigned>(took.count() * per_second));
    EXPECT_EQ(run(syn4("198.51.100.200").bytes()), dropped(api::drop::edge_handshake_limit)) << "same /24";
    EXPECT_EQ(run(syn4("198.51.101.7").bytes()), handshake) << "another /24";
    EXPECT_EQ(run(udp4(closed_port).bytes()), dropped(api::drop::edge_closed_port))
        << "the limit is for handshakes only";

    std::this_thread::sleep_for(std::chrono::milliseconds(300)); // earns 6, holds 5
    passed = refused = 0;
    flood(syn4().bytes(), 6);
    EXPECT_GE(passed, burst);
}

TEST_F(edge_decides, Ipv6HandshakesAreLimitedPer64) {
    ASSERT_TRUE(edge_->set_handshake_limit(1, 2));
    auto syn = [](const char* from) { return packet().eth().ipv6(from, media6).tcp(1, tunnel, 0x02).bytes(); };
    EXPECT_EQ(run(syn("2001:db8:1:2::1")), handshake);
    EXPECT_EQ(run(syn("2001:db8:1:2::2")), handshake);
    EXPECT_EQ(run(syn("2001:db8:1:2::3")), dropped(api::drop::edge_handshake_limit));
    EXPECT_EQ(run(syn("2001:db8:1:3::1")), handshake);
}

// An unseen prefix has a bucket of its own, and all unseen ones have one together; where a unit has come from is none.
TEST_F(edge_decides, AllSourcesTogetherAreLimitedUnlessProven) {
    ASSERT_TRUE(edge_->set_handshake_limit(1, 2, 1, 5));
    int passed = 0;
    for (int i = 0; i < 40; ++i)
        passed += run(syn4(("10.1." + std::to_string(i) + ".1").c_str()).bytes()) == handshake ? 1 : 0;
    EXPECT_GE(passed, 5);
    EXPECT_LE(passed, 6);
    EXPECT_EQ(run(syn4("10.2.0.1").bytes()), dropped(api::drop::edge_handshakes_full));
    ASSERT_TRUE(edge_->prove(address("10.2.0.99")));
    EXPECT_EQ(run(syn4("10.2.0.1").bytes()), handshake) << "its prefix is";
    EXPECT_EQ(run(syn4("10.2.0.1").bytes()), handshake);
    EXPECT_EQ(run(syn4("10.2.0.1").bytes()), dropped(api::drop::edge_handshake_limit)) << "and has its own limit";
    const auto syn6 = [](const char* from) {
        return packet().eth().ipv6(from, media6).tcp(50000, tunnel, 0x02).bytes();
    };
    EXPECT_EQ(run(syn6("2001:db8:9::1")), dropped(api::drop::edge_handshakes_full));
    ASSERT_TRUE(edge_->prove(address("2001:db8:9::2")));
    EXPECT_EQ(run(syn6("2001:db8:9::1")), handshake);
}

// The inner network is behind tunnels: whatever comes by a wire and says it is of it, or goes there, is dropped.
TEST_F(edge_decides, InnerNetworksComeByNoWire) {
    give_socket();
    const auto v4 = [](const char* from, const char* to) { return packet().eth().ipv4(from, to); };
    const auto v6 = [](const char* from, const char* to) { return packet().eth().ipv6(from, to); };
    const auto inner = dropped(api::drop::edge_inner);
    check({{"nothing set", v4(far4, "10.64.0.1").udp(5060, 5060).payload(20).bytes(), to_kernel}});
    const edge::network both[] = {{address("10.64.0.9"), 96 + 16}, {address("fd64::9"), 64}};
    ASSERT_TRUE(edge_->set_inner(both));
    check({
        {"SIP to the gateway", v4(far4, "10.64.0.1").udp(5060, 5060).payload(20).bytes(), inner},
        {"TCP to a unit", v4(far4, "10.64.255.254").tcp(50000, tunnel, 0x02).bytes(), inner},
        {"from a unit's address", v4("10.64.0.2", host4).udp(5060, 5060).payload(20).bytes(), inner},
        {"from there to an open port", v4("10.64.0.2", media4).udp(5004, open_port).payload(20).bytes(), inner},
        {"IPv6 to the gateway", v6(far6, "fd64::1").udp(5060, 5060).payload(20).bytes(), inner},
        {"IPv6 from there", v6("fd64::1:2:3:4", media6).udp(5004, open_port).payload(20).bytes(), inner},
        {"tagged", packet().eth().vlan(5).ipv4(far4, "10.64.0.1").udp(1, 5060).payload(9).bytes(), inner},
        {"behind extension headers", v6(far6, "fd64::1").hop_by_hop().udp(1, 5060).payload(9).bytes(), inner},
        {"its address is asked for", packet().eth().arp(far4, "10.64.0.1").bytes(), inner},
        {"in a VLAN", packet().eth().vlan(5).arp(far4, "10.64.0.1").bytes(), inner},
        {"somebody says that it is his", packet().eth().arp("10.64.0.1", far4).bytes(), inner},
        {"another one is asked for", packet().eth().arp(far4, media4).bytes(), to_kernel},
        {"cut short", packet().eth().arp(far4, "10.64.0.1").truncate(14 + 27).bytes(), to_kernel},
        {"no IPv4 in it", packet().eth().arp(far4, "10.64.0.1", 16).bytes(), to_kernel},
        {"beside it", v4("10.65.0.1", "10.63.255.255").udp(1, 5060).payload(9).bytes(), to_kernel},
        {"IPv6 beside it", v6("fd64:0:0:1::1", host6).udp(1, 5060).payload(9).bytes(), to_kernel},
        {"media", udp4().bytes(), to_worker},
    });
    ASSERT_TRUE(edge_->set_inner({}));
    check({{"no more", v4(far4, "10.64.0.1").udp(5060, 5060).payload(20).bytes(), to_kernel}});
    EXPECT_FALSE(edge_->set_inner(std::vector<edge::network>(TANDEM_EDGE_MAX_INNER + 1)));
}

} // namespace

} // namespace tandem::bpf::testing
