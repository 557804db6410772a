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
#include "dataplane/flow/side.hpp"
#include "dataplane/media/index.hpp"
#include "dataplane/media/packet.hpp"
#include "dataplane/media/suite.hpp"

namespace tandem::flow::testing {

using bytes = std::vector<std::uint8_t>;

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool sanitized = true; // counts are scaled down there
#else
inline constexpr bool sanitized = false;
#endif

// In and out side and a key pool, plain memory: copy it to see whether something changed.
struct world {
    static constexpr std::uint32_t keys = 16;
    alignas(64) side in;
    alignas(64) side out;
    alignas(64) std::uint8_t pool_memory[crypto::key_pool::bytes(keys)];

    world() { std::memset(static_cast<void*>(this), 0, sizeof *this); }
    [[nodiscard]] crypto::key_pool pool() noexcept { return {pool_memory, keys}; }
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
    media::store32(packet.data() + 8, ssrc);
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
    media::store32(packet.data() + 4, ssrc);
    return packet;
}

// A clear packet through an out-side: what leaves, or the drop reason.
struct outcome {
    api::drop result = api::drop::none;
    bytes packet;
    crypto::op op;
};

inline outcome send(side& out, crypto::key_pool pool, crypto::engine& engine, const bytes& clear) {
    outcome sent;
    sent.packet = clear;
    sent.packet.resize(clear.size() + media::max_trailer);
    side wire{}; // as a clear in-side would have parsed it
    static_cast<void>(init_side(wire, api::side::in, api::suite::clear, 0));
    sent.result = prepare_unprotect(wire, pool, sent.packet.data(), static_cast<std::uint32_t>(clear.size()), sent.op);
    if (sent.result == api::drop::none)
        sent.result = prepare_protect(out, pool, media::max_trailer, sent.op);
    engine.protect({&sent.op, 1});
    sent.packet.resize(sent.op.length);
    return sent;
}

// A burst through an in-side, as the pipeline does it.
inline std::vector<outcome> receive(side& in, crypto::key_pool pool, crypto::engine& engine,
                                    std::span<const bytes> packets) {
    std::vector<outcome> got(packets.size());
    std::vector<crypto::op> ops(packets.size());
    for (std::size_t i = 0; i < packets.size(); ++i) {
        got[i].packet = packets[i];
        static_cast<void>(
            prepare_unprotect(in, pool, got[i].packet.data(), static_cast<std::uint32_t>(packets[i].size()), ops[i]));
    }
    std::vector<bool> ready;
    for (const auto& op : ops)
        ready.push_back(op.result == api::drop::none);
    engine.unprotect(ops);
    for (std::size_t i = 0; i < packets.size(); ++i) {
        got[i].result = ready[i] ? commit_unprotect(in, pool, engine, ops[i]) : ops[i].result;
        got[i].packet.resize(ops[i].length);
        got[i].op = ops[i];
    }
    return got;
}

inline outcome receive_one(side& in, crypto::key_pool pool, crypto::engine& engine, const bytes& packet) {
    return receive(in, pool, engine, {&packet, 1}).front();
}

} // namespace tandem::flow::testing
