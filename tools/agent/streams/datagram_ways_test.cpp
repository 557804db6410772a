// SPDX-License-Identifier: Apache-2.0
// Programs' datagrams as streams, towards a session whose other end is watched.
#include "tools/agent/streams/datagram_ways.hpp"

#include <gtest/gtest.h>

#include "controlplane/session_layer/pair_in_memory.hpp"
#include "controlplane/session_layer/placed_datagram.hpp"
#include "controlplane/session_layer/tcp_streams.hpp"

namespace tandem::agent {
namespace {

using namespace session_layer;
using octets = std::vector<std::uint8_t>;

class DatagramWays : public pair_in_memory {
protected:
    void SetUp() override {
        join();
        ways.carried_by(ends[0].session);
    }
    void TearDown() override {
        way.reset();
        ways.carried_by(nullptr);
        leave();
    }
    void on(std::size_t end, const event& e) override {
        if (end == 0)
            return ways.on(e);
        if (const auto* o = std::get_if<opened>(&e)) {
            EXPECT_EQ(o->kind, stream_kind::datagrams);
            streams.push_back(o->stream);
        }
        if (const auto* d = std::get_if<received_datagram>(&e))
            heard.emplace_back(d->octets.begin(), d->octets.end());
        if (const auto* r = std::get_if<was_reset>(&e))
            over.push_back(r->stream);
    }
    void refuse(std::uint16_t code) {
        ends[1].session->use([&](session& s) { s.reset(streams.back(), code); });
        exchange();
    }
    void send(std::uint8_t what) { way->send(service, octets{what}); }

    const asio::ip::udp::endpoint service{asio::ip::make_address("192.0.2.7"), 53};
    datagram_ways ways;
    std::vector<octets> back;
    std::unique_ptr<datagram_way> way = ways.take([this](const auto& from, auto datagram) {
        EXPECT_EQ(from, service);
        back.emplace_back(datagram.begin(), datagram.end());
    });
    std::vector<stream_id> streams, over; // as the gateway's end sees them
    std::vector<octets> heard;
};

TEST_F(DatagramWays, OneStreamForASocketFromItsFirstDatagramToItsEnd) {
    exchange();
    EXPECT_TRUE(streams.empty());
    send(1);
    send(2);
    run([&] { return heard.size() == 2; });
    ASSERT_EQ(streams.size(), 1U);
    const auto placed = read_placed(heard[1]);
    ASSERT_TRUE(placed);
    EXPECT_EQ(link::text_of(placed->peer), "192.0.2.7:53");
    ends[1].session->use([&](session& s) { s.send_datagram(streams[0], heard[1], std::chrono::steady_clock::now()); });
    run([&] { return !back.empty(); });
    EXPECT_EQ(back[0], octets{2});
    way.reset();
    run([&] { return !over.empty(); });
    EXPECT_EQ(ways.count().sent, 2U);
    EXPECT_EQ(ways.count().lost, 0U);
}

TEST_F(DatagramWays, WhereTheGatewayHadItIdleItBeginsAnewAtOnce) {
    send(1);
    run([&] { return heard.size() == 1; });
    refuse(static_cast<std::uint16_t>(reset_code::cancelled));
    send(2);
    run([&] { return heard.size() == 2; });
    EXPECT_EQ(streams.size(), 2U);
}

TEST_F(DatagramWays, AGatewayThatRefusesIsNotAskedForEachDatagram) {
    for (const auto code : {reset_not_allowed, static_cast<std::uint16_t>(reset_code::refused)}) {
        ways.carried_by(ends[0].session); // as a session that begins: nobody has refused yet
        const auto before = streams.size();
        send(1);
        run([&] { return streams.size() == before + 1; });
        refuse(code);
        const auto lost = ways.count().lost;
        send(2);
        send(3);
        exchange();
        EXPECT_EQ(streams.size(), before + 1);
        EXPECT_EQ(ways.count().lost, lost + 2);
    }
}

TEST_F(DatagramWays, WithoutASessionTheyAreLostAndCounted) {
    ways.carried_by(nullptr);
    send(1);
    EXPECT_EQ(ways.count().lost, 1U);
    ways.carried_by(ends[0].session);
    send(2);
    run([&] { return heard.size() == 1; });
    way->send(service, octets(60000)); // larger than what the link carries
    run([&] { return ways.count().lost == 2; });
    ways.carried_by(nullptr);
    EXPECT_EQ(ways.count().lost, 2U) << "what the session lost stays counted";
}

} // namespace
} // namespace tandem::agent
