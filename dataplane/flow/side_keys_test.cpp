// SPDX-License-Identifier: Apache-2.0
// Keys that come again and keys that change: equal keys under two epochs, MKI values used again, and what a peer makes
// of its roll-over counter under a new key.
#include <string>

#include "dataplane/flow/side_testing.hpp"

namespace tandem::flow {
namespace {

using namespace testing;
using api::drop;
using api::status;

class Keys : public side_fixture {
protected:
    // An epoch whose key is that of another one, under an MKI of its own.
    status give_like(side& what, std::uint32_t epoch, std::uint32_t like, std::uint32_t mki) {
        api::epoch_key key = master(suite_, like, 1);
        key.epoch = epoch;
        key.mki = mki;
        return install(what, pool_, *engine_, key);
    }
    drop send_one(std::uint32_t ssrc, std::uint16_t sequence, bool report = false) {
        return send(world_->out, pool_, streams_, *engine_,
                    report ? rtcp(ssrc, 1, random_) : rtp(ssrc, sequence, 20, random_))
            .result;
    }
    crypto::key_object& key_of(const side& what, unsigned slot) { return pool_[detail::key_index(what.epochs[slot])]; }
    // The peer's sender: keeps its indices at a re-key, or is made anew with it.
    void new_key(std::uint32_t epoch, bool peer_begins_anew) {
        if (peer_begins_anew) {
            crypto::key_pool::index keys[max_epochs];
            const unsigned count = retire_all(world_->out, keys);
            for (unsigned i = 0; i < count; ++i)
                pool_.release(keys[i]);
            ASSERT_EQ(init_side(world_->out, api::side::out, suite_, world_->in.mki_length), status::ok);
        }
        give_both(epoch);
        if (!peer_begins_anew) {
            ASSERT_EQ(switch_to(world_->out, epoch), status::ok);
            drop_epoch(world_->out, epoch - 1);
        }
    }
    bytes sealed_report(std::uint32_t ssrc) {
        auto sent = send(world_->out, pool_, streams_, *engine_, rtcp(ssrc, 1, random_));
        EXPECT_EQ(sent.result, drop::none);
        return sent.packet;
    }
    void expect_past_the_wrap(std::uint32_t ssrc) {
        for (std::uint16_t sequence = 65500; sequence != 20; ++sequence)
            ASSERT_EQ(take(sealed(ssrc, sequence)), drop::none);
    }
};
using EqualKeys = Keys;
using Mki = Keys;
using NewKey = Keys;

// --- equal keys

TEST_F(EqualKeys, NothingSentUnderThemIsForgotten) {
    for (const std::uint8_t mki : {std::uint8_t{0}, std::uint8_t{4}}) {
        start(gcm, mki);
        give_both(0);
        for (std::uint32_t ssrc = 0; ssrc < max_streams; ++ssrc) {
            ASSERT_EQ(send_one(ssrc, 1), drop::none);
            ASSERT_EQ(send_one(ssrc, 1, true), drop::none);
        }
        ASSERT_EQ(give_like(world_->out, 1, 0, 7), status::ok);
        ASSERT_EQ(switch_to(world_->out, 1), status::ok);
        drop_epoch(world_->out, 0);
        EXPECT_EQ(sending_epoch(world_->out), 1U);
        EXPECT_EQ(send_one(99, 1), drop::ssrc_limit) << "SSRC 0 may not go: its indices would come again";
        for (std::uint32_t ssrc = 0; ssrc < max_streams; ++ssrc)
            ASSERT_EQ(send_one(ssrc, 1), drop::tx_index_reused);
        const auto report = send(world_->out, pool_, streams_, *engine_, rtcp(0, 1, random_));
        EXPECT_EQ(report.op.index, 1U) << "SRTCP goes on";
        ASSERT_EQ(give(world_->out, 2), status::ok); // really new
        ASSERT_EQ(switch_to(world_->out, 2), status::ok);
        EXPECT_EQ(send_one(99, 1), drop::none);
    }
}

TEST_F(EqualKeys, NothingReceivedUnderThemIsForgotten) {
    for (const std::uint8_t mki : {std::uint8_t{0}, std::uint8_t{4}}) {
        start(gcm, mki);
        give_both(0);
        std::vector<bytes> seen;
        for (std::uint32_t ssrc = 0; ssrc < max_streams; ++ssrc) {
            seen.push_back(sealed(ssrc, 1));
            ASSERT_EQ(take(seen.back()), drop::none);
        }
        ASSERT_EQ(give_like(world_->in, 1, 0, 0), status::ok);
        drop_epoch(world_->in, 0);
        side other{};
        ASSERT_EQ(init_side(other, api::side::out, gcm, mki), status::ok);
        ASSERT_EQ(give(other, 0), status::ok);
        const auto one_more = send(other, pool_, streams_, *engine_, rtp(99, 1, 20, random_));
        EXPECT_EQ(take(one_more.packet), drop::ssrc_limit);
        for (const bytes& old : seen)
            ASSERT_EQ(take(old), drop::srtp_replay);
    }
}

TEST_F(EqualKeys, CountOnOneLimit) {
    start(gcm, 4);
    give_both(0);
    const bytes last[] = {sealed(1, 1), sealed(1, 2), sealed(1, 3)};
    for (side* each : {&world_->in, &world_->out}) {
        key_of(*each, 0).rtp_packets = (std::uint64_t{1} << 48) - 2;
        key_of(*each, 0).cold().rtcp_packets = (std::uint32_t{1} << 31) - 1;
        ASSERT_EQ(give_like(*each, 1, 0, 1), status::ok);
    }
    EXPECT_EQ(send_one(1, 4), drop::none); // under epoch 0
    ASSERT_EQ(switch_to(world_->out, 1), status::ok);
    EXPECT_EQ(send_one(1, 5), drop::none);
    EXPECT_EQ(send_one(1, 6), drop::key_exhausted);
    EXPECT_EQ(send_one(1, 0, true), drop::none);
    EXPECT_EQ(send_one(1, 0, true), drop::key_exhausted);
    EXPECT_EQ(take(last[0]), drop::none);
    drop_epoch(world_->in, 0);
    bytes renamed = last[1];
    renamed.back() = 1; // the MKI of epoch 1
    EXPECT_EQ(take(renamed), drop::none);
    renamed = last[2];
    renamed.back() = 1;
    EXPECT_EQ(take(renamed), drop::key_exhausted);
}

TEST_F(EqualKeys, AreOneObjectThatGoesWithTheLastEpoch) {
    start(gcm, 4);
    give_both(0);
    ASSERT_EQ(take(sealed(1, 1)), drop::none);
    const bytes under_0 = sealed(1, 2);
    ASSERT_EQ(give_like(world_->out, 1, 0, 1), status::ok);
    ASSERT_EQ(give_like(world_->in, 1, 0, 1), status::ok);
    EXPECT_EQ(pool_.used(), 2U);
    ASSERT_EQ(switch_to(world_->out, 1), status::ok);
    const outcome got = receive_one(world_->in, pool_, streams_, *engine_, sealed(1, 3));
    EXPECT_EQ(got.result, drop::none);
    EXPECT_EQ(got.op.epoch, 1U);
    EXPECT_TRUE(got.op.first_use);
    EXPECT_EQ(take(under_0), drop::none) << "both are in force";
    EXPECT_FALSE(retire(world_->in, 0).key) << "epoch 1 has it";
    restart();
    EXPECT_EQ(pool_.used(), 2U);
    EXPECT_EQ(take(sealed(1, 4)), drop::none);
    EXPECT_TRUE(retire(world_->in, 1).key);
    crypto::key_pool::index keys[max_epochs];
    EXPECT_EQ(retire_all(world_->out, keys), 1U);
}

// Sent under K, then L, then K again: what was sent under K may not be forgotten while L is sent under.
TEST_F(EqualKeys, ComeBackWhileAnotherIsInForce) {
    start(gcm, 0);
    give_both(0);
    for (std::uint32_t ssrc = 0; ssrc < max_streams; ++ssrc)
        ASSERT_EQ(send_one(ssrc, 1), drop::none);
    ASSERT_EQ(give(world_->out, 1), status::ok);
    ASSERT_EQ(give_like(world_->out, 2, 0, 0), status::ok);
    ASSERT_EQ(switch_to(world_->out, 1), status::ok);
    EXPECT_EQ(send_one(99, 1), drop::ssrc_limit);
    ASSERT_EQ(switch_to(world_->out, 2), status::ok);
    EXPECT_EQ(send_one(5, 1), drop::tx_index_reused);
    EXPECT_EQ(switch_to(world_->out, 1), status::bad_epoch) << "older";
    // in: without an MKI the newest epoch's key is tried, K again.
    ASSERT_EQ(give(world_->in, 1), status::ok);
    ASSERT_EQ(give_like(world_->in, 2, 0, 0), status::ok);
    EXPECT_EQ(take(sealed(7, 2)), drop::none);
}

// --- the MKI

TEST_F(Mki, OneValueIsOneKeyInForceAndMayComeAgain) {
    start(gcm, 1);
    const auto with = [&](std::uint32_t epoch, std::uint32_t mki) {
        api::epoch_key key = master(gcm, epoch, 1);
        key.mki = mki;
        return key;
    };
    for (side* each : {&world_->in, &world_->out}) {
        ASSERT_EQ(install(*each, pool_, *engine_, with(1000, 5)), status::ok); // the number need not fit
        EXPECT_EQ(install(*each, pool_, *engine_, with(1001, 5)), status::bad_epoch);
        EXPECT_EQ(install(*each, pool_, *engine_, with(1001, 256)), status::bad_epoch) << "beyond the field";
        EXPECT_EQ(install(*each, pool_, *engine_, with(1000, 6)), status::bad_epoch) << "the same epoch otherwise";
        ASSERT_EQ(install(*each, pool_, *engine_, with(1001, 6)), status::ok);
    }
    EXPECT_EQ(sealed(1, 1).back(), 5);
    ASSERT_EQ(take(sealed(1, 2)), drop::none);
    ASSERT_EQ(switch_to(world_->out, 1001), status::ok);
    const bytes six = sealed(1, 3);
    EXPECT_EQ(six.back(), 6);
    EXPECT_EQ(receive_one(world_->in, pool_, streams_, *engine_, six).op.epoch, 1001U);
    for (side* each : {&world_->in, &world_->out}) {
        drop_epoch(*each, 1000);
        ASSERT_EQ(install(*each, pool_, *engine_, with(1002, 5)), status::ok) << "5 again, a new key";
    }
    ASSERT_EQ(switch_to(world_->out, 1002), status::ok);
    const bytes again = sealed(1, 4);
    EXPECT_EQ(again.back(), 5);
    const outcome got = receive_one(world_->in, pool_, streams_, *engine_, again);
    EXPECT_EQ(got.result, drop::none);
    EXPECT_EQ(got.op.epoch, 1002U);
}

// --- a new key, the same SSRC: RFC 3711 3.3.1 keeps the roll-over counter, RFC 4568 7.1.4 has it begin at 0 with a new
// address, and peers do either in every case.

TEST_F(NewKey, ThePeersCounterGoesOnOrBeginsAnew) {
    for (const auto which : every_suite)
        for (const std::uint8_t mki : {std::uint8_t{0}, std::uint8_t{4}})
            for (const bool anew : {false, true}) {
                start(which, mki);
                give_both(0);
                expect_past_the_wrap(7);
                for (int i = 0; i < 5; ++i)
                    ASSERT_EQ(take(sealed_report(7)), drop::none);
                const bytes late = sealed(7, 22), seen = sealed(7, 21);
                ASSERT_EQ(take(seen), drop::none);
                new_key(1, anew);
                const bytes burst[] = {sealed(7, 24), sealed(7, 23), sealed(7, 24 + 1)};
                std::uint32_t expected = 0;
                for (const auto& got : receive(world_->in, pool_, streams_, *engine_, burst)) {
                    ASSERT_EQ(got.result, drop::none) << api::info(which).name << (anew ? " anew" : " going on");
                    ASSERT_EQ(got.op.index >> 16, anew ? 0U : 1U);
                    ASSERT_EQ(got.op.course, crypto::sequence_is::going_on);
                    expected += got.op.expected;
                }
                ASSERT_EQ(expected, 4U) << "22 to 25";
                for (const bytes& old : burst)
                    ASSERT_EQ(take(old), drop::srtp_replay);
                const bytes report = sealed_report(7);
                ASSERT_EQ(take(report), drop::none);
                ASSERT_EQ(take(report), drop::srtp_replay);
                ASSERT_NE(take(seen), drop::none);
                ASSERT_EQ(take(late) == drop::none, mki != 0 && !anew) << "of the sequence before";
                restart();
                for (const bytes& old : burst)
                    ASSERT_NE(take(old), drop::none);
                ASSERT_NE(take(seen), drop::none);
                ASSERT_EQ(take(sealed(7, 26)), drop::none);
                ASSERT_EQ(take(sealed_report(7)), drop::none);
            }
}

// SRTCP says its index itself, so it may come first; each SSRC for itself.
TEST_F(NewKey, SrtcpFirstAndSeveralSsrcs) {
    start(cm80, 0);
    give_both(0);
    for (const std::uint32_t ssrc : {7U, 8U, 9U})
        expect_past_the_wrap(ssrc);
    new_key(1, true);
    EXPECT_EQ(take(sealed(8, 20)), drop::none);
    for (const std::uint32_t ssrc : {7U, 9U}) {
        EXPECT_EQ(take(sealed_report(ssrc)), drop::none);
        EXPECT_EQ(take(sealed(ssrc, 20)), drop::none);
        EXPECT_EQ(take(sealed(ssrc, 21)), drop::none);
    }
}

// With a sequence of its own, too: the out-side then lets it go on (side_sequence_test.cpp).
TEST_F(NewKey, ASequenceThatBeginsAnewIsSaid) {
    start(gcm, 0);
    give_both(0);
    for (std::uint16_t sequence = 30000; sequence < 30010; ++sequence)
        ASSERT_EQ(take(sealed(7, sequence)), drop::none);
    new_key(1, true);
    const outcome got = receive_one(world_->in, pool_, streams_, *engine_, sealed(7, 100));
    EXPECT_EQ(got.result, drop::none);
    EXPECT_EQ(got.op.course, crypto::sequence_is::anew);
    EXPECT_EQ(got.op.expected, 1U);
    EXPECT_EQ(take(sealed(7, 101)), drop::none);
}

// Nothing of this lets a packet in again: not under a key that has another number now, not under one that comes with a
// state from elsewhere.
TEST_F(NewKey, AnEqualKeyIsNoNewOne) {
    for (const bool recovered : {false, true}) {
        start(gcm, 0);
        give_both(0);
        const bytes recorded = sealed(7, 65499);
        ASSERT_EQ(take(recorded), drop::none);
        expect_past_the_wrap(7);
        ASSERT_EQ(give_like(world_->in, 1, 0, 0), status::ok);
        if (recovered)
            restart();
        EXPECT_NE(take(recorded), drop::none);
        drop_epoch(world_->in, 0);
        EXPECT_NE(take(recorded), drop::none);
        EXPECT_EQ(take(sealed(7, 20)), drop::none);
    }
}

TEST_F(NewKey, NorIsTheKeyOfAStateThatWasPutIn) {
    start(gcm, 0);
    give_both(0);
    const bytes recorded[] = {sealed(7, 100), sealed_report(7)};
    for (const bytes& one : recorded)
        ASSERT_EQ(take(one), drop::none);
    expect_past_the_wrap(7);
    api::stream_state copy[max_streams];
    ASSERT_EQ(list_streams(world_->in, streams_, copy), 1U);
    ASSERT_EQ(init_side(world_->in, api::side::in, gcm, 0), status::ok);
    ASSERT_EQ(put_stream(world_->in, streams_, copy[0]), status::ok);
    ASSERT_EQ(give(world_->in, 0), status::ok);
    for (const bytes& one : recorded)
        EXPECT_NE(take(one), drop::none);
    EXPECT_EQ(take(sealed(7, 20)), drop::none);
}

// Under a new key, before anything authenticated, forged packets find nothing and change nothing.
TEST_F(NewKey, ForgedPacketsChangeNothing) {
    for (const auto which : every_suite) {
        start(which, 0);
        give_both(0);
        expect_past_the_wrap(7);
        new_key(1, true);
        const bytes packets[] = {sealed(7, 20), sealed_report(7)};
        for (const bytes& packet : packets)
            for (std::size_t at = 0; at < packet.size(); ++at) {
                bytes broken = packet;
                broken[at] ^= 1;
                const auto before = std::make_unique<world>(*world_);
                ASSERT_NE(take(broken), drop::none);
                ASSERT_EQ(std::memcmp(before.get(), world_.get(), sizeof(world)), 0);
            }
        for (const bytes& packet : packets)
            EXPECT_EQ(take(packet), drop::none);
    }
}

} // namespace
} // namespace tandem::flow
