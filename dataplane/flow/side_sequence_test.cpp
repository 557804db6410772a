// SPDX-License-Identifier: Apache-2.0
// Sequence numbers of clear input (RFC 3550 A.1) on their way to an SRTP out-side: what is lost, late, stray, and what
// a source does that begins anew. The judge is an SRTP in-side, which guesses the roll-over counter as every receiver
// does.
#include <set>

#include "dataplane/flow/side_testing.hpp"

namespace tandem::flow {
namespace {

using namespace testing;
using api::drop;

class Sequence : public side_fixture {
protected:
    void SetUp() override {
        start(gcm, 0);
        give_both(0);
        ASSERT_EQ(init_side(clear_, api::side::in, api::suite::clear, 0), api::status::ok);
    }
    // In by the clear side and, where it is forwarded, out by the SRTP side.
    outcome pass(std::uint32_t ssrc, std::uint16_t sequence, bool forwarded = true) {
        outcome o;
        o.packet = rtp(ssrc, sequence, 20, random_);
        const auto length = static_cast<std::uint32_t>(o.packet.size());
        o.packet.resize(length + rtp::max_trailer);
        o.result = prepare_unprotect(clear_, pool_, streams_, o.packet.data(), length, o.op);
        if (o.result == drop::none)
            o.result = commit_unprotect(clear_, pool_, streams_, *engine_, o.op);
        if (o.result == drop::none && forwarded)
            o.result = prepare_protect(world_->out, pool_, streams_, rtp::max_trailer, o.op);
        engine_->protect({&o.op, 1});
        o.packet.resize(o.op.length);
        if (o.result == drop::none && forwarded) {
            EXPECT_EQ(take(o.packet), drop::none) << "at the receiver: " << o.op.index;
            EXPECT_TRUE(indices_.emplace(ssrc, o.op.index).second) << "index " << o.op.index << " sent twice";
        }
        return o;
    }
    static std::uint16_t on_the_wire(const outcome& o) { return rtp::load16(o.packet.data() + 2); }

