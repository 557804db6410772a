// SPDX-License-Identifier: Apache-2.0
// One side of a flow: epochs, MKI, streams, limits, forged packets. Cross-checks are in side_libsrtp_test.cpp, crashes
// in side_crash_test.cpp.
#include "dataplane/flow/side.hpp"

#include <map>
#include <set>
#include <string>

#include "dataplane/flow/side_testing.hpp"

namespace tandem::flow {
namespace {

using namespace testing;
using api::drop;
using api::status;
using api::suite;

class Srtp : public side_fixture {};
using Rim12 = Srtp;
using Rim13 = Srtp;

TEST_F(Srtp, RoundTripEverySuiteAndMkiLength) {
    for (const suite which : every_suite)
        for (std::uint8_t mki = 0; mki <= 4; ++mki) {
            start(which, mki);
            give_both(mki == 0 ? 0 : 7);
            for (std::uint16_t i = 0; i < 50; ++i) {
                const bytes clear = i % 5 == 4 ? rtcp(9, i, random_)
                                               : rtp(9, static_cast<std::uint16_t>(65500 + i), i, random_, i % 3 == 0);
                const outcome sent = send(world_->out, pool_, streams_, *engine_, clear);
                ASSERT_EQ(sent.result, drop::none);
                const outcome got = receive_one(world_->in, pool_, streams_, *engine_, sent.packet);
                ASSERT_EQ(got.result, drop::none);
                ASSERT_EQ(got.packet, clear);
                ASSERT_EQ(got.op.epoch, mki == 0 ? 0U : 7U);
                ASSERT_EQ(got.op.first_use, i == 0);
                ASSERT_EQ(take(sent.packet), drop::srtp_replay);
            }
        }
}

TEST_F(Srtp, ForgedPacketsChangeNothing) {
    for (const suite which : every_suite) {
        start(which, 4);
        give_both(0);
        for (std::uint16_t i = 0; i < 10; ++i)
            ASSERT_EQ(take(sealed(5, i)), drop::none);
        for (const bool is_rtcp : {false, true}) {
            const auto sent = send(world_->out, pool_, streams_, *engine_,
                                   is_rtcp ? rtcp(5, 3, random_) : rtp(5, 11, 40, random_, true));
            for (std::size_t bit = 0; bit < 8 * sent.packet.size(); ++bit) {
                bytes broken = sent.packet;
                broken[bit / 8] = static_cast<std::uint8_t>(broken[bit / 8] ^ 1 << bit % 8);
                const world before = *world_;
                ASSERT_NE(take(broken), drop::none) << "bit " << bit;
                ASSERT_EQ(std::memcmp(&before, world_.get(), sizeof before), 0) << "bit " << bit;
            }
            ASSERT_EQ(take(sent.packet), drop::none);
        }
    }
}

TEST_F(Srtp, EveryTruncationIsRefused) {
    for (const suite which : every_suite) {
        start(which, 2);
        give_both(3);
        for (const bool is_rtcp : {false, true}) {
            const auto sent =
                send(world_->out, pool_, streams_, *engine_, is_rtcp ? rtcp(5, 1, random_) : rtp(5, 1, 4, random_));
            for (std::size_t length = 0; length < sent.packet.size(); ++length)
                ASSERT_NE(take(bytes(sent.packet.begin(), sent.packet.begin() + static_cast<long>(length))),
                          drop::none);
        }
    }
}

TEST_F(Srtp, TwoEqualPacketsInOneBurst) {
    start(gcm, 4);
    give_both(0);
    const bytes packet = sealed(1, 100);
    const bytes burst[] = {packet, packet, packet};
    const auto got = receive(world_->in, pool_, streams_, *engine_, burst);
    EXPECT_EQ(got[0].result, drop::none);
    EXPECT_EQ(got[1].result, drop::srtp_replay);
    EXPECT_EQ(got[2].result, drop::srtp_replay);
}

// The first burst of a stream crosses the wrap: the second packet's ROC is known only once the first is accepted.
TEST_F(Srtp, WrapWithinAStreamsFirstBurst) {
    for (const suite which : every_suite) {
        start(which, 0);
        give_both(0);
        const bytes burst[] = {sealed(1, 65534), sealed(1, 65535), sealed(1, 0), sealed(1, 1)};
        std::uint32_t expected = 0;
        for (const auto& got : receive(world_->in, pool_, streams_, *engine_, burst)) {
            EXPECT_EQ(got.result, drop::none);
            expected += got.op.expected;
        }
        EXPECT_EQ(world_->in.first_rtp.next(), 65538U);
        EXPECT_EQ(expected, 4U);
    }
}

TEST_F(Srtp, SrtcpWithoutEncryptionIsRefused) { // RFC 7714 17.3 has such a packet
    start(gcm, 0);
    give_both(0);
    auto sent = send(world_->out, pool_, streams_, *engine_, rtcp(5, 1, random_)).packet;
    sent[sent.size() - 4] &= 0x7f;
    EXPECT_EQ(take(sent), drop::srtp_clear_rtcp);
}

TEST_F(Srtp, NamedDrops) {
    start(gcm, 4);
    EXPECT_EQ(take(rtp(1, 1, 60, random_)), drop::srtp_no_key);
    give_both(0);
    EXPECT_EQ(take(rtp(1, 1, 3, random_)), drop::srtp_truncated);
    EXPECT_EQ(take(rtcp(1, 0, random_)), drop::srtp_truncated);
    bytes packet = sealed(1, 1);
    packet.back() = 9;
    EXPECT_EQ(take(packet), drop::srtp_unknown_mki);
    EXPECT_EQ(take({0x00, 0x01, 0, 0, 0x21, 0x12, 0xa4, 0x42}), drop::stun_unexpected);
    EXPECT_EQ(take({22, 0xfe, 0xfd, 0, 0}), drop::stun_unexpected);
    EXPECT_EQ(take({0x40, 0, 0, 0}), drop::rtp_version);
    EXPECT_EQ(take({}), drop::rtp_malformed);
    ASSERT_EQ(take(sealed(2, 1000)), drop::none);
    const bytes late = sealed(2, 1001);
    ASSERT_EQ(take(sealed(2, 1200)), drop::none);
    EXPECT_EQ(take(late), drop::srtp_too_old);
}

TEST_F(Srtp, NoRoomForTheTrailer) {
    start(cm80, 4);
    give_both(0);
    bytes packet = rtp(1, 1, 10, random_);
    crypto::op op;
    ASSERT_EQ(prepare_unprotect(side{}, pool_, streams_, packet.data(), static_cast<std::uint32_t>(packet.size()), op),
              drop::none);
    const world before = *world_;
    EXPECT_EQ(prepare_protect(world_->out, pool_, streams_, 13, op), drop::no_room);
    EXPECT_EQ(std::memcmp(&before, world_.get(), sizeof before), 0);
    EXPECT_EQ(prepare_protect(world_->out, pool_, streams_, 14, op), drop::none);
}

TEST_F(Srtp, ClearSides) {
    start(suite::clear, 0);
    EXPECT_EQ(give(world_->in, 0), status::bad_suite);
    const bytes packet = rtp(1, 1, 10, random_);
    const outcome sent = send(world_->out, pool_, streams_, *engine_, packet);
    EXPECT_EQ(sent.result, drop::none);
    EXPECT_EQ(sent.packet, packet);
    constexpr std::uint16_t sequences[] = {10, 11, 15, 14, 65000, 65001};
    std::uint32_t expected = 0;
    for (const std::uint16_t sequence : sequences) {
        const outcome got = receive_one(world_->in, pool_, streams_, *engine_, rtp(1, sequence, 10, random_));
        EXPECT_EQ(got.result, drop::none);
        expected += got.op.expected;
    }
    EXPECT_EQ(expected, 6U + 2U) << "10..15, then a restart at 65000";
    bytes padded = rtp(1, 2, 4, random_);
    padded[0] |= 0x20;
    padded.back() = 5;
    EXPECT_EQ(take(padded), drop::rtp_malformed);
    bytes report = rtcp(1, 2, random_);
    report[3] = 200;
    EXPECT_EQ(take(report), drop::rtcp_malformed);
}

// --- epochs
// -----------------------------------------------------------------------------------------------------------

TEST_F(Rim13, RekeyContinuesIndicesAndWindows) {
    for (const suite which : every_suite) {
        start(which, 4);
        give_both(0);
        for (std::uint16_t i = 65530; i != 5; ++i)
            ASSERT_EQ(take(sealed(7, i)), drop::none);
        const bytes late = sealed(7, 5);
        const bytes seen = sealed(7, 6);
        ASSERT_EQ(take(seen), drop::none);
        give_both(1);
        EXPECT_EQ(sending_epoch(world_->out), 0U) << "held ready";
        ASSERT_EQ(switch_to(world_->out, 1), status::ok);
        EXPECT_EQ(switch_to(world_->out, 0), status::bad_epoch) << "never back to an older key";
        const outcome got = receive_one(world_->in, pool_, streams_, *engine_, sealed(7, 7));
        EXPECT_EQ(got.result, drop::none);
        EXPECT_EQ(got.op.epoch, 1U);
        EXPECT_TRUE(got.op.first_use);
        EXPECT_EQ(got.op.index, 65536U + 7U);
        EXPECT_EQ(take(late), drop::none) << "old epoch in the overlap";
        EXPECT_EQ(take(seen), drop::srtp_replay);
        std::uint32_t epochs[max_epochs];
        ASSERT_EQ(list_epochs(world_->in, epochs), 2U);
        EXPECT_EQ(epochs[0], 1U);
        EXPECT_EQ(epochs[1], 0U);
        drop_epoch(world_->in, 0);
        EXPECT_EQ(take(late), drop::srtp_unknown_mki);
    }
}

TEST_F(Rim13, WithoutMkiTheNewestKeyIsTried) {
    start(cm80, 0);
    give_both(0);
    ASSERT_EQ(take(sealed(7, 1)), drop::none);
    const bytes old_packet = sealed(7, 2);
    give_both(1);
    ASSERT_EQ(switch_to(world_->out, 1), status::ok);
    EXPECT_EQ(take(sealed(7, 3)), drop::none);
    EXPECT_EQ(take(old_packet), drop::srtp_auth);
}

TEST_F(Rim13, EpochRules) {
    start(gcm, 1);
    give_both(1);
    const world before = *world_;
    EXPECT_EQ(give(world_->out, 1), status::ok) << "the same again";
    EXPECT_EQ(give(world_->out, 1, 2), status::bad_epoch) << "the same number, another key";
    EXPECT_EQ(give(world_->out, 0), status::bad_epoch) << "out-epochs rise";
    EXPECT_EQ(give(world_->in, 256), status::bad_epoch) << "beyond the MKI";
    api::epoch_key shortened = master(gcm, 2, 1);
    shortened.key_length = 15;
    EXPECT_EQ(install(world_->out, pool_, *engine_, shortened), status::bad_key_length);
    EXPECT_EQ(std::memcmp(&before, world_.get(), sizeof before), 0);
    EXPECT_EQ(give(world_->out, 2), status::ok);
    EXPECT_EQ(give(world_->out, 3), status::ok);
    EXPECT_EQ(give(world_->out, 4), status::too_many_epochs);
    EXPECT_EQ(retire(world_->out, 9).status, status::bad_epoch);
    drop_epoch(world_->out, 1);
    EXPECT_EQ(send(world_->out, pool_, streams_, *engine_, rtp(1, 1, 1, random_)).result, drop::srtp_no_key)
        << "it was sent under";
    EXPECT_EQ(give(world_->out, 1), status::bad_epoch) << "a key never comes back";
    EXPECT_EQ(switch_to(world_->out, 3), status::ok);
    EXPECT_EQ(sending_epoch(world_->out), 3U);
    crypto::key_pool::index keys[max_epochs];
    const unsigned count = retire_all(world_->out, keys);
    EXPECT_EQ(count, 2U);
    for (unsigned i = 0; i < count; ++i)
        pool_.release(keys[i]);
    drop_epoch(world_->in, 1);
    EXPECT_EQ(pool_.used(), 0U);
}

TEST_F(Rim12, PoolExhaustionIsSaid) {
    start(gcm, 4);
    while (pool_.take(gcm)) {
    }
    EXPECT_EQ(give(world_->in, 0), status::table_full);
    EXPECT_EQ(world_->in.epochs[0], 0U);
}

// --- limits
// -----------------------------------------------------------------------------------------------------------

TEST_F(Srtp, StreamsAreBoundedAndNeverForgottenUnderTheirKey) {
    start(gcm, 4);
    give_both(0);
    std::vector<bytes> first;
    for (std::uint32_t ssrc = 0; ssrc < max_streams; ++ssrc) {
        first.push_back(sealed(ssrc, 1));
        ASSERT_EQ(take(first.back()), drop::none);
    }
    EXPECT_EQ(send(world_->out, pool_, streams_, *engine_, rtp(99, 1, 1, random_)).result, drop::ssrc_limit);
    // Under the next key the longest unused one goes, on either side.
    give_both(1);
    ASSERT_EQ(switch_to(world_->out, 1), status::ok);
    ASSERT_EQ(take(sealed(0, 2)), drop::none); // stream 0 is the youngest now
    const bytes ninth = sealed(99, 1);
    EXPECT_EQ(take(ninth), drop::ssrc_limit) << "epoch 0 is still accepted: its packets could be replayed";
    drop_epoch(world_->in, 0);
    EXPECT_EQ(take(ninth), drop::none);
    EXPECT_FALSE(detail::find_stream(world_->in, streams_, 1)) << "SSRC 1 was the oldest";
    EXPECT_FALSE(detail::find_stream(world_->out, streams_, 1));
}

// A key's slot is used again by a later key: a stream that goes on there is known to be used under that one, too,
// though nothing but the slot's content has changed for it.
TEST_F(Srtp, AReusedSlotIsAnotherKey) {
    start(gcm, 4);
    give_both(0);
    for (std::uint32_t ssrc = 0; ssrc < max_streams; ++ssrc)
        ASSERT_EQ(take(sealed(ssrc, 1)), drop::none);
    give_both(1);
    ASSERT_EQ(switch_to(world_->out, 1), status::ok);
    drop_epoch(world_->in, 0);
    drop_epoch(world_->out, 0);
    give_both(2); // where epoch 0 was
    ASSERT_EQ(static_cast<std::uint32_t>(world_->in.epochs[0]), 2U);
    ASSERT_EQ(switch_to(world_->out, 2), status::ok);
    std::vector<bytes> under_two;
    for (std::uint32_t i = 0; i < max_streams; ++i) { // the one that epoch 0's slot saw last comes first
        under_two.push_back(sealed((i + max_streams - 1) % max_streams, 2));
        const outcome got = receive_one(world_->in, pool_, streams_, *engine_, under_two.back());
        ASSERT_EQ(got.result, drop::none);
        ASSERT_EQ(got.op.first_use, i == 0);
    }
    drop_epoch(world_->in, 1);
    drop_epoch(world_->out, 1);
    EXPECT_EQ(send(world_->out, pool_, streams_, *engine_, rtp(99, 1, 1, random_)).result, drop::ssrc_limit);
    side other{};
    ASSERT_EQ(init_side(other, api::side::out, gcm, 4), status::ok);
    ASSERT_EQ(give(other, 2), status::ok);
    const outcome ninth = send(other, pool_, streams_, *engine_, rtp(99, 1, 1, random_));
    ASSERT_EQ(ninth.result, drop::none);
    EXPECT_EQ(take(ninth.packet), drop::ssrc_limit) << "every stream was used under epoch 2";
    for (const bytes& old : under_two)
        EXPECT_EQ(take(old), drop::srtp_replay);
}

TEST_F(Srtp, KeyLimits) {
    start(gcm, 4);
    give_both(0);
    ASSERT_EQ(take(sealed(1, 1)), drop::none);
    crypto::key_object& key = pool_[static_cast<std::uint32_t>(world_->out.epochs[0] >> 32) - 1];
    key.rtp_packets = (std::uint64_t{1} << 48) / 8 * 7 - 1;
    EXPECT_TRUE(send(world_->out, pool_, streams_, *engine_, rtp(1, 2, 1, random_)).op.key_limit);
    EXPECT_FALSE(send(world_->out, pool_, streams_, *engine_, rtp(1, 3, 1, random_)).op.key_limit);
    key.rtp_packets = (std::uint64_t{1} << 48) - 1;
    EXPECT_EQ(send(world_->out, pool_, streams_, *engine_, rtp(1, 4, 1, random_)).result, drop::none);
    EXPECT_EQ(send(world_->out, pool_, streams_, *engine_, rtp(1, 5, 1, random_)).result, drop::key_exhausted);
    key.cold().rtcp_packets = (std::uint64_t{1} << 31) - 1;
    EXPECT_EQ(send(world_->out, pool_, streams_, *engine_, rtcp(1, 1, random_)).result, drop::none);
    EXPECT_EQ(send(world_->out, pool_, streams_, *engine_, rtcp(1, 1, random_)).result, drop::key_exhausted);
    // The SRTCP index itself ends at 2^31 - 1, whatever the key has done.
    key.cold().rtcp_packets = 0;
    world_->out.first_rest.rtcp.update(rtp::max_rtcp_index);
    EXPECT_EQ(send(world_->out, pool_, streams_, *engine_, rtcp(1, 1, random_)).result, drop::key_exhausted);
}

// --- two-time pads
// ----------------------------------------------------------------------------------------------------

class pad_watch final : public crypto::iv_observer {
public:
    void encrypting(std::span<const std::uint8_t> key, std::span<const std::uint8_t> iv) override {
        std::string pair(key.begin(), key.end());
        pair.append(iv.begin(), iv.end());
        if (!seen_.insert(std::move(pair)).second)
            ++repeated_;
    }
    [[nodiscard]] std::size_t pairs() const { return seen_.size(); }
    [[nodiscard]] std::size_t repeated() const { return repeated_; }

private:
    std::set<std::string> seen_;
    std::size_t repeated_ = 0;
};

TEST(TwoTimePad, TheWatchSeesARepeatedPad) { // or the next test could not fail
    pad_watch watch;
    const auto engine = crypto::make_openssl(&watch);
    auto one = std::make_unique<world>();
    auto pool = one->pool();
    std::mt19937_64 random(1);
    ASSERT_EQ(init_side(one->out, api::side::out, gcm, 0), status::ok);
    ASSERT_EQ(install(one->out, pool, *engine, master(gcm, 0, 1)), status::ok);
    auto sent = send(one->out, pool, one->streams(), *engine, rtp(1, 1, 10, random));
    sent.packet.resize(200);
    sent.op.packet = sent.packet.data();
    engine->protect({&sent.op, 1});
    EXPECT_EQ(watch.repeated(), 1U);
}

// Clear senders that duplicate, reorder, wrap, restart, change SSRC and come back with an old one, RTP and RTCP, four
// directions per suite, re-keyed, restarted after a crash: no (key, IV) twice.
TEST(TwoTimePad, NoKeyAndIvPairIsUsedTwice) {
    pad_watch watch;
    const auto engine = crypto::make_openssl(&watch);
    std::mt19937_64 random(20);
    std::map<drop, unsigned> results;
    std::uint32_t seed = 0;
    for (const suite which : every_suite)
        for (int direction = 0; direction < 4; ++direction) {
            auto one = std::make_unique<world>();
            auto pool = one->pool();
            ASSERT_EQ(init_side(one->out, api::side::out, which, 4), status::ok);
            ++seed;
            std::uint32_t epoch = 0;
            ASSERT_EQ(install(one->out, pool, *engine, master(which, 0, seed)), status::ok);
            std::map<std::uint32_t, std::uint16_t> sequences;
            for (int i = 0; i < (sanitized ? 1500 : 6000); ++i) {
                const auto ssrc = static_cast<std::uint32_t>(random() % (i % 1000 < 800 ? 12 : 100));
                auto& sequence = sequences.try_emplace(ssrc, static_cast<std::uint16_t>(65500)).first->second;
                sequence = static_cast<std::uint16_t>(sequence + random() % 3);
                const auto shown = random() % 50 == 0  ? static_cast<std::uint16_t>(random())
                                   : random() % 5 == 0 ? static_cast<std::uint16_t>(sequence - random() % 200)
                                                       : sequence;
                ++results[send(one->out, pool, one->streams(), *engine,
                               random() % 10 == 0 ? rtcp(ssrc, 1, random) : rtp(ssrc, shown, 8, random))
                              .result];
                if (i % 500 == 499) {
                    ++epoch;
                    ASSERT_EQ(install(one->out, pool, *engine, master(which, epoch, seed)), status::ok);
                    ASSERT_EQ(switch_to(one->out, epoch), status::ok);
                    const retired gone = retire(one->out, epoch - 1);
                    ASSERT_EQ(gone.status, status::ok);
                    pool.release(gone.key.value());
                }
                if (random() % 300 == 0) {
                    pool.recover_begin();
                    one->streams().recover_begin();
                    recover(one->out, pool, one->streams());
                    pool.recover_end(*engine);
                    one->streams().recover_end();
                }
            }
        }
    EXPECT_EQ(watch.repeated(), 0U);
    EXPECT_EQ(watch.pairs(), results[drop::none]);
    EXPECT_GT(results[drop::tx_index_reused], 100U);
    EXPECT_GT(results[drop::ssrc_limit], 100U);
}

} // namespace
} // namespace tandem::flow
