// SPDX-License-Identifier: Apache-2.0
// Streams of datagrams as UDP sockets: two sessions in one thread, whose frames are handed over in memory.
#include "controlplane/session_layer/udp_streams.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include <asio/io_context.hpp>

#include "controlplane/session_layer/pair_in_memory.hpp"

namespace tandem::session_layer {
namespace {

using namespace std::chrono_literals;
using udp = asio::ip::udp;
using octets = std::vector<std::uint8_t>;

class UdpStreams : public pair_in_memory {
protected:
    void SetUp() override {
        const auto may = [this](const link::endpoint& peer) { return peer.port != forbidden.local_endpoint().port(); };
        const auto tell = [this](udp_streams::fate f) { ++fates[static_cast<std::size_t>(f)]; };
        join();
        streams = std::make_shared<udp_streams>(io.get_executor(), ends[1].session, budget, may, tell,
                                                std::chrono::seconds(1));
        for (auto* s : {&service, &other, &forbidden})
            s->non_blocking(true);
    }
    void TearDown() override {
        streams->abort_all();
        leave();
    }
    void on(std::size_t end, const event& e) override {
        if (end == 0) {
            if (const auto* d = std::get_if<received_datagram>(&e))
                back.emplace_back(d->stream, octets(d->octets.begin(), d->octets.end()));
            if (const auto* r = std::get_if<was_reset>(&e))
                resets.push_back(r->stream);
            return;
        }
        if (const auto* o = std::get_if<opened>(&e))
            streams->begin(o->stream);
        streams->on(e);
    }
    stream_id open() {
        return *ends[0].session->use([](session& s) { return s.open(stream_kind::datagrams, "udp"); });
    }
    void say(stream_id id, const udp::socket& to, const octets& what) {
        octets all;
        write_placed({to.local_endpoint().address(), to.local_endpoint().port()}, what, all);
        ends[0].session->use([&](session& s) { s.send_datagram(id, all, std::chrono::steady_clock::now()); });
    }
    // What a service hears next, and of whom.
    std::pair<octets, udp::endpoint> heard(udp::socket& by) {
        octets all(2000);
        udp::endpoint from;
        run([&] {
            std::error_code error;
            const auto length = by.receive_from(asio::buffer(all), from, 0, error);
            if (!error)
                all.resize(length);
            return !error;
        });
        return {all, from};
    }
    [[nodiscard]] std::uint64_t count(udp_streams::fate f) const { return fates[static_cast<std::size_t>(f)]; }

    udp::socket service{io, {asio::ip::address_v4::loopback(), 0}}, other{io, {asio::ip::address_v6::loopback(), 0}},
        forbidden{io, {asio::ip::address_v4::loopback(), 0}};
    std::shared_ptr<tcp_streams::budget> budget = std::make_shared<tcp_streams::budget>();
    std::shared_ptr<udp_streams> streams;
    std::vector<std::pair<stream_id, octets>> back;
    std::vector<stream_id> resets;
    std::array<std::uint64_t, 5> fates{};
};

// The first datagram is sent before the other end can know its stream.
TEST_F(UdpStreams, OneSocketOfAFamilyForAllThatAStreamSendsTo) {
    const auto id = open();
    say(id, service, {1});
    const auto [first, from] = heard(service);
    EXPECT_EQ(first, octets{1});
    say(id, service, {});
    EXPECT_EQ(heard(service), std::pair(octets{}, from));
    say(id, other, {2});
    EXPECT_EQ(heard(other).first, octets{2});
    EXPECT_EQ(budget->connections, 2U);
    service.send_to(asio::buffer(octets{7, 8}), from);
    run([&] { return !back.empty(); });
    const auto placed = read_placed(back.front().second);
    ASSERT_TRUE(placed);
    EXPECT_EQ(back.front().first, id);
    EXPECT_EQ(placed->peer.port, service.local_endpoint().port());
    EXPECT_TRUE(std::ranges::equal(placed->octets, octets{7, 8}));
}

TEST_F(UdpStreams, EachStreamIsAnotherPeerOfItsService) {
    const auto a = open(), b = open();
    say(b, service, {2});
    say(a, service, {1});
    const auto one = heard(service), two = heard(service);
    EXPECT_NE(one.second, two.second);
    service.send_to(asio::buffer(one.first), one.second);
    service.send_to(asio::buffer(two.first), two.second);
    run([&] { return back.size() == 2; });
    for (const auto& [id, datagram] : back)
        EXPECT_EQ(datagram.back(), id == a ? 1 : 2);
}

TEST_F(UdpStreams, WhomTheRulesDoNotNameNeitherHearsNorIsHeard) {
    const auto id = open();
    say(id, forbidden, {1});
    ends[0].session->use([&](session& s) { s.send_datagram(id, octets{4, 0}, std::chrono::steady_clock::now()); });
    run([&] { return count(udp_streams::fate::not_allowed) == 2; });
    say(id, service, {2});
    const auto from = heard(service).second;
    forbidden.send_to(asio::buffer(octets{3}), from);
    run([&] { return count(udp_streams::fate::not_allowed) == 3; });
    EXPECT_TRUE(back.empty());
    octets none(10);
    std::error_code error;
    EXPECT_EQ(forbidden.receive(asio::buffer(none), 0, error), 0U);
    EXPECT_EQ(error, asio::error::would_block);
}

TEST_F(UdpStreams, WhatIsIdleOrResetOrHasNoRoomHasNoSocket) {
    const auto kept = open(), gone = open();
    say(kept, service, {1});
    say(gone, service, {1});
    (void)heard(service), (void)heard(service);
    ends[0].session->use([&](session& s) { s.reset(gone, 0); });
    run([&] { return budget->connections == 1; });
    run([&] { return !resets.empty(); }); // a second later
    EXPECT_EQ(resets, std::vector{kept});
    EXPECT_EQ(budget->connections, 0U);
    EXPECT_EQ(streams->size(), 0U);
    budget->most_connections = budget->connections = 1;
    say(open(), service, {1});
    run([&] { return count(udp_streams::fate::unsent) == 1; });
}

TEST(PlacedDatagram, WhatIsNoneIsRefused) {
    for (const auto& wrong : {octets{}, octets{4}, octets{4, 0, 53, 192, 0, 2}, octets{5, 0, 53, 192, 0, 2, 1},
                              octets{4, 0, 0, 192, 0, 2, 1}, octets{6, 0, 53, 192, 0, 2, 1}})
        EXPECT_FALSE(read_placed(wrong));
    EXPECT_TRUE(read_placed(octets{4, 0, 53, 192, 0, 2, 1}));
}

} // namespace
} // namespace tandem::session_layer
