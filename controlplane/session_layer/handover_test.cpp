// SPDX-License-Identifier: Apache-2.0
// Each kind of handover, message by message, and what it leaves behind.
#include <gtest/gtest.h>

#include "controlplane/session_layer/session_fixture.hpp"

namespace tandem::session_layer::testing {
namespace {

// Order of messages, nothing lost, nothing sent twice. COL-15.
TEST_F(Session, SoftHandoverInItsOrder) {
    begin();
    const auto id = w.open(0);
    w.settle();
    w.write(0, id, 10);
    w.write(1, id, 10); // both are under way when it begins
    w.trace.clear();
    w.connect(0, carrier::stream, 2);
    w.deliver(1, 0); // JOIN
    w.deliver(1, 1); // JOINED: the new network is there
    w.write(0, id, 20);
    w.write(1, id, 20); // the other end has not heard yet: still on the old one
    EXPECT_EQ(procedures(), (lines{"a0 announce 2", "b0 data"}));
    w.settle();
    w.write(0, id, 5);
    w.settle();
    EXPECT_EQ(procedures(),
              (lines{"a0 announce 2", "b0 data", "b0 confirm 2", "a1 begin 2", "a1 data", "b1 done 2", "a1 data"}));
    expect_whole(id);
    expect_on(1);
    EXPECT_EQ(w.data_sent, 65U);
    for (const auto& seen : w.handovers) {
        ASSERT_EQ(seen.size(), 1U);
        EXPECT_EQ(seen[0].kind, handover_kind::soft);
        EXPECT_EQ(seen[0].how, handover_end::completed);
        EXPECT_EQ(seen[0].sent_again, 0U);
        EXPECT_EQ(seen[0].initiator, role::creator);
    }
    EXPECT_EQ(w.handovers[0][0].why, reason::better);
    EXPECT_EQ(w.handovers[1][0].why, reason::by_peer);
}

// The other end is mobile, too. COL-15, COL-35.
TEST_F(Session, SoftHandoverByTheOtherEnd) {
    begin();
    const auto id = w.open(0);
    w.settle();
    w.connect(1, carrier::stream, 2);
    w.settle();
    w.write(0, id, 10);
    w.write(1, id, 10);
    w.settle();
    EXPECT_EQ(procedures(), (lines{"b0 announce 1", "a0 confirm 1", "b1 begin 1", "a1 done 1", "a1 data", "b1 data"}));
    expect_whole(id);
    expect_on(1);
}

// The gap only, counted to the octet, in both directions. COL-16.
TEST_F(Session, HardHandoverSendsTheGapOnly) {
    begin();
    const auto id = w.open(0);
    w.settle();
    w.write(0, id, 100);
    w.settle();
    w.write(0, id, 30);
    w.deliver(0, 0);    // came; its ACK will not
    w.write(0, id, 40); // will not come
    w.write(1, id, 50);
    cut(0);
    w.write(0, id, 60); // waits
    EXPECT_FALSE(w.ends[0].current());
    const auto before = w.data_sent;
    w.trace.clear();
    w.connect(0, carrier::stream, 2, true, reason::lost);
    w.settle();
    EXPECT_EQ(procedures(), (lines{"a1 begin 2 hard", "b1 done 2", "b1 data", "a1 data"}));
    expect_whole(id);
    expect_on(1);
    EXPECT_EQ(w.data_sent - before, 40U + 60 + 50);
    EXPECT_EQ(w.handovers[0].back().sent_again, 40U);
    EXPECT_EQ(w.handovers[1].back().sent_again, 50U);
    EXPECT_EQ(w.handovers[0].back().kind, handover_kind::hard);
}

// OPEN, CLOSE, RESET and windows are lost and come again, also of streams that the other side never saw. COL-16.
TEST_F(Session, HardHandoverRecoversMoreThanOctets) {
    begin();
    const auto seen = w.open(0), reset = w.open(0);
    w.settle();
    w.write(0, seen, 300'000); // beyond the window: WINDOW is on its way back when it breaks
    while (!w.wires[0].pipe[0].empty())
        w.deliver(0, 0);
    w.close(1, seen);
    w.reset(0, reset);
    const auto unseen = w.open(1), unseen_reset = w.open(0), unseen_closed = w.open(0);
    w.write(1, unseen, 70);
    w.reset(0, unseen_reset);
    w.close(0, unseen_closed);
    cut(0);
    w.connect(1, carrier::stream, 2, true, reason::lost);
    w.settle();
    for (const auto id : {seen, unseen, unseen_closed})
        expect_whole(id);
    EXPECT_TRUE(w.stories[seen].end_seen[0]);
    EXPECT_TRUE(w.stories[unseen_closed].end_seen[1]);
    EXPECT_TRUE(w.stories[reset].gone[1]);
    EXPECT_TRUE(w.stories[unseen_reset].gone[1]);
    EXPECT_EQ(w.ends[0].streams(), 3U);
    EXPECT_EQ(w.ends[1].streams(), 3U);
}

// The old network dies before it confirmed, seen at once or by its silence. COL-17.
TEST_F(Session, SoftFallsIntoHard) {
    for (const bool silent : {false, true}) {
        w = world{};
        begin();
        const auto id = w.open(0);
        w.settle();
        w.connect(0, carrier::stream, 2);
        w.deliver(1, 0);
        w.write(1, id, 30); // comes no more
        w.deliver(1, 1);    // ANNOUNCE goes out
        w.wires[0].pipe[0].clear();
        w.wires[0].pipe[1].clear();
        if (silent)
            w.pass(1100ms);
        else
            cut(0);
        w.settle();
        expect_on(1);
        w.write(0, id, 20);
        w.settle();
        expect_whole(id);
        for (const auto& seen : w.handovers)
            EXPECT_EQ(seen.back().how, handover_end::completed);
        EXPECT_EQ(w.handovers[0].back().kind, handover_kind::soft_into_hard);
        EXPECT_EQ(w.handovers[1].back().kind, handover_kind::hard); // it never heard of the soft one
        EXPECT_EQ(w.handovers[1].back().sent_again, 30U);
    }
}

// COL-18: the old network is there or not, the new one has joined or has not yet.
TEST_F(Session, SoftWhereTheOldNetworkIsThere) {
    for (const bool old_there : {true, false})
        for (const bool new_joined : {true, false}) {
            w = world{};
            begin();
            const auto id = w.open(0);
            w.settle();
            if (new_joined) {
                w.connect(0, carrier::stream, 2, false);
                w.settle();
            }
            if (!old_there)
                cut(0); // with a link that has joined it goes on by itself
            if (!new_joined)
                w.connect(0, carrier::stream, 2);
            else if (old_there)
                w.ends[0].move(w.wires[1].link[0], reason::better, w.now), w.pump();
            w.settle();
            w.write(0, id, 10);
            w.settle();
            expect_whole(id);
            expect_on(1);
            EXPECT_EQ(w.handovers[0].back().kind, old_there ? handover_kind::soft : handover_kind::hard);
        }
}

// COL-36: both begin before they hear of each other; the creator's goes on at both ends, and then the other one's.
TEST_F(Session, BothAtOnceTheCreatorsGoesOn) {
    begin();
    const auto id = w.open(0);
    w.settle();
    w.connect(0, carrier::stream, 2, false);
    w.connect(1, carrier::stream, 7, false);
    w.settle();
    w.ends[1].move(w.wires[2].link[1], reason::cost, w.now);
    w.ends[0].move(w.wires[1].link[0], reason::better, w.now);
    w.pump();
    w.write(0, id, 10);
    w.write(1, id, 10);
    w.settle();
    expect_whole(id);
    const auto completed = [](const std::vector<handover>& all) {
        std::vector<std::pair<role, std::uint32_t>> out;
        for (const auto& h : all)
            if (h.how == handover_end::completed)
                out.emplace_back(h.initiator, h.number);
        return out;
    };
    const std::vector<std::pair<role, std::uint32_t>> expected{{role::creator, 2}, {role::accepter, 2}};
    EXPECT_EQ(completed(w.handovers[0]), expected);
    EXPECT_EQ(completed(w.handovers[1]), expected);
    ASSERT_EQ(w.handovers[1].size(), 3U);
    EXPECT_EQ(w.handovers[1][0].how, handover_end::stopped);
    EXPECT_EQ(w.handovers[1][2].why, reason::again);
    EXPECT_EQ(w.ends[0].errors(error::lost_the_tie), 1U);
    expect_on(2); // the stopped one began anew: its network still differed
}

TEST_F(Session, TheStoppedOneDoesNotBeginAnewOnTheSameNetwork) { // COL-36
    begin();
    w.connect(1, carrier::stream, 7, false);
    w.connect(1, carrier::stream, 7, false);
    w.settle();
    w.ends[1].move(w.wires[2].link[1], reason::cost, w.now);
    w.ends[0].move(w.wires[1].link[0], reason::better, w.now);
    w.pump();
    w.settle();
    expect_on(1);
    EXPECT_EQ(w.handovers[1].size(), 2U);
}

// Identities that the application sees are what they were. COL-19.
TEST_F(Session, FiftyHandoversAndTheSameStream) {
    begin();
    const auto id = w.open(0);
    w.settle();
    for (std::uint32_t i = 0; i < 50; ++i) {
        if (i % 3 == 1)
            cut(i);
        w.write(0, id, 1000);
        w.write(1, id, 1000);
        w.connect(i % 2, carrier::stream, 10 + i);
        w.settle();
        if (i % 3 != 1)
            cut(i); // the replaced one
    }
    expect_whole(id);
    EXPECT_EQ(w.stories[id].read[0], 50'000U);
    EXPECT_EQ(w.ends[0].tsid(), 77U);
    EXPECT_EQ(w.ends[0].streams(), 1U);
    EXPECT_EQ(w.handovers[0].size(), 50U);
    EXPECT_EQ(w.ends[0].links(), 1U);
}

TEST_F(Session, ANewLinkThatDiesLeavesTheOldOne) {
    begin();
    const auto id = w.open(0);
    w.settle();
    w.connect(0, carrier::stream, 2);
    w.deliver(1, 0);
    w.deliver(1, 1);
    w.deliver(0, 0); // ANNOUNCE: the other end has stopped
    cut(1);
    w.write(0, id, 10);
    w.write(1, id, 10);
    w.settle();
    expect_whole(id);
    expect_on(0);
    EXPECT_EQ(w.handovers[0][0].how, handover_end::failed);
    EXPECT_EQ(w.handovers[0][1].kind, handover_kind::hard);
}

TEST_F(Session, ResumesAfterADayWithoutNetwork) {
    begin();
    const auto id = w.open(0);
    w.settle();
    w.write(0, id, 500);
    w.write(1, id, 600);
    cut(0);
    w.pass(24h);
    w.connect(0, carrier::stream, 2, true, reason::lost);
    w.settle();
    expect_whole(id);
    EXPECT_EQ(w.stories[id].read[1], 500U);
    ASSERT_EQ(w.stalls[0].size(), 1U);
    EXPECT_EQ(w.stalls[0][0].stream, id);
    EXPECT_EQ(w.stalls[0][0].ended - w.stalls[0][0].began, 24h);
}

TEST_F(Session, ExpiresWithoutNetworkInTheEnd) {
    begin();
    (void)w.open(0);
    w.settle();
    cut(0);
    w.now += limits{}.keep;
    w.ends[0].poll(w.now);
    const auto told = w.ends[0].take();
    ASSERT_EQ(told.size(), 1U);
    EXPECT_TRUE(std::holds_alternative<expired>(told[0]));
    EXPECT_EQ(w.ends[0].streams(), 0U);
}

// A gateway that knows the session no more, or a stranger: links come, and never join.
TEST_F(Session, ExpiresThoughLinksFail) {
    begin();
    (void)w.open(0);
    w.settle();
    cut(0);
    for (int n = 0; n < 8; ++n) {
        w.now += limits{}.keep / 8;
        w.ends[1].lost(w.ends[1].accept(carrier::stream, {}, w.now), w.now);
    }
    w.ends[1].poll(w.now);
    const auto told = w.ends[1].take();
    EXPECT_TRUE(
        std::any_of(told.begin(), told.end(), [](const event& e) { return std::holds_alternative<expired>(e); }));
    EXPECT_EQ(w.ends[1].streams(), 0U);
}

// What bookkeeping is made of: when it began and ended, what was sent again, how long which stream stood still.
TEST_F(Session, AHandoverLeavesItsFigures) {
    begin();
    const auto busy = w.open(0), idle = w.open(0);
    w.settle();
    w.write(0, busy, 100);
    const auto lost_at = w.now;
    cut(0);
    w.now += 40ms;
    w.connect(0, carrier::stream, 2, true, reason::lost);
    w.deliver(1, 0);
    w.now += 30ms;
    w.settle();
    const auto& h = w.handovers[0].back();
    EXPECT_EQ(h.ended - h.began, 30ms);
    EXPECT_EQ(h.sent_again, 100U);
    EXPECT_EQ(h.why, reason::lost);
    ASSERT_EQ(w.stalls[0].size(), 1U);
    EXPECT_EQ(w.stalls[0][0].stream, busy);
    EXPECT_EQ(w.stalls[0][0].began, lost_at);
    EXPECT_EQ(w.stalls[0][0].ended - lost_at, 70ms);
    (void)idle;
}

} // namespace
} // namespace tandem::session_layer::testing
