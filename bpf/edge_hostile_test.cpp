// SPDX-License-Identifier: Apache-2.0
// What the edge decides for frames that nobody honest sends: wrong lengths, cut off anywhere, fragments, endless chains
// of extension headers, noise. To a media address they are dropped by name; none reaches a worker.
#include <random>

#include "bpf/edge_fixture.hpp"

namespace tandem::bpf::testing {

namespace {

using edge_hostile = edge_test;
constexpr outcome bad_ip = dropped(api::drop::edge_bad_ip);
constexpr outcome bad_udp = dropped(api::drop::edge_bad_udp);
constexpr outcome fragment = dropped(api::drop::edge_fragment);

TEST_F(edge_hostile, BadIpHeaders) {
    give_socket();
    check({
        {"IHL 0", udp4().first_ip_byte(0x40).bytes(), bad_ip},
        {"IHL 4", udp4().first_ip_byte(0x44).bytes(), bad_ip},
        {"IHL beyond total length", udp4().first_ip_byte(0x4f).bytes(), bad_ip},
        {"version 6 in an IPv4 frame", udp4().first_ip_byte(0x65).bytes(), bad_ip},
        {"version 0", udp4().first_ip_byte(0x05).bytes(), bad_ip},
        {"total length 0", udp4().ip_length(0).bytes(), bad_ip},
        {"total length 19", udp4().ip_length(19).bytes(), bad_ip},
        {"total length beyond the frame", udp4().ip_length(1000).bytes(), bad_ip},
        {"total length 65535", udp4().ip_length(65535).bytes(), bad_ip},
        {"IPv6: version 4", udp6().first_ip_byte(0x40).bytes(), bad_ip},
        {"IPv6: payload beyond the frame", udp6().ip_length(1000).bytes(), bad_ip},
        {"IPv6: routing header longer than the packet",
         packet().eth().ipv6(far6, media6).routing(0).cut(14 + 40 + 7).bytes(), bad_ip},
        {"IPv6: extension length 255",
         packet().eth().ipv6(far6, media6).protocol(60).data({17, 255, 0, 0, 0, 0, 0, 0}).payload(40).bytes(), bad_ip},
        {"not for us: bad IHL", packet().eth().ipv4(far4, host4).udp(1, 2).first_ip_byte(0x41).bytes(), to_kernel},
    });
}

TEST_F(edge_hostile, ExtensionHeaderChains) {
    give_socket();
    auto chain = [](int headers) {
        packet p = packet().eth().ipv6(far6, media6);
        for (int i = 0; i < headers; ++i)
            p.destination_options();
        return p.udp(5004, open_port).payload(20).bytes();
    };
    for (int headers = 0; headers <= 6; ++headers)
        EXPECT_EQ(run(chain(headers)), to_worker) << headers;
    for (int headers = 7; headers <= 100; headers += 31)
        EXPECT_EQ(run(chain(headers)), bad_ip) << headers;
    // Each of the greatest length that fits, hop-by-hop in the wrong place, a header that names itself.
    check({
        {"long headers",
         packet()
             .eth()
             .ipv6(far6, media6)
             .destination_options(80)
             .destination_options(80)
             .udp(1, open_port)
             .payload(9)
             .bytes(),
         to_worker},
        {"hop-by-hop later",
         packet().eth().ipv6(far6, media6).routing().hop_by_hop().udp(1, open_port).payload(9).bytes(), to_worker},
        {"unknown header", packet().eth().ipv6(far6, media6).protocol(253).payload(40).bytes(), to_kernel},
    });
}

TEST_F(edge_hostile, Fragments) {
    give_socket();
    check({
        {"first", packet().eth().ipv4(far4, media4, 0, 0x2000).udp(5004, open_port).payload(20).bytes(), fragment},
        {"later", packet().eth().ipv4(far4, media4, 0, 0x00b9).protocol(17).payload(20).bytes(), fragment},
        {"later, to look like a closed port", packet().eth().ipv4(far4, media4, 0, 0x2001).udp(1, closed_port).bytes(),
         fragment},
        {"later, empty", packet().eth().ipv4(far4, media4, 0, 0x1fff).protocol(17).bytes(), fragment},
        {"do not fragment is no fragment",
         packet().eth().ipv4(far4, media4, 0, 0x4000).udp(5004, open_port).payload(20).bytes(), to_worker},
        {"IPv6 first", packet().eth().ipv6(far6, media6).fragment(0, true).udp(5004, open_port).payload(24).bytes(),
         fragment},
        {"IPv6 later", packet().eth().ipv6(far6, media6).fragment(100, false).protocol(17).payload(24).bytes(),
         fragment},
        {"IPv6 atomic", packet().eth().ipv6(far6, media6).fragment(0, false).udp(5004, open_port).payload(24).bytes(),
         fragment},
        {"IPv6 after options",
         packet().eth().ipv6(far6, media6).hop_by_hop().fragment(0, true).udp(5004, open_port).payload(24).bytes(),
         fragment},
        {"IPv6 first, UDP behind options",
         packet()
             .eth()
             .ipv6(far6, media6)
             .fragment(0, true)
             .destination_options()
             .udp(1, open_port)
             .payload(16)
             .bytes(),
         fragment},
        {"IPv6 later, what it continues is hidden",
         packet().eth().ipv6(far6, media6).fragment(3, true).protocol(60).payload(24).bytes(), fragment},
        {"IPv6 later of TCP", packet().eth().ipv6(far6, media6).fragment(3, true).protocol(6).payload(24).bytes(),
         to_kernel},
        {"IPv6 later, not for us", packet().eth().ipv6(far6, host6).fragment(3, true).protocol(17).payload(24).bytes(),
         to_kernel},
    });
}

TEST_F(edge_hostile, BadUdpHeaders) {
    give_socket();
    check({
        {"length 0", udp4().udp_length(0).bytes(), bad_udp},
        {"length 7", udp4().udp_length(7).bytes(), bad_udp},
        {"length one beyond IP", udp4().udp_length(29).bytes(), bad_udp},
        {"length 65535", udp4().udp_length(65535).bytes(), bad_udp},
        {"length into the padding", packet().eth().ipv4(far4, media4).udp(1, open_port).pad(20).udp_length(20).bytes(),
         bad_udp},
        {"IPv6, length 0", udp6().udp_length(0).bytes(), bad_udp},
        {"no UDP header at all", packet().eth().ipv4(far4, media4).protocol(17).bytes(), bad_udp},
        {"header only in the padding", packet().eth().ipv4(far4, media4).protocol(17).pad(30).bytes(), bad_udp},
        {"IPv6, payload length 0", packet().eth().ipv6(far6, media6).protocol(17).bytes(), bad_udp},
        {"not for us", packet().eth().ipv4(far4, host4).udp(1, 53).udp_length(3).bytes(), to_kernel},
    });
    for (std::size_t n = 0; n < 8; ++n) // IP is whole, UDP is cut
        EXPECT_EQ(run(packet().eth().ipv4(far4, media4).udp(5004, open_port).cut(34 + n).bytes()), bad_udp) << n;
}

// Cut off at every byte, while the headers still tell the whole length: only the whole frame reaches a worker.
TEST_F(edge_hostile, TruncatedAtEveryByte) {
    give_socket();
    packet frames[] = {
        udp4(), udp6(), packet().eth().vlan(7).ipv4(far4, media4, 12).udp(1, open_port).payload(5),
        packet().eth().ipv6(far6, media6).hop_by_hop(2).destination_options().udp(1, open_port).payload(5)};
    std::size_t destination_end[] = {34, 54, 38, 54};
    for (std::size_t f = 0; f < std::size(frames); ++f) {
        std::size_t whole = frames[f].size();
        for (std::size_t n = 14; n < whole; ++n)
            EXPECT_EQ(run(frames[f].truncate(n).bytes()), n < destination_end[f] ? to_kernel : bad_ip)
                << f << " at " << n;
        EXPECT_EQ(run(frames[f].truncate(whole).bytes()), to_worker) << f;
    }
}

// Random bytes and flipped bits: always one of the three actions, always counted (run() checks), never ABORTED; and a
// worker is only given what has the open port where UDP would have it.
TEST_F(edge_hostile, Noise) {
    give_socket();
    std::mt19937 random(20260101); // NOLINT: repeatable
    packet good[] = {udp4(), udp6(),
                     packet().eth().ipv6(far6, media6).hop_by_hop().routing(1).udp(1, open_port).payload(30),
                     packet().eth().vlan(1).ipv4(far4, media4).tcp(1, tunnel, 2),
                     packet().eth().ipv6(far6, media6).fragment(0, true).udp(1, 2)};
    unsigned by_action[5]{};
    for (int i = 0; i < 4000; ++i) {
        frame bytes = good[random() % std::size(good)].bytes();
        for (auto flips = random() % 6; flips > 0; --flips)
            bytes[12 + random() % (bytes.size() - 12)] = static_cast<std::uint8_t>(random());
        if (random() % 4 == 0)
            bytes.resize(14 + random() % (bytes.size() - 14));
        outcome o = run(bytes);
        ASSERT_TRUE(o.action == XDP_PASS || o.action == XDP_DROP || o.action == XDP_REDIRECT) << o;
        ++by_action[o.action];
        if (o.action == XDP_REDIRECT) {
            bool has_port = false;
            for (std::size_t at = 36; at + 1 < bytes.size(); ++at)
                has_port |= bytes[at] == (open_port >> 8) && bytes[at + 1] == (open_port & 0xff);
            ASSERT_TRUE(has_port);
        }
    }
    EXPECT_GT(by_action[XDP_PASS], 100u);
    EXPECT_GT(by_action[XDP_DROP], 100u);
    EXPECT_GT(by_action[XDP_REDIRECT], 100u);
}

} // namespace

} // namespace tandem::bpf::testing
