// SPDX-License-Identifier: Apache-2.0
// Derivation of all labels in one pass against AES counter mode label by label (OpenSSL's own), and what it refuses.
// Published vectors: engine_test.cpp.
#include "dataplane/crypto/keys.hpp"

#include <algorithm>
#include <cstring>
#include <gtest/gtest.h>
#include <memory>
#include <openssl/evp.h>
#include <random>
#include <thread>
#include <vector>

namespace tandem::crypto {
namespace {

using bytes = std::vector<std::uint8_t>;

bytes random_bytes(std::mt19937& random, std::size_t length) {
    bytes out(length);
    std::generate(out.begin(), out.end(), [&] { return static_cast<std::uint8_t>(random()); });
    return out;
}

// RFC 3711 4.3.3: the key stream of AES in counter mode from (label xor salt) << 16.
bytes by_counter_mode(const bytes& key, const bytes& salt, rtp::label label, std::size_t length) {
    std::uint8_t iv[16] = {};
    std::copy(salt.begin(), salt.end(), iv);
    iv[7] = static_cast<std::uint8_t>(iv[7] ^ static_cast<std::uint8_t>(label));
    const std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(EVP_CIPHER_CTX_new(),
                                                                                  EVP_CIPHER_CTX_free);
    bytes out(length);
    int written = 0;
    EXPECT_EQ(EVP_EncryptInit_ex(context.get(), key.size() == 16 ? EVP_aes_128_ctr() : EVP_aes_256_ctr(), nullptr,
                                 key.data(), iv),
              1);
    EXPECT_EQ(EVP_EncryptUpdate(context.get(), out.data(), &written, out.data(), static_cast<int>(length)), 1);
    return out;
}

void expect_part(const std::uint8_t* part, const bytes& key, const bytes& salt, rtp::label label, std::size_t length) {
    EXPECT_EQ(bytes(part, part + length), by_counter_mode(key, salt, label, length))
        << "label " << static_cast<unsigned>(label);
}

void expect_all(api::suite suite, std::mt19937& random) {
    const auto& row = api::info(suite);
    const bytes key = random_bytes(random, row.key_length), salt = random_bytes(random, row.salt_length);
    session_keys keys{};
    ASSERT_TRUE(derive_session_keys(suite, key, salt, keys));
    using rtp::label;
    expect_part(keys.rtp.key, key, salt, label::rtp_encryption, row.key_length);
    expect_part(keys.rtp.auth, key, salt, label::rtp_authentication, row.auth_key_length);
    expect_part(keys.rtp.salt, key, salt, label::rtp_salting, row.salt_length);
    expect_part(keys.rtcp.key, key, salt, label::rtcp_encryption, row.key_length);
    expect_part(keys.rtcp.auth, key, salt, label::rtcp_authentication, row.auth_key_length);
    expect_part(keys.rtcp.salt, key, salt, label::rtcp_salting, row.salt_length);
    // Nothing behind what the suite uses.
    EXPECT_TRUE(std::all_of(keys.rtp.key + row.key_length, std::end(keys.rtp.key), [](auto b) { return b == 0; }));
}

TEST(Keys, AllLabelsInOnePassAreThoseOfCounterMode) {
    std::mt19937 random(1);
    for (unsigned round = 0; round < 200; ++round)
        for (const auto suite :
             {api::suite::aes_cm_128_hmac_sha1_80, api::suite::aes_cm_128_hmac_sha1_32, api::suite::aead_aes_128_gcm,
              api::suite::aead_aes_256_gcm, api::suite::aes_256_cm_hmac_sha1_80})
            expect_all(suite, random);
}

TEST(Keys, AnyLengthOfOneLabel) {
    std::mt19937 random(2);
    for (const std::size_t key_length : {16U, 32U})
        for (const std::size_t length : {1U, 15U, 16U, 17U, 94U, 255U, 256U, 257U, 5000U}) {
            const bytes key = random_bytes(random, key_length), salt = random_bytes(random, 14);
            bytes out(length);
            ASSERT_TRUE(derive(key, salt, rtp::label::rtp_authentication, out));
            EXPECT_EQ(out, by_counter_mode(key, salt, rtp::label::rtp_authentication, length)) << length;
        }
}

TEST(Keys, EveryThreadHasItsOwn) {
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < 4; ++i)
        threads.emplace_back([i] {
            std::mt19937 random(100 + i);
            for (unsigned round = 0; round < 100; ++round)
                expect_all(api::suite::aead_aes_256_gcm, random);
        });
    for (auto& thread : threads)
        thread.join();
}

TEST(Keys, WrongLengthsAreRefused) {
    const bytes key(24), salt(14);
    bytes out(16);
    EXPECT_FALSE(derive(key, salt, rtp::label::rtp_encryption, out));
    EXPECT_FALSE(derive({key.data(), 16}, {salt.data(), 13}, rtp::label::rtp_encryption, out));
    session_keys keys{};
    EXPECT_FALSE(derive_session_keys(api::suite::aead_aes_256_gcm, {key.data(), 16}, {salt.data(), 12}, keys));
}

} // namespace
} // namespace tandem::crypto
