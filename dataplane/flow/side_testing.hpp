// SPDX-License-Identifier: Apache-2.0
// What the tests of flow/side share: a side with a key pool in one block of memory, packet makers, the burst sequence.
#pragma once

#include <cstdlib>
#include <cstring>
#include <gtest/gtest.h>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "dataplane/crypto/ipsecmb.hpp"
#include "dataplane/crypto/key_pool.hpp"
#include "dataplane/crypto/openssl.hpp"
#include "dataplane/flow/side_internal.hpp"
#include "dataplane/rtp/index.hpp"
#include "dataplane/rtp/packet.hpp"
#include "dataplane/rtp/suite.hpp"

namespace tandem::flow::testing {

using bytes = std::vector<std::uint8_t>;

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool sanitized = true; // counts are scaled down there
#else
inline constexpr bool sanitized = false;
#endif

// In and out side, a key pool and one for streams, plain memory: copy it to see whether something changed.
struct world {
    static constexpr std::uint32_t keys = 16, places = 2 * max_streams;
    alignas(64) side in;
    alignas(64) side out;
    alignas(64) std::uint8_t pool_memory[crypto::key_pool::bytes(keys)];
    alignas(64) std::uint8_t stream_memory[stream_pool::bytes(places)];

    world() { std::memset(static_cast<void*>(this), 0, sizeof *this); }
    [[nodiscard]] crypto::key_pool pool() noexcept { return {pool_memory, keys}; }
    [[nodiscard]] stream_pool streams() noexcept { return {stream_memory, places}; }
};

inline api::epoch_key master(api::suite suite, std::uint32_t epoch, std::uint32_t seed) {
    std::mt19937_64 random(std::uint64_t{seed} << 32 | epoch);
    api::epoch_key key{};
    key.epoch = key.mki = epoch;
    key.key_length = api::info(suite).key_length;
    key.salt_length = api::info(suite).salt_length;
    for (auto& byte : key.key)
        byte = static_cast<std::uint8_t>(random());
    for (auto& byte : key.salt)
        byte = static_cast<std::uint8_t>(random());
    return key;
}

inline bytes rtp(std::uint32_t ssrc, std::uint16_t sequence, std::size_t payload, std::mt19937_64& random,
                 bool decorated = false) {
    const std::size_t csrcs = decorated ? random() % 16 : 0;
    const bool extension = decorated && random() % 2 == 0;
    const std::size_t words = extension ? random() % 8 : 0;
    bytes packet(12 + 4 * csrcs + (extension ? 4 + 4 * words : 0) + payload);
    for (auto& byte : packet)
        byte = static_cast<std::uint8_t>(random());
    packet[0] = static_cast<std::uint8_t>(0x80 | csrcs | (extension ? 0x10 : 0));
    packet[1] = static_cast<std::uint8_t>(random() % 2 << 7 | random() % 64);
    packet[2] = static_cast<std::uint8_t>(sequence >> 8);
    packet[3] = static_cast<std::uint8_t>(sequence);
    rtp::store32(packet.data() + 8, ssrc);
    if (extension) {
        packet[12 + 4 * csrcs + 2] = 0;
        packet[12 + 4 * csrcs + 3] = static_cast<std::uint8_t>(words);
    }
    return packet;
}

inline bytes rtcp(std::uint32_t ssrc, std::size_t words, std::mt19937_64& random) {
    bytes packet(8 + 4 * words);
    for (auto& byte : packet)
        byte = static_cast<std::uint8_t>(random());
    packet[0] = 0x80;
    packet[1] = 200;
    packet[2] = 0;
    packet[3] = static_cast<std::uint8_t>(1 + words);
    rtp::store32(packet.data() + 4, ssrc);
    return packet;
}

// A clear packet through an out-side: what leaves, or the drop reason.
struct outcome {
    api::drop result = api::drop::none;
    bytes packet;
    crypto::op op;
};

// As an SRTP in-side leaves it that has seen all that was sent: every jump is authentic.
inline void in_step(const side& out, stream_pool streams, crypto::op& op) {
    const auto known = detail::find_stream(out, streams, op.ssrc);
    const std::uint64_t next = known ? known.rtp->next() : 0;
    const std::uint64_t index =
        rtp::guess_index(next, static_cast<std::uint16_t>(op.sequence + offset_of(out, streams, op.ssrc)));
    op.expected = next == 0 ? 1 : index >= next ? static_cast<std::uint32_t>(index + 1 - next) : 0;
}

inline outcome send(side& out, crypto::key_pool pool, stream_pool streams, crypto::engine& engine, const bytes& clear) {
    outcome sent;
    sent.packet = clear;
    sent.packet.resize(clear.size() + rtp::max_trailer);
    side wire{}; // as a clear in-side would have parsed it
    static_cast<void>(init_side(wire, api::side::in, api::suite::clear, 0));
    sent.result =
        prepare_unprotect(wire, pool, streams, sent.packet.data(), static_cast<std::uint32_t>(clear.size()), sent.op);
    if (sent.result == api::drop::none) {
        in_step(out, streams, sent.op);
        sent.result = prepare_protect(out, pool, streams, rtp::max_trailer, sent.op);
    }
    engine.protect({&sent.op, 1});
    sent.packet.resize(sent.op.length);
    return sent;
}

// A burst through an in-side, as the pipeline does it.
inline std::vector<outcome> receive(side& in, crypto::key_pool pool, stream_pool streams, crypto::engine& engine,
                                    std::span<const bytes> packets, bool another = true) {
    std::vector<outcome> got(packets.size());
    std::vector<crypto::op> ops(packets.size());
    for (std::size_t i = 0; i < packets.size(); ++i) {
        got[i].packet = packets[i];
        static_cast<void>(prepare_unprotect(in, pool, streams, got[i].packet.data(),
                                            static_cast<std::uint32_t>(packets[i].size()), ops[i]));
    }
    std::vector<bool> ready;
    for (const auto& op : ops)
        ready.push_back(op.result == api::drop::none);
    engine.unprotect(ops);
    for (std::size_t i = 0; i < packets.size(); ++i) {
        const bool again = another && ops[i].result == api::drop::srtp_auth && has_another_index(in, streams, ops[i]);
        got[i].result = ready[i] ? commit_unprotect(in, pool, streams, engine, ops[i], again) : ops[i].result;
        ops[i].epoch = epoch_of(in, ops[i]);
        got[i].packet.resize(ops[i].length);
        got[i].op = ops[i];
    }
    return got;
}

inline outcome receive_one(side& in, crypto::key_pool pool, stream_pool streams, crypto::engine& engine,
                           const bytes& packet, bool another = true) {
    return receive(in, pool, streams, engine, {&packet, 1}, another).front();
}

inline constexpr api::suite gcm = api::suite::aead_aes_128_gcm, cm80 = api::suite::aes_cm_128_hmac_sha1_80;
inline constexpr api::suite every_suite[] = {cm80,
                                             api::suite::aes_cm_128_hmac_sha1_32,
                                             gcm,
                                             api::suite::aead_aes_256_gcm,
                                             api::suite::aes_256_cm_hmac_sha1_80,
                                             api::suite::aes_256_cm_hmac_sha1_32};

class side_fixture : public ::testing::Test {
protected:
    void start(api::suite which, std::uint8_t mki) {
        *world_ = world();
        pool_ = world_->pool();
        streams_ = world_->streams();
        suite_ = which;
        ASSERT_EQ(init_side(world_->in, api::side::in, which, mki), api::status::ok);
        ASSERT_EQ(init_side(world_->out, api::side::out, which, mki), api::status::ok);
    }
    api::status give(side& what, std::uint32_t epoch, std::uint32_t seed = 1) {
        return install(what, pool_, *engine_, master(suite_, epoch, seed));
    }
    void give_both(std::uint32_t epoch) {
        ASSERT_EQ(give(world_->in, epoch), api::status::ok);
        ASSERT_EQ(give(world_->out, epoch), api::status::ok);
    }
    void drop_epoch(side& what, std::uint32_t epoch) {
        const retired gone = retire(what, epoch);
        ASSERT_EQ(gone.status, api::status::ok);
        if (gone.key)
            pool_.release(*gone.key);
    }
    bytes sealed(std::uint32_t ssrc, std::uint16_t sequence) {
        auto sent = send(world_->out, pool_, streams_, *engine_, rtp(ssrc, sequence, 20, random_));
        EXPECT_EQ(sent.result, api::drop::none);
        return sent.packet;
    }
    api::drop take(const bytes& packet) { return receive_one(world_->in, pool_, streams_, *engine_, packet).result; }
    void restart() { // of the process
        pool_.recover_begin();
        streams_.recover_begin();
        recover(world_->in, pool_, streams_);
        recover(world_->out, pool_, streams_);
        pool_.recover_end(*engine_);
        streams_.recover_end();
    }

    std::unique_ptr<world> world_ = std::make_unique<world>();
    crypto::key_pool pool_ = world_->pool();
    stream_pool streams_ = world_->streams();
    std::unique_ptr<crypto::engine> engine_ = crypto::make_ipsecmb();
    std::mt19937_64 random_{20261121};
    api::suite suite_ = gcm;
};

} // namespace tandem::flow::testing