    side clear_{};
    std::set<std::pair<std::uint32_t, std::uint64_t>> indices_;
};

TEST_F(Sequence, LossAndReorderingAreFollowed) {
    EXPECT_EQ(pass(1, 1000).op.index, 1000U);
    const outcome behind_loss = pass(1, 4001); // 3,000 packets lost
    EXPECT_EQ(behind_loss.op.index, 4001U);
    EXPECT_EQ(behind_loss.op.expected, 3001U);
    const outcome late = pass(1, 4001 - 100);
    EXPECT_EQ(late.op.index, 3901U);
    EXPECT_EQ(late.op.expected, 0U);
    EXPECT_EQ(pass(1, 3901).result, drop::tx_index_reused);
    EXPECT_EQ(pass(1, 4002).op.index, 4002U);
    for (std::uint32_t sequence = 4003; sequence < 200'000; sequence += 1 + sequence % 2900)
        ASSERT_EQ(pass(1, static_cast<std::uint16_t>(sequence)).op.index, sequence) << "over the wraps";
}

TEST_F(Sequence, OneStrayPacketChangesNothing) {
    for (const std::uint16_t stray : std::initializer_list<std::uint16_t>{4002, 34000, 33000, 65000, 800}) {
        ASSERT_EQ(pass(stray, 1000).result, drop::none); // the stray's number is the SSRC, too
        ASSERT_EQ(pass(stray, stray).result, drop::sequence_jump) << stray;
        ASSERT_EQ(pass(stray, stray).result, drop::sequence_jump) << "twice the same is not in sequence";
        for (std::uint16_t sequence = 1001; sequence < 1100; ++sequence) {
            const outcome o = pass(stray, sequence);
            ASSERT_EQ(o.result, drop::none);
            ASSERT_EQ(o.op.index, sequence);
            if (sequence % 10 == 0) { // never two in a row
                ASSERT_EQ(pass(stray, static_cast<std::uint16_t>(20000 + stray % 100 * sequence)).result,
                          drop::sequence_jump);
            }
        }
    }
}

TEST_F(Sequence, ARestartGoesOnBehindOnePacket) {
    for (const std::uint16_t anew :
         std::initializer_list<std::uint16_t>{0, 800, 5000, 30000, 33767, 33768, 40000, 65535}) {
        const std::uint32_t ssrc = anew;
        for (std::uint16_t sequence = 900; sequence <= 1000; ++sequence)
            ASSERT_EQ(pass(ssrc, sequence).result, drop::none);
        ASSERT_EQ(pass(ssrc, anew).result, drop::sequence_jump);
        for (std::uint32_t i = 1; i < 70'000; i += i < 200 ? 1 : 50) { // over the wrap
            const outcome o = pass(ssrc, static_cast<std::uint16_t>(anew + i));
            ASSERT_EQ(o.result, drop::none) << anew << " + " << i;
            ASSERT_EQ(o.op.index, 1001 + i) << "one packet shows as lost";
            ASSERT_EQ(on_the_wire(o), static_cast<std::uint16_t>(1001 + i));
            ASSERT_EQ(o.op.expected, i == 1 || i <= 200 ? 1U : 50U);
        }
        EXPECT_EQ(offset_of(world_->out, streams_, ssrc), static_cast<std::uint16_t>(1001 - anew));
        ASSERT_EQ(pass(ssrc, 1000).result, drop::sequence_jump) << "late, of the sequence before";
    }
}

// Restarts, loss, reordering, duplicates, strays, holds and crashes at random: each index once, each packet
// authenticates.
TEST_F(Sequence, NothingRepeatsAndAllAuthenticatesWhateverTheSourceDoes) {
    std::size_t sent = 0, restarts = 0;
    auto sequence = static_cast<std::uint16_t>(random_());
    bool held = false;
    for (int i = 0; i < (sanitized ? 20'000 : 60'000); ++i) {
        const auto roll = random_() % 1000;
        if (roll < 3) {
            sequence = static_cast<std::uint16_t>(random_());
            ++restarts;
        } else if (roll < 5) {
            sequence = static_cast<std::uint16_t>(sequence + random_() % 3000);
        } else if (roll == 5) {
            held = !held;
        } else if (roll == 6) {
            restart();
        }
        const auto shown = roll >= 990   ? static_cast<std::uint16_t>(random_())
                           : roll >= 900 ? static_cast<std::uint16_t>(sequence - random_() % 90)
                                         : ++sequence;
        const outcome o = pass(1, shown, !held);
        sent += !held && o.result == drop::none ? 1 : 0;
        ASSERT_FALSE(HasFailure()) << "packet " << i;
        ASSERT_TRUE(o.result == drop::none || o.result == drop::tx_index_reused || o.result == drop::sequence_jump)
            << api::info(o.result).name;
    }
    EXPECT_GT(sent, (sanitized ? 2'000U : 15'000U));
    EXPECT_GT(restarts, 20U);
    EXPECT_GT(indices_.rbegin()->second, 1U << 16);
}

// On hold nothing is sent on, but the source counts: 32,768 packets are 11 minutes.
TEST_F(Sequence, AfterALongHoldTheReceiverIsStillInStep) {
    for (const std::uint32_t missed : {100U, 3000U, 3500U, 32'767U, 40'000U, 65'000U, 65'536U, 150'000U}) {
        std::uint32_t sequence = 500;
        for (; sequence < 600; ++sequence)
            ASSERT_EQ(pass(missed, static_cast<std::uint16_t>(sequence)).result, drop::none);
        for (const std::uint32_t until = sequence + missed; sequence < until; ++sequence)
            ASSERT_EQ(pass(missed, static_cast<std::uint16_t>(sequence), false).result, drop::none);
        std::uint64_t before = 599;
        for (const std::uint32_t until = sequence + 200; sequence < until; ++sequence) {
            const outcome o = pass(missed, static_cast<std::uint16_t>(sequence));
            ASSERT_EQ(o.result, drop::none) << missed;
            ASSERT_GT(o.op.index, before);
            ASSERT_LE(o.op.index - before, missed <= 3000 ? missed + 1 : 1U);
            before = o.op.index;
        }
    }
}

// Two sources with one SSRC, packet by packet: the first one is heard, as if the other were not there.
TEST_F(Sequence, TwoSourcesWithOneSsrc) {
    for (std::uint16_t i = 0; i < 500; ++i) {
        ASSERT_EQ(pass(1, static_cast<std::uint16_t>(1000 + i)).op.index, 1000U + i);
        ASSERT_EQ(pass(1, static_cast<std::uint16_t>(30000 + i)).result, drop::sequence_jump);
    }
}

// Later than a stream's first packet, from before its roll-over counter is 0.
TEST_F(Sequence, LateFromBeforeTheFirst) {
    ASSERT_EQ(pass(1, 3).result, drop::none);
    EXPECT_EQ(pass(1, 65534).result, drop::tx_index_reused) << "there is no such index";
    EXPECT_EQ(pass(1, 2).op.index, 2U);
    EXPECT_EQ(pass(1, 4).op.index, 4U);
}

// Whether the in-side was made anew (its leg's suite changed) or a source's stream was forgotten there.
TEST_F(Sequence, OffsetsOutliveTheInSide) {
    ASSERT_EQ(pass(1, 1000).result, drop::none);
    ASSERT_EQ(pass(1, 50000).result, drop::sequence_jump);
    ASSERT_EQ(pass(1, 50001).op.index, 1002U);
    ASSERT_EQ(init_side(clear_, api::side::in, api::suite::clear, 0), api::status::ok);
    EXPECT_EQ(pass(1, 50002).op.index, 1003U);
    restart();
    EXPECT_EQ(pass(1, 50003).op.index, 1004U);
    // ... and to a leg in clear, where no index is at stake: the sequence on the wire goes on.
    side out{};
    ASSERT_EQ(init_side(out, api::side::out, api::suite::clear, 0), api::status::ok);
    ASSERT_TRUE(take_streams(out, streams_, world_->out, rtp_streams));
    EXPECT_TRUE(has_offsets(out, streams_));
    bytes packet = rtp(1, 50004, 20, random_);
    crypto::op op;
    ASSERT_EQ(prepare_unprotect(clear_, pool_, streams_, packet.data(), 32, op), drop::none);
    ASSERT_EQ(prepare_protect(out, pool_, streams_, 0, op), drop::none);
    EXPECT_EQ(rtp::load16(packet.data() + 2), 1005);
}

// RFC 4588: the original sequence number of a retransmission, of the stream that it fits.
TEST_F(Sequence, RetransmissionsNameTheMovedPacket) {
    for (std::uint16_t i = 0; i < 100; ++i) {
        ASSERT_EQ(pass(1, static_cast<std::uint16_t>(1000 + i)).result, drop::none);
        ASSERT_EQ(pass(2, static_cast<std::uint16_t>(20000 + i)).result, drop::none);
        ASSERT_EQ(pass(9, i).result, drop::none); // of the retransmissions themselves
    }
    for (std::uint16_t i = 0; i < 50; ++i)
        ASSERT_EQ(pass(1, static_cast<std::uint16_t>(40000 + i)).result, i == 0 ? drop::sequence_jump : drop::none);
    const auto original = [&](std::uint16_t sequence, std::uint32_t length) {
        bytes packet = rtp(9, 77, 4, random_);
        rtp::store16(packet.data() + 12, sequence);
        crypto::op op;
        op.packet = packet.data();
        op.length = length;
        op.header = 12;
        op.ssrc = 9;
        shift_original(world_->out, streams_, op);
        return rtp::load16(packet.data() + 12);
    };
    EXPECT_EQ(original(40030, 16), 1100 + 30) << "SSRC 1, moved";
    EXPECT_EQ(original(40000, 16), 1100) << "the one that was not confirmed, asked for";
    EXPECT_EQ(original(20090, 16), 20090) << "SSRC 2";
    EXPECT_EQ(original(40030, 13), 40030) << "too short to have one";
}

} // namespace
} // namespace tandem::flow
