// SPDX-License-Identifier: Apache-2.0
// Whose handshake goes on, without sockets.
#include <gtest/gtest.h>

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <deque>
#include <optional>

#include "controlplane/tunnel/handshake_queue.hpp"

namespace tandem::tunnel {
namespace {

using namespace std::chrono_literals;

class HandshakeQueue : public testing::Test {
protected:
    struct one {
        std::optional<handshake_queue::ticket> ticket;
        bool began = false, refused = false, displaced = false;
    };

    one& begin(const std::string& from, std::chrono::milliseconds patience = 10s) {
        one& made = all_.emplace_back();
        made.ticket.emplace(*queue, asio::ip::make_address(from));
        made.ticket->on_displaced([&made] { made.displaced = true; });
        asio::co_spawn(
            io,
            [](one& o, auto time) -> asio::awaitable<void> {
                (co_await o.ticket->turn(time) ? o.began : o.refused) = true;
            }(made, patience),
            asio::detached);
        return made;
    }
    void settle() {
        io.restart();
        io.poll();
    }
    // Begins and ends in vain.
    void fail(const std::string& from) {
        one& it = begin(from);
        settle();
        EXPECT_TRUE(it.began);
        it.ticket.reset();
    }

    asio::io_context io;
    std::optional<handshake_queue> queue{std::in_place, io, 4};
    std::deque<one> all_; // goes before the queue
};

TEST_F(HandshakeQueue, AFewAreUnderWayAndTheNextOneWaitsForAnEnd) {
    for (int i = 0; i < 5; ++i)
        begin("192.0.2." + std::to_string(i));
    settle();
    EXPECT_EQ(queue->under_way(), 4U);
    EXPECT_FALSE(all_.front().began) << "the newest of a source go first";
    all_.back().ticket.reset();
    settle();
    EXPECT_TRUE(all_.front().began);
    EXPECT_EQ(queue->under_way(), 4U);
    EXPECT_EQ(std::ranges::count_if(all_, [](const one& o) { return o.displaced || o.refused; }), 0);
}

TEST_F(HandshakeQueue, WhoBeginsManyGivesUpAPlaceForWhoDoesNot) {
    for (int i = 0; i < 50; ++i)
        begin("192.0.2.1");
    settle();
    EXPECT_EQ(queue->under_way(), 4U);
    one& unit = begin("198.51.100.1");
    settle();
    EXPECT_TRUE(unit.began);
    EXPECT_EQ(std::ranges::count_if(all_, [](const one& o) { return o.displaced; }), 1);
    begin("192.0.2.9"); // the same /24
    settle();
    EXPECT_FALSE(unit.displaced);
    EXPECT_FALSE(all_.back().began);
}

TEST_F(HandshakeQueue, AnAddressThatAUnitCameFromDoesNotCountWithItsNeighbours) {
    one& unit = begin("192.0.2.7");
    settle();
    unit.ticket->proven();
    unit.ticket.reset();
    for (int i = 0; i < 20; ++i)
        fail("192.0.2.66");
    for (int i = 0; i < 4; ++i)
        begin("198.51.100." + std::to_string(i)); // one each, in vain up to now
    settle();
    for (int i = 0; i < 4; ++i)
        begin("198.51.100.66");
    settle();
    one &back = begin("192.0.2.7"), &neighbour = begin("192.0.2.8");
    settle();
    EXPECT_TRUE(back.began);
    EXPECT_FALSE(neighbour.began);
}

TEST_F(HandshakeQueue, TheLastInLineGoesWhereTooManyWait) {
    for (int i = 0; i < 20; ++i)
        fail("192.0.2.66");
    for (int i = 0; i < 4; ++i)
        begin("192.0.2.66");
    settle();
    one& unit = begin("192.0.2.5"); // no better than the rest
    for (std::size_t i = 0; i < handshake_queue::most_waiting; ++i)
        begin("192.0.2.66");
    settle();
    EXPECT_TRUE(unit.refused) << "the oldest of those";
    EXPECT_EQ(std::ranges::count_if(all_, [](const one& o) { return o.refused; }), 1);
    EXPECT_TRUE(queue->is_hopeless(asio::ip::make_address("192.0.2.66")));
    EXPECT_FALSE(queue->is_hopeless(asio::ip::make_address("198.51.100.1")));
}

TEST_F(HandshakeQueue, PatienceEnds) {
    for (int i = 0; i < 4; ++i)
        begin("192.0.2.66");
    settle();
    one& late = begin("192.0.2.66", 1ms);
    for (int i = 0; i < 1000 && !late.refused; ++i) {
        io.restart();
        io.run_for(10ms);
    }
    EXPECT_TRUE(late.refused);
    EXPECT_EQ(queue->under_way(), 4U);
}

TEST(SourceScores, AreHalvedAndGo) {
    source_scores scores;
    auto now = source_scores::clock::now();
    const auto score = [&](const char* of) { return scores.of(asio::ip::make_address(of)).score(now); };
    for (int i = 0; i < 8; ++i)
        scores.of(asio::ip::make_address("2001:db8::1")).begun(now);
    EXPECT_EQ(score("2001:db8::2:0:0:1"), 8U) << "a /64";
    EXPECT_EQ(score("2001:db8:0:1::1"), 0U);
    now += source_scores::halved_after;
    EXPECT_EQ(score("2001:db8::1"), 4U);
    now += 100 * source_scores::halved_after;
    EXPECT_EQ(score("2001:db8::1"), 0U);
}

} // namespace
} // namespace tandem::tunnel
