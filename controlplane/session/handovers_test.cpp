// SPDX-License-Identifier: Apache-2.0
#include "controlplane/session/handovers.hpp"

#include <gtest/gtest.h>

namespace tandem::session {
namespace {

using namespace std::chrono_literals;
using session_layer::handover_kind;

handover of(const std::string& unit, std::chrono::milliseconds without = 0ms) {
    handover h;
    h.at = protocol::moment::now();
    h.unit = unit;
    h.ended = without > 0ms ? "closed" : "";
    h.without = without;
    return h;
}

TEST(Handovers, AreNumberedAndFoundNewestFirst) {
    handovers all;
    EXPECT_EQ(all.find(1), nullptr);
    all.primary_moved(of("alice"));
    all.primary_moved(of("bob", 40ms));
    all.primary_moved(of("alice", 30ms));
    ASSERT_EQ(all.list("", 10).size(), 3U);
    EXPECT_EQ(all.list("", 10)[0]->number, 3U);
    EXPECT_EQ(all.list("", 2).size(), 2U);
    ASSERT_EQ(all.list("alice", 10).size(), 2U);
    EXPECT_EQ(all.list("alice", 10)[1]->number, 1U);
    EXPECT_EQ(all.find(2)->unit, "bob");
    EXPECT_EQ(all.find(4), nullptr);
    EXPECT_EQ(all.find(0), nullptr);
    EXPECT_EQ(all.total().moves, 3U);
    EXPECT_EQ(all.total().after_loss, 2U);
    EXPECT_EQ(all.total().longest_without, 40ms);
}

TEST(Handovers, StreamsBelongToTheirUnitsLastMove) {
    handovers all;
    all.streams_moved("alice", {handover_kind::hard, 5ms, 10}); // moved, but the gateway knows no move of its primary
    all.primary_moved(of("alice"));
    all.primary_moved(of("bob"));
    all.streams_moved("alice", {handover_kind::soft, 12ms, 100});
    EXPECT_FALSE(all.find(2)->streams);
    ASSERT_TRUE(all.find(1)->streams);
    EXPECT_EQ(all.find(1)->streams->took, 12ms);
    EXPECT_EQ(all.total().octets_again, 110U);
    EXPECT_EQ(all.total().streams_hard, 1U);
    EXPECT_EQ(all.total().streams_soft, 1U);
}

TEST(Handovers, TheOldestGo) {
    handovers all;
    for (std::size_t i = 0; i < handovers::most + 5; ++i)
        all.primary_moved(of("alice"));
    EXPECT_EQ(all.kept(), handovers::most);
    EXPECT_EQ(all.find(5), nullptr);
    ASSERT_NE(all.find(6), nullptr);
    EXPECT_EQ(all.find(6)->number, 6U);
    EXPECT_EQ(all.total().moves, handovers::most + 5);
}

} // namespace
} // namespace tandem::session
