// SPDX-License-Identifier: Apache-2.0
// Streams of a side: SSRCs in turn beyond its own places, the pool that they lie in, roll-over counters of SSRCs that
// were not heard from their start, copies in and out.
#include "dataplane/flow/side_testing.hpp"

namespace tandem::flow {
namespace {

using namespace testing;
using api::drop;
using api::status;

class Streams : public side_fixture {
protected:
    // A packet far into a stream: its sender's roll-over counter is `roc`.
    bytes sealed_at(std::uint32_t ssrc, std::uint64_t index) {
        bytes packet = rtp(ssrc, static_cast<std::uint16_t>(index), 30, random_);
        crypto::op op;
        op.length = static_cast<std::uint32_t>(packet.size());
        packet.resize(packet.size() + rtp::max_trailer);
        op.packet = packet.data();
        op.key = &pool_[detail::key_index(world_->out.epochs[0])];
        op.index = index;
        op.ssrc = ssrc;
        op.header = 12;
        op.mki_length = world_->out.mki_length;
        engine_->protect({&op, 1});
        packet.resize(op.length);
        return packet;
    }
    bytes sealed_report(std::uint32_t ssrc) {
        return send(world_->out, pool_, streams_, *engine_, rtcp(ssrc, 1, random_)).packet;
    }
};
using FirstHeard = Streams;
using StreamPool = Streams;
using StreamCopies = Streams;

// --- the roll-over counter of an SSRC not heard yet

TEST_F(FirstHeard, BeforeOrAfterItsFirstWrap) {
    for (const auto which : every_suite)
        for (const bool report_first : {false, true})
            for (const std::uint64_t index : {std::uint64_t{0x10000}, std::uint64_t{0x10003}, std::uint64_t{0x1ffff}}) {
                start(which, 0);
                give_both(0);
                if (report_first) {
                    ASSERT_EQ(take(sealed_report(5)), drop::none);
                }
                const bytes first = sealed_at(5, index), second = sealed_at(5, index + 1);
                const outcome got = receive_one(world_->in, pool_, streams_, *engine_, first);
                ASSERT_EQ(got.result, drop::none) << api::info(which).name << " " << index;
                ASSERT_EQ(got.op.index, index);
                ASSERT_EQ(got.op.expected, 1U);
                ASSERT_EQ(got.packet.size(), 42U);
                ASSERT_EQ(take(second), drop::none);
                ASSERT_EQ(take(first), drop::srtp_replay);
                ASSERT_EQ(take(sealed_at(5, index - 1)), drop::none) << "late, from before it";
            }
}

TEST_F(FirstHeard, SeveralOfOneBurst) {
    start(cm80, 0);
    give_both(0);
    std::vector<bytes> burst;
    for (std::uint64_t i = 0; i < 8; ++i)
        burst.push_back(sealed_at(5, 0x10000 + (i ^ 1)));
    for (const auto& got : receive(world_->in, pool_, streams_, *engine_, burst))
        EXPECT_EQ(got.result, drop::none);
}

TEST_F(FirstHeard, ASecondTryIsGrantedAndLeavesNoTrace) {
    for (const auto which : every_suite) {
        start(which, 0);
        give_both(0);
        const bytes true_one = sealed_at(5, 0x10001);
        const auto before = std::make_unique<world>(*world_);
        EXPECT_EQ(receive_one(world_->in, pool_, streams_, *engine_, true_one, false).result, drop::srtp_auth);
        for (std::size_t at = 0; at < true_one.size(); ++at) {
            bytes forged = true_one;
            forged[at] ^= 0x10;
            const outcome got = receive_one(world_->in, pool_, streams_, *engine_, forged);
            ASSERT_NE(got.result, drop::none);
        }
        EXPECT_EQ(take(sealed_at(5, 0x20001)), drop::srtp_auth) << "no third try";
        EXPECT_EQ(std::memcmp(before.get(), world_.get(), sizeof(world)), 0);
        EXPECT_EQ(take(true_one), drop::none);
        crypto::op op;
        bytes known = sealed_at(5, 0x10002);
        known.back() ^= 1;
        ASSERT_EQ(
            prepare_unprotect(world_->in, pool_, streams_, known.data(), static_cast<std::uint32_t>(known.size()), op),
            drop::none);
        EXPECT_FALSE(has_another_index(world_->in, streams_, op)) << "its counter is known";
    }
}

// --- many SSRCs

TEST_F(StreamPool, ManySsrcsInTurnUnderOneKey) {
    for (const std::uint8_t mki : {std::uint8_t{0}, std::uint8_t{4}}) {
        start(gcm, mki);
        give_both(0);
        std::vector<bytes> seen;
        for (std::uint32_t ssrc = 0; ssrc < max_streams; ++ssrc)
            for (std::uint16_t i = 0; i < 3; ++i) {
                seen.push_back(i == 2 ? sealed_report(ssrc) : sealed(ssrc, static_cast<std::uint16_t>(65535 + i)));
                ASSERT_EQ(take(seen.back()), drop::none) << "SSRC " << ssrc;
            }
        EXPECT_EQ(streams_.used(), 2 * (max_streams - own_streams));
        const auto expect_all_known = [&] {
            for (const bytes& old : seen)
                ASSERT_NE(take(old), drop::none);
            for (std::uint32_t ssrc = 0; ssrc < max_streams; ++ssrc) {
                ASSERT_EQ(send(world_->out, pool_, streams_, *engine_, rtp(ssrc, 65535, 1, random_)).result,
                          drop::tx_index_reused);
                seen.push_back(sealed(ssrc, static_cast<std::uint16_t>(seen.size())));
                const outcome got = receive_one(world_->in, pool_, streams_, *engine_, seen.back());
                ASSERT_EQ(got.result, drop::none);
                ASSERT_EQ(got.op.index >> 16, 1U);
            }
        };
        expect_all_known();
        restart();
        EXPECT_EQ(streams_.used(), 2 * (max_streams - own_streams));
        expect_all_known();
        EXPECT_EQ(send(world_->out, pool_, streams_, *engine_, rtp(999, 1, 1, random_)).result, drop::ssrc_limit);
        release_streams(world_->in, streams_);
        release_streams(world_->out, streams_);
        EXPECT_EQ(streams_.used(), 0U);
        for (std::uint32_t place = 0; place < world::places; ++place) {
            ASSERT_EQ(streams_[place].id, 0U) << "wiped";
            ASSERT_EQ(streams_.link(place), 0U);
        }
    }
}

TEST_F(StreamPool, EmptyIsSaid) {
    start(gcm, 4);
    give_both(0);
    while (streams_.take()) {
    }
    for (std::uint32_t ssrc = 0; ssrc < own_streams; ++ssrc)
        ASSERT_EQ(take(sealed(ssrc, 1)), drop::none);
    EXPECT_EQ(send(world_->out, pool_, streams_, *engine_, rtp(99, 1, 1, random_)).result, drop::stream_pool_empty);
    side other{};
    ASSERT_EQ(init_side(other, api::side::out, gcm, 4), status::ok);
    ASSERT_EQ(give(other, 0), status::ok);
    const outcome further = send(other, pool_, streams_, *engine_, rtp(99, 1, 1, random_));
    EXPECT_EQ(take(further.packet), drop::stream_pool_empty);
    EXPECT_EQ(take(sealed(own_streams - 1, 2)), drop::none) << "those that there are go on";
    streams_.release(4);
    EXPECT_EQ(take(further.packet), drop::none);
    EXPECT_EQ(world_->in.more, 5U);
}

TEST_F(StreamPool, WhoCannotAuthenticateTakesNothing) {
    start(gcm, 0);
    give_both(0);
    for (std::uint32_t ssrc = 0; ssrc < own_streams; ++ssrc)
        ASSERT_EQ(take(sealed(ssrc, 1)), drop::none);
    side other{};
    ASSERT_EQ(init_side(other, api::side::out, gcm, 0), status::ok);
    ASSERT_EQ(give(other, 0), status::ok);
    const outcome further = send(other, pool_, streams_, *engine_, rtp(99, 1, 20, random_));
    const auto before = std::make_unique<world>(*world_);
    for (std::size_t bit = 0; bit < 8 * further.packet.size(); ++bit) {
        bytes forged = further.packet;
        forged[bit / 8] = static_cast<std::uint8_t>(forged[bit / 8] ^ 1 << bit % 8);
        ASSERT_NE(take(forged), drop::none);
    }
    EXPECT_EQ(std::memcmp(before.get(), world_.get(), sizeof(world)), 0);
}

// Clear sides remember SSRCs for their counts only: the oldest goes. Anyone can send there, so they take few places
// each, and all together the first half.
TEST_F(StreamPool, ClearSidesTakeFew) {
    start(api::suite::clear, 0);
    for (std::uint32_t ssrc = 0; ssrc < 200; ++ssrc)
        ASSERT_EQ(take(rtp(ssrc, 1, 10, random_)), drop::none);
    EXPECT_EQ(streams_.used(), clear_streams - own_streams);
    const auto clear = [] {
        side made{};
        EXPECT_EQ(init_side(made, api::side::in, api::suite::clear, 0), status::ok);
        return made;
    };
    const auto hear = [&](side& in, std::uint32_t ssrc, std::uint16_t sequence) {
        return receive_one(in, pool_, streams_, *engine_, rtp(ssrc, sequence, 10, random_)).op.expected;
    };
    side others[40];
    for (side& each : others) {
        each = clear();
        for (std::uint32_t ssrc = 0; ssrc < 200; ++ssrc)
            ASSERT_EQ(hear(each, ssrc, 1), 1U) << "never refused";
    }
    EXPECT_EQ(streams_.used(), world::places / 2);
    side out{};
    ASSERT_EQ(init_side(out, api::side::out, gcm, 0), status::ok);
    ASSERT_EQ(install(out, pool_, *engine_, master(gcm, 0, 1)), status::ok);
    for (std::uint32_t ssrc = 0; ssrc < max_streams; ++ssrc)
        ASSERT_EQ(send(out, pool_, streams_, *engine_, rtp(ssrc, 1, 10, random_)).result, drop::none);
    for (side* each : {&world_->in, &out})
        release_streams(*each, streams_);
    for (side& each : others)
        release_streams(each, streams_);
    EXPECT_EQ(streams_.used(), 0U);
    side in = clear(); // SSRCs in turn: each one's count goes on, as far as they are remembered
    for (const std::uint16_t sequence : {std::uint16_t{1}, std::uint16_t{4}, std::uint16_t{7}})
        for (std::uint32_t ssrc = 0; ssrc < clear_streams; ++ssrc)
            ASSERT_EQ(hear(in, ssrc, sequence), sequence == 1 ? 1U : 3U);
    EXPECT_EQ(hear(in, 99, 4), 1U);
    EXPECT_EQ(hear(in, 1, 8), 1U);
    EXPECT_EQ(hear(in, 0, 10), 1U) << "the oldest went";
}

// What a kill left half done: a place taken and not linked, one that two sides name, one that does not exist.
TEST_F(StreamPool, RecoveryKeepsWhatOneSideNames) {
    start(gcm, 4);
    give_both(0);
    for (std::uint32_t ssrc = 0; ssrc < own_streams + 8; ++ssrc)
        ASSERT_EQ(take(sealed(ssrc, 1)), drop::none);
    ASSERT_EQ(streams_.used(), 16U); // eight a side
    ASSERT_TRUE(streams_.take());
    std::uint32_t* last = &world_->out.more;
    while (*last != 0)
        last = &streams_.link(*last - 1);
    *last = world_->in.more;
    restart();
    EXPECT_EQ(streams_.used(), 16U);
    EXPECT_EQ(*last, 0U);
    *last = 1'000'000;
    restart();
    EXPECT_EQ(*last, 0U);
    EXPECT_EQ(take(sealed(own_streams + 7, 2)), drop::none);
}

// --- copies

TEST_F(StreamCopies, OutAndInAgain) {
    start(gcm, 4);
    give_both(0);
    std::vector<bytes> seen;
    for (std::uint32_t ssrc = 0; ssrc < 20; ++ssrc)
        for (std::uint16_t i = 0; i < 3; ++i) {
            seen.push_back(i == 2 ? sealed_report(ssrc) : sealed(ssrc, static_cast<std::uint16_t>(65535 + i)));
            ASSERT_EQ(take(seen.back()), drop::none);
        }
    for (side* each : {&world_->in, &world_->out}) {
        api::stream_state copies[max_streams];
        ASSERT_EQ(list_streams(*each, streams_, copies), 20U);
        EXPECT_EQ(copies[19].rtp.next, 65537U);
        EXPECT_EQ(copies[19].rtcp.next, 1U);
        EXPECT_EQ(copies[19].rtcp.seen[0], 1U);
        EXPECT_EQ(put_stream(*each, streams_, copies[0]), status::bad_state) << "it has a key";
        const api::side which = each->which;
        release_streams(*each, streams_);
        ASSERT_EQ(init_side(*each, which, gcm, 4), status::ok);
        for (unsigned i = 0; i < 20; ++i)
            ASSERT_EQ(put_stream(*each, streams_, copies[i]), status::ok);
        EXPECT_EQ(put_stream(*each, streams_, copies[7]), status::bad_state) << "twice";
        ASSERT_EQ(give(*each, 0), status::ok);
    }
    for (const bytes& old : seen)
        EXPECT_NE(take(old), drop::none);
    for (std::uint32_t ssrc = 0; ssrc < 20; ++ssrc) {
        EXPECT_EQ(send(world_->out, pool_, streams_, *engine_, rtp(ssrc, 0, 1, random_)).result, drop::tx_index_reused);
        EXPECT_EQ(take(sealed(ssrc, 1)), drop::none);
        EXPECT_EQ(take(sealed_report(ssrc)), drop::none);
    }
}

// Its first RTP packet is one that was expected, whatever number it has.
TEST_F(StreamCopies, OfWhichOnlyRtcpWasHeard) {
    start(gcm, 4);
    give_both(0);
    ASSERT_EQ(take(sealed_report(5)), drop::none);
    api::stream_state copies[max_streams];
    ASSERT_EQ(list_streams(world_->in, streams_, copies), 1U);
    release_streams(world_->in, streams_);
    ASSERT_EQ(init_side(world_->in, api::side::in, gcm, 4), status::ok);
    ASSERT_EQ(put_stream(world_->in, streams_, copies[0]), status::ok);
    ASSERT_EQ(give(world_->in, 0), status::ok);
    ASSERT_EQ(take(sealed_report(5)), drop::none);
    const auto got = receive_one(world_->in, pool_, streams_, *engine_, sealed(5, 1000));
    ASSERT_EQ(got.result, drop::none);
    EXPECT_EQ(got.op.expected, 1U);
}

TEST_F(StreamCopies, WhatCannotBeTrueIsRefused) {
    start(gcm, 4);
    api::stream_state good{};
    good.ssrc = 5;
    good.rtp = {std::uint64_t{1} << 48, {1, 0}};
    good.rtcp = {3, {5, 0}};
    const auto refused = [&](side& what, auto&& spoil) {
        api::stream_state bad = good;
        spoil(bad);
        const side before = what;
        EXPECT_EQ(put_stream(what, streams_, bad), status::bad_state);
        EXPECT_EQ(std::memcmp(&before, &what, sizeof before), 0);
    };
    for (side* each : {&world_->in, &world_->out}) {
        refused(*each, [](auto& s) { ++s.rtp.next; });
        refused(*each, [](auto& s) { s.rtp.next = ~std::uint64_t{0}; });
        refused(*each, [](auto& s) { s.rtp.seen[0] = 2; }); // the newest not seen
        refused(*each, [](auto& s) { s.rtp = {64, {1, 1}}; });
        refused(*each, [](auto& s) { s.rtp = {0, {1, 0}}; });
        refused(*each, [](auto& s) { s.rtp = {3, {9, 0}}; });
        refused(*each, [](auto& s) { s.rtcp.next = (std::uint64_t{1} << 31) + 1; });
    }
    refused(world_->in, [](auto& s) { s.offset = 1; });
    refused(world_->in, [](auto& s) { s.rtcp.seen[0] = 8; });
    for (side* each : {&world_->in, &world_->out})
        EXPECT_EQ(put_stream(*each, streams_, good), status::ok);
    side clear{};
    ASSERT_EQ(init_side(clear, api::side::in, api::suite::clear, 0), status::ok);
    EXPECT_EQ(put_stream(clear, streams_, good), status::bad_state);
    for (std::uint32_t ssrc = 100; ssrc < 100 + max_streams - 1; ++ssrc) {
        good.ssrc = ssrc;
        ASSERT_EQ(put_stream(world_->in, streams_, good), status::ok);
    }
    good.ssrc = 99;
    EXPECT_EQ(put_stream(world_->in, streams_, good), status::bad_state) << "more than a side holds";
}

// A copy may put a roll-over counter that no guess would find.
TEST_F(StreamCopies, ARollOverCounterIsPut) {
    start(cm80, 0);
    api::stream_state state{};
    state.ssrc = 5;
    state.rtp = {std::uint64_t{77} << 16, {1, 0}};
    ASSERT_EQ(put_stream(world_->in, streams_, state), status::ok);
    give_both(0);
    EXPECT_EQ(take(sealed_at(5, (std::uint64_t{77} << 16) + 100)), drop::none);
}

// Two flows become one, one becomes two; a side that went along as a whole is abandoned where it was.
TEST_F(StreamCopies, JoinedAndSplit) {
    start(gcm, 0);
    give_both(0);
    std::vector<bytes> media, reports;
    for (std::uint32_t ssrc = 0; ssrc < 20; ++ssrc) {
        media.push_back(sealed(ssrc, 10));
        reports.push_back(sealed_report(ssrc));
        ASSERT_EQ(take(media.back()), drop::none);
        ASSERT_EQ(take(reports.back()), drop::none);
    }
    side split[2]{};
    for (unsigned i = 0; i < 2; ++i) {
        ASSERT_EQ(init_side(split[i], api::side::in, gcm, 0), status::ok);
        ASSERT_EQ(give(split[i], 0), status::ok);
        ASSERT_TRUE(take_streams(split[i], streams_, world_->in, i == 0 ? rtp_streams : rtcp_streams));
    }
    EXPECT_EQ(receive_one(split[0], pool_, streams_, *engine_, media[19]).result, drop::srtp_replay);
    EXPECT_EQ(receive_one(split[1], pool_, streams_, *engine_, reports[19]).result, drop::srtp_replay);
    side joined = split[0]; // as a whole ...
    abandon(split[0]);      // ... and forgotten there
    EXPECT_EQ(retire(split[0], 0).status, status::bad_epoch);
    ASSERT_TRUE(take_streams(joined, streams_, split[1], rtcp_streams));
    for (std::uint32_t ssrc = 0; ssrc < 20; ++ssrc) {
        EXPECT_EQ(receive_one(joined, pool_, streams_, *engine_, media[ssrc]).result, drop::srtp_replay);
        EXPECT_EQ(receive_one(joined, pool_, streams_, *engine_, reports[ssrc]).result, drop::srtp_replay);
        EXPECT_EQ(receive_one(joined, pool_, streams_, *engine_, sealed(ssrc, 11)).result, drop::none);
    }
    for (side* each : {&joined, &split[0], &split[1], &world_->in, &world_->out})
        release_streams(*each, streams_);
    EXPECT_EQ(streams_.used(), 0U);
    while (streams_.take()) {
    }
    side full{};
    ASSERT_EQ(init_side(full, api::side::in, gcm, 0), status::ok);
    for (std::uint32_t ssrc = 0; ssrc < own_streams; ++ssrc)
        ASSERT_TRUE(put_stream(full, streams_, {ssrc + 100, 0, 0, {1, {1, 0}}, {}}) == status::ok);
    side one{};
    ASSERT_EQ(init_side(one, api::side::in, gcm, 0), status::ok);
    ASSERT_EQ(put_stream(one, streams_, {5, 0, 0, {1, {1, 0}}, {}}), status::ok);
    EXPECT_FALSE(take_streams(full, streams_, one, rtp_streams)) << "no room";
}

} // namespace
} // namespace tandem::flow
