// SPDX-License-Identifier: Apache-2.0
// The key pool: exhaustion, wiping, and what a restart keeps.
#include "dataplane/crypto/key_pool.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <gtest/gtest.h>
#include <random>
#include <utility>
#include <vector>

#include "dataplane/crypto/ipsecmb.hpp"
#include "dataplane/crypto/openssl.hpp"

namespace tandem::crypto {
namespace {

constexpr auto cm = api::suite::aes_cm_128_hmac_sha1_80;
constexpr auto gcm = api::suite::aead_aes_128_gcm;

struct pool_memory {
    explicit pool_memory(std::uint32_t capacity)
        : bytes(key_pool::bytes(capacity)), memory(std::aligned_alloc(64, (bytes + 63) / 64 * 64)) {
        std::memset(memory, 0, bytes);
    }
    pool_memory(const pool_memory&) = delete;
    pool_memory& operator=(const pool_memory&) = delete;
    ~pool_memory() { std::free(memory); }
    [[nodiscard]] bool contains(const void* what, std::size_t length) const {
        return memmem(memory, bytes, what, length) != nullptr;
    }
    std::size_t bytes;
    void* memory;
};

session_keys some_keys(std::uint8_t mark) {
    session_keys keys;
    std::memset(&keys, mark, sizeof keys);
    return keys;
}

TEST(KeyPool, GivesEveryKeyOnceAndRefusesMore) {
    pool_memory memory(3);
    key_pool pool(memory.memory, 3);
    ASSERT_TRUE(pool.take(gcm) && pool.take(gcm));
    const auto last = pool.take(gcm);
    ASSERT_TRUE(last);
    EXPECT_FALSE(pool.take(gcm));
    EXPECT_FALSE(pool.take(cm));
    EXPECT_EQ(pool.used(), 3U);
    pool.release(*last);
    EXPECT_EQ(pool.take(gcm), last);
}

// Taken and released in any order, for ever: every key once, all of them, and what is in use adds up.
TEST(KeyPool, NothingIsLostOrGivenTwiceInAnyOrder) {
    constexpr std::uint32_t capacity = 100;
    pool_memory memory(capacity);
    key_pool pool(memory.memory, capacity);
    std::vector<key_pool::index> taken;
    std::mt19937 random(3);
    for (unsigned step = 0; step < 20'000; ++step) {
        // Up to the brim and down to nothing, again and again.
        if (random() % 100 < (step / 1000 % 2 == 0 ? 70U : 30U)) {
            const auto at = pool.take(gcm);
            ASSERT_EQ(at.has_value(), taken.size() < capacity);
            if (at) {
                ASSERT_EQ(std::find(taken.begin(), taken.end(), *at), taken.end()) << "given twice";
                taken.push_back(*at);
            }
        } else if (!taken.empty()) {
            const std::size_t which = random() % taken.size();
            pool.release(taken[which]);
            pool.release(taken[which]); // a second time does nothing
            taken.erase(taken.begin() + static_cast<std::ptrdiff_t>(which));
        }
        ASSERT_EQ(pool.in_use(), taken.size());
    }
    EXPECT_EQ(pool.used(), taken.size());
    key_pool next(memory.memory, capacity); // the next process: only what a side names is kept
    const auto engine = make_openssl(nullptr);
    next.recover_begin();
    for (std::size_t i = 0; i < taken.size(); i += 2) {
        ASSERT_TRUE(engine->build(gcm, some_keys(1), next[taken[i]]));
        EXPECT_TRUE(next.mark(taken[i], gcm));
    }
    next.recover_end(*engine);
    EXPECT_EQ(next.in_use(), (taken.size() + 1) / 2);
    std::uint32_t more = 0;
    while (next.take(gcm))
        ++more;
    EXPECT_EQ(more, capacity - (taken.size() + 1) / 2);
}

// Long ones from one end, short ones from the other: none overlaps another, the sum is what counts, and what one kind
// gave back at its edge the other may take.
TEST(KeyPool, BothKindsShareTheMemory) {
    constexpr std::uint32_t capacity = 6;
    pool_memory memory(capacity);
    key_pool pool(memory.memory, capacity);
    std::vector<std::pair<key_pool::index, std::size_t>> taken;
    const auto take = [&](api::suite suite) {
        const auto at = pool.take(suite);
        if (at)
            taken.emplace_back(*at * std::size_t{64}, *at * std::size_t{64} + key_bytes(suite));
        return at;
    };
    ASSERT_TRUE(take(gcm) && take(gcm));
    std::size_t shorts = 0;
    while (take(cm))
        ++shorts;
    EXPECT_EQ(shorts, (capacity - 2) * key_bytes(gcm) / key_bytes(cm));
    EXPECT_EQ(pool.used(), shorts + 2);
    std::sort(taken.begin(), taken.end());
    for (std::size_t i = 1; i < taken.size(); ++i)
        EXPECT_GE(taken[i].first, taken[i - 1].second);
    EXPECT_FALSE(pool.take(gcm));
    key_pool again(memory.memory, capacity); // another view finds the same
    EXPECT_EQ(again.used(), shorts + 2);
    EXPECT_FALSE(again.take(cm));
    for (unsigned i = 0; i < 4; ++i) // the innermost short ones are the first in memory
        pool.release(static_cast<key_pool::index>(taken[2 + i].first / 64));
    EXPECT_TRUE(pool.take(gcm));
}

TEST(Rim10, ReleaseWipesTheKey) {
    pool_memory memory(2);
    key_pool pool(memory.memory, 2);
    const auto engine = make_openssl(nullptr);
    const session_keys keys = some_keys(0xa7);
    const auto at = pool.take(gcm);
    ASSERT_TRUE(at && engine->build(api::suite::aead_aes_128_gcm, keys, pool[*at]));
    ASSERT_TRUE(memory.contains(&keys.rtp.key, 16));
    pool.release(*at);
    EXPECT_FALSE(memory.contains(&keys.rtp.key, 8));
    EXPECT_EQ(pool.used(), 0U);
}

TEST(Srtp, RestartKeepsMarkedKeysRebuildsForAnotherEngineAndWipesTheRest) {
    pool_memory memory(4);
    key_pool before(memory.memory, 4);
    const auto reference = make_openssl(nullptr);
    const auto kept = before.take(cm);
    const auto orphan = before.take(cm);
    const session_keys keys = some_keys(0x11);
    const session_keys lost = some_keys(0x77);
    ASSERT_TRUE(reference->build(api::suite::aes_cm_128_hmac_sha1_80, keys, before[*kept]));
    ASSERT_TRUE(reference->build(api::suite::aes_cm_128_hmac_sha1_80, lost, before[*orphan]));
    before[*kept].rtp_packets = 12345;

    key_pool after(memory.memory, 4); // the next process
    const auto fast = make_ipsecmb();
    ASSERT_TRUE(fast);
    after.recover_begin();
    EXPECT_FALSE(after.mark(*kept, gcm)) << "another kind's";
    EXPECT_FALSE(after.mark(*kept + 1, cm)) << "inside an object";
    EXPECT_TRUE(after.mark(*kept, cm));
    after.recover_end(*fast);
    EXPECT_EQ(after.used(), 1U);
    EXPECT_EQ(after[*kept].cold().fingerprint, fast->fingerprint());
    EXPECT_EQ(after[*kept].rtp_packets, 12345U);
    EXPECT_EQ(std::memcmp(&after[*kept].cold().raw, &keys, sizeof keys), 0);
    key_object fresh;
    ASSERT_TRUE(fast->build(api::suite::aes_cm_128_hmac_sha1_80, keys, fresh));
    EXPECT_EQ(std::memcmp(after[*kept].expanded, fresh.expanded, cm_expanded_bytes), 0);
    EXPECT_FALSE(memory.contains(&lost.rtp.key, 8));
}

} // namespace
} // namespace tandem::crypto
