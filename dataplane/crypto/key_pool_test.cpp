// SPDX-License-Identifier: Apache-2.0
// The key pool: exhaustion, wiping, and what a restart keeps.
#include "dataplane/crypto/key_pool.hpp"

#include <cstdlib>
#include <cstring>
#include <gtest/gtest.h>

#include "dataplane/crypto/ipsecmb.hpp"
#include "dataplane/crypto/openssl.hpp"

namespace tandem::crypto {
namespace {

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
    ASSERT_TRUE(pool.take() && pool.take());
    const auto last = pool.take();
    ASSERT_TRUE(last);
    EXPECT_FALSE(pool.take());
    EXPECT_EQ(pool.used(), 3U);
    pool.release(*last);
    EXPECT_EQ(pool.take(), last);
}

TEST(Rim10, ReleaseWipesTheKey) {
    pool_memory memory(2);
    key_pool pool(memory.memory, 2);
    const auto engine = make_openssl(nullptr);
    const session_keys keys = some_keys(0xa7);
    const auto at = pool.take();
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
    const auto kept = before.take();
    const auto orphan = before.take();
    const session_keys keys = some_keys(0x11);
    const session_keys lost = some_keys(0x77);
    ASSERT_TRUE(reference->build(api::suite::aes_cm_128_hmac_sha1_80, keys, before[*kept]));
    ASSERT_TRUE(reference->build(api::suite::aes_cm_128_hmac_sha1_80, lost, before[*orphan]));
    before[*kept].rtp_packets = 12345;

    key_pool after(memory.memory, 4); // the next process
    const auto fast = make_ipsecmb();
    ASSERT_TRUE(fast);
    after.recover_begin();
    after.mark(*kept);
    after.recover_end(*fast);
    EXPECT_EQ(after.used(), 1U);
    EXPECT_EQ(after[*kept].fingerprint, fast->fingerprint());
    EXPECT_EQ(after[*kept].rtp_packets, 12345U);
    EXPECT_EQ(std::memcmp(&after[*kept].raw, &keys, sizeof keys), 0);
    key_object fresh;
    ASSERT_TRUE(fast->build(api::suite::aes_cm_128_hmac_sha1_80, keys, fresh));
    EXPECT_EQ(std::memcmp(after[*kept].expanded, fresh.expanded, sizeof fresh.expanded), 0);
    EXPECT_FALSE(memory.contains(&lost.rtp.key, 8));
}

} // namespace
} // namespace tandem::crypto
