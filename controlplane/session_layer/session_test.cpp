// SPDX-License-Identifier: Apache-2.0
// Streams and datagrams of a session while its network stays.
#include <gtest/gtest.h>
#include <set>

#include <malloc.h>

#include "controlplane/session_layer/session_fixture.hpp"

namespace tandem::session_layer::testing {
namespace {

// ---- streams
// ----------------------------------------------------------------------------------------------------------

TEST_F(Session, HalfCloseThenTheRest) { // COL-08
    begin();
    const auto id = w.open(0);
    w.write(0, id, 1000);
    w.close(0, id);
    w.settle();
    EXPECT_TRUE(w.stories[id].end_seen[1]);
    EXPECT_FALSE(w.stories[id].gone[0]);
    w.write(1, id, 2000);
    w.close(1, id);
    w.settle();
    expect_whole(id);
    EXPECT_TRUE(w.stories[id].gone[0] && w.stories[id].gone[1]);
    EXPECT_EQ(w.ends[0].streams() + w.ends[1].streams(), 0U);
}

TEST_F(Session, ResetIsHeardOnceAndForgotten) {
    begin();
    const auto id = w.open(1);
    w.write(1, id, 100);
    w.settle();
    w.write(0, id, 50'000);
    w.reset(1, id, 300);
    w.settle();
    EXPECT_TRUE(w.stories[id].gone[0]);
    EXPECT_EQ(w.ends[0].streams() + w.ends[1].streams(), 0U);
    EXPECT_EQ(w.ends[0].buffered() + w.ends[1].buffered(), 0U);
}

TEST_F(Session, FiveHundredStreamsFromBothEndsDoNotMix) {
    begin();
    std::vector<stream_id> all;
    for (std::size_t i = 0; i < 500; ++i)
        all.push_back(w.open(i % 2));
    w.settle();
    for (int round = 0; round < 3; ++round)
        for (const auto id : all)
            for (const std::size_t end : {0U, 1U})
                w.write(end, id, 100 + id);
    w.settle();
    for (const auto id : all)
        expect_whole(id);
}

TEST_F(Session, StreamsHaveTheirTurn) {
    begin();
    std::vector<stream_id> all;
    for (std::size_t i = 0; i < 10; ++i)
        all.push_back(*w.ends[0].open(stream_kind::octets, "x"));
    const bytes much(60'000, 1);
    for (const auto id : all)
        ASSERT_EQ(w.ends[0].write(id, much), much.size());
    std::map<stream_id, std::size_t> sent;
    bytes frame;
    for (std::size_t total = 0; total < 300'000; frame.clear()) { // half of it
        const auto size = w.ends[0].pull(w.wires[0].link[0], frame, 16384, w.now);
        ASSERT_GT(size, 0U);
        ASSERT_LE(size, 16384U);
        total += size;
        frame_reader in(frame);
        while (const auto m = in.next())
            if (m->what() == verb::data)
                sent[m->number(field::stream)] += m->tail().size();
    }
    std::vector<std::size_t> shares;
    for (const auto& [id, share] : sent)
        shares.push_back(share);
    EXPECT_EQ(shares.size(), all.size());
    EXPECT_LE(std::ranges::max(shares) - std::ranges::min(shares), 2 * limits{}.turn);
}

TEST_F(Session, NobodySendsBeyondTheWindow) {
    begin();
    const auto id = *w.ends[0].open(stream_kind::octets, "echo");
    w.stories[id];
    const bytes much(400'000, 1);
    EXPECT_EQ(w.ends[0].write(id, much), much.size());
    // The other end's application takes nothing: only what the window allows goes out.
    auto& to = w.ends[1];
    std::size_t came = 0;
    exchange([&](std::size_t end, const event& e) {
        if (const auto* r = std::get_if<received>(&e); r != nullptr && end == 1)
            came += r->octets.size();
    });
    EXPECT_EQ(came, limits{}.window);
    to.consumed(id, came);
    EXPECT_TRUE(to.has_more(w.wires[0].link[1])); // WINDOW
}

TEST_F(Session, WriteTakesWhatThereIsRoomFor) {
    begin();
    const auto id = w.open(0);
    const auto took = w.write(0, id, 600'000);
    EXPECT_EQ(took, limits{}.stream_buffer);
    bool told = false;
    for (int i = 0; i < 4 && !told; ++i) {
        while (!w.wires[0].pipe[0].empty())
            w.deliver(0, 0);
        auto frame = w.wires[0].pipe[1].front();
        w.wires[0].pipe[1].erase(w.wires[0].pipe[1].begin());
        w.ends[0].receive(w.wires[0].link[0], frame, w.now);
        for (const auto& e : w.ends[0].take())
            told = told || std::holds_alternative<writable>(e);
    }
    EXPECT_TRUE(told);
}

// Many that wait are kept within what they share, none of them without two turns; who was refused hears of room.
TEST_F(Session, WhatManyKeepIsShared) {
    begin();
    constexpr std::size_t count = 300;
    std::vector<stream_id> all;
    for (std::size_t i = 0; i < count; ++i)
        all.push_back(*w.ends[0].open(stream_kind::octets, "many"));
    const limits l;
    EXPECT_EQ(w.ends[0].write(all[0], bytes(l.stream_buffer + 1, 1)), l.stream_buffer);
    for (std::size_t i = 1; i < count; ++i)
        EXPECT_GE(w.ends[0].write(all[i], bytes(l.stream_buffer + 1, 1)), 2 * l.turn) << i;
    EXPECT_EQ(w.ends[0].write(all[0], bytes(1, 1)), 0U);
    const auto shares = [&](std::size_t many) { return l.shared / many; };
    std::size_t bound = l.stream_buffer;
    for (std::size_t i = 2; i <= count; ++i)
        bound += std::max(2 * l.turn, std::min(l.stream_buffer, shares(i)));
    EXPECT_LE(w.ends[0].buffered(), bound);
    std::set<stream_id> told;
    std::size_t came = 0;
    exchange([&](std::size_t, const event& e) {
        if (const auto* r = std::get_if<received>(&e)) {
            came += r->octets.size();
            w.ends[1].consumed(r->stream, r->octets.size());
        } else if (const auto* room = std::get_if<writable>(&e)) {
            told.insert(room->stream);
        }
    });
    EXPECT_EQ(told.size(), count);
    EXPECT_GT(came, count * 2 * l.turn);
    EXPECT_EQ(w.ends[0].buffered(), 0U);
    EXPECT_EQ(w.ends[0].write(all[7], bytes(l.stream_buffer, 1)), l.stream_buffer); // alone again
}

#ifndef __SANITIZE_ADDRESS__ // its allocator counts otherwise
TEST_F(Session, MemoryOfWhatIsIdle) {
    begin();
    const auto before = mallinfo2().uordblks;
    constexpr std::size_t count = 1000;
    for (std::size_t i = 0; i < count; ++i) {
        const auto id = *w.ends[0].open(stream_kind::octets, std::string(200, 'x'));
        (void)w.ends[0].write(id, bytes(5000, 1));
    }
    exchange([](std::size_t, const event&) {}); // everything is acknowledged
    EXPECT_EQ(w.ends[0].buffered(), 0U);
    const auto each = (mallinfo2().uordblks - before) / count / 2;
    std::printf("idle stream: %zu octets at one end; session: %zu\n", each, sizeof(session));
    EXPECT_LE(each, 2048U);
    const auto base = mallinfo2().uordblks;
    std::vector<std::unique_ptr<session>> alone(100);
    for (auto& one : alone)
        one = std::make_unique<session>(role::creator, 1, test_secret(), limits{}, w.now);
    const auto size = (mallinfo2().uordblks - base) / alone.size();
    std::printf("session without network: %zu octets\n", size);
    EXPECT_LE(size, 4096U);
}
#endif

// ---- datagrams
// --------------------------------------------------------------------------------------------------------

TEST_F(Session, NewestDatagramWinsAndOldOnesAreNotSent) {
    begin();
    const auto side = w.connect(0, carrier::datagrams, 1, false);
    w.settle();
    const auto id = w.open(0, stream_kind::datagrams);
    w.settle();
    for (std::uint8_t i = 1; i <= 3; ++i) {
        w.ends[0].send_datagram(id, bytes(10, i), w.now);
        w.pump();
    }
    ASSERT_EQ(w.wires[side].pipe[0].size(), 3U); // the link of datagrams, of the same network
    w.deliver(side, 0, 2);
    w.deliver(side, 0, 0);
    w.deliver(side, 0, 0);
    EXPECT_EQ(w.ends[1].errors(error::datagram_old), 2U);

    w.ends[0].send_datagram(id, bytes(10, 4), w.now); // nobody pulls for a while
    w.now += 61ms;
    w.ends[0].send_datagram(id, bytes(10, 5), w.now);
    w.pump();
    EXPECT_EQ(w.ends[0].errors(error::datagram_late), 1U);
    EXPECT_EQ(w.wires[side].pipe[0].size(), 1U);
    for (std::size_t i = 0; i < limits{}.datagrams + 5; ++i)
        w.ends[0].send_datagram(id, bytes(10, 6), w.now);
    EXPECT_EQ(w.ends[0].errors(error::datagram_pushed), 5U);
}

TEST_F(Session, DatagramsGoOverTheStreamWhereThereIsNothingElse) {
    begin();
    const auto id = w.open(0, stream_kind::datagrams);
    w.settle();
    w.ends[0].send_datagram(id, bytes(10, 1), w.now);
    w.pump();
    EXPECT_EQ(w.wires[0].pipe[0].size(), 1U);
    w.settle();
    w.close(0, id);
    w.close(1, id);
    w.settle();
    EXPECT_EQ(w.ends[0].streams() + w.ends[1].streams(), 0U);
}

// A link of datagrams that loses each second frame, for a while: by the own timer.
TEST_F(Session, StreamsOverALossyLink) {
    w.largest = 1200;
    begin(carrier::datagrams);
    const auto id = w.open(0);
    w.settle();
    w.write(0, id, 200'000);
    w.close(0, id);
    for (int i = 0; i < 40'000 && !w.stories[id].end_seen[1]; ++i) {
        const auto from = static_cast<std::size_t>(i % 2);
        if (w.wires[0].pipe[0].empty() && w.wires[0].pipe[1].empty())
            w.tick();
        else if (!w.wires[0].pipe[from].empty() && i % 5 == 0)
            w.lose(0, from, 0);
        else if (!w.wires[0].pipe[from].empty())
            w.deliver(0, from);
    }
    EXPECT_TRUE(w.stories[id].end_seen[1]);
    expect_whole(id);
}

TEST(DatagramQueue, SoManyAndSoManyOctetsTheNewestWin) {
    datagram_queue queue;
    const auto push = [&](std::uint32_t number, std::size_t size) {
        return queue.push({1, number, instant{}, std::vector<std::uint8_t>(size)}, 3, 100);
    };
    EXPECT_EQ(push(1, 10) + push(2, 10) + push(3, 10), 0U);
    EXPECT_EQ(push(4, 10), 1U) << "of three at most";
    EXPECT_EQ(push(5, 90), 2U) << "of a hundred octets";
    EXPECT_EQ(push(6, 500), 2U) << "one alone may have more";
    std::vector<std::uint32_t> went;
    const auto all = [](const auto&) { return true; };
    queue.take(all, [&](const auto& d) { return went.push_back(d.sequence), true; });
    EXPECT_EQ(went, std::vector<std::uint32_t>{6});
    EXPECT_EQ(push(7, 90) + push(8, 10), 0U) << "what went counts no more";
    EXPECT_EQ(queue.age(instant{} + std::chrono::seconds(1), std::chrono::milliseconds(60)), 2U);
    EXPECT_EQ(push(9, 90) + push(10, 10), 0U) << "nor what was too old";
}

} // namespace
} // namespace tandem::session_layer::testing
