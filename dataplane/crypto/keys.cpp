// SPDX-License-Identifier: Apache-2.0
// Key derivation (RFC 3711 4.3.3 AES-CM PRF over OpenSSL), wiping and constant-time comparison. Control thread.
//
// The PRF's key stream is AES of counter blocks, so all six labels of a session are one pass of AES-ECB under one key
// schedule, through a context that the thread keeps: a context, a fetch and a schedule for each label were 9/10 of what
// installing a key cost.
#include "dataplane/crypto/keys.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <openssl/crypto.h>
#include <openssl/evp.h>

namespace tandem::crypto {

void wipe(void* memory, std::size_t length) noexcept {
    std::memset(memory, 0, length);
    asm volatile("" : : "r"(memory) : "memory"); // somebody reads it, as far as the compiler knows
}

bool equal_constant_time(const void* a, const void* b, std::size_t length) noexcept {
    return CRYPTO_memcmp(a, b, length) == 0;
}

void begin_key(key_object& out, api::suite suite, std::uint32_t fingerprint, const session_keys& keys) noexcept {
    std::memset(static_cast<void*>(&out), 0, key_bytes(suite));
    out.suite = suite;
    std::memcpy(out.rtp_salt, keys.rtp.salt, api::info(suite).salt_length);
    out.cold().fingerprint = fingerprint;
    out.cold().raw = keys;
}

namespace {

constexpr std::size_t block = 16;
constexpr std::size_t at_once = 16; // blocks; a session's six labels are 4 to 10

// Whole blocks under a key, in place. No key outlives a call: its schedule is overwritten by that of zero.
class block_cipher {
public:
    explicit block_cipher(const char* name) noexcept
        : cipher_(EVP_CIPHER_fetch(nullptr, name, nullptr), EVP_CIPHER_free),
          context_(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free) {
        usable_ = cipher_ && context_ &&
                  EVP_EncryptInit_ex2(context_.get(), cipher_.get(), nullptr, nullptr, nullptr) == 1 &&
                  EVP_CIPHER_CTX_set_padding(context_.get(), 0) == 1;
    }

    [[nodiscard]] bool encrypt(const std::uint8_t* key, std::uint8_t* blocks, std::size_t count) noexcept {
        static constexpr std::uint8_t zero[32] = {};
        int written = 0;
        const int bytes = static_cast<int>(count * block);
        const bool ok = usable_ && EVP_EncryptInit_ex2(context_.get(), nullptr, key, nullptr, nullptr) == 1 &&
                        EVP_EncryptUpdate(context_.get(), blocks, &written, blocks, bytes) == 1 && written == bytes;
        if (usable_ && EVP_EncryptInit_ex2(context_.get(), nullptr, zero, nullptr, nullptr) != 1)
            usable_ = false;
        return ok;
    }

private:
    std::unique_ptr<EVP_CIPHER, decltype(&EVP_CIPHER_free)> cipher_;
    std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context_;
    bool usable_ = false;
};

[[nodiscard]] block_cipher* cipher_for(std::size_t key_length) noexcept {
    thread_local block_cipher aes_128("AES-128-ECB");
    thread_local block_cipher aes_256("AES-256-ECB");
    return key_length == 16 ? &aes_128 : key_length == 32 ? &aes_256 : nullptr;
}

// Counter blocks first, first + 1, ... of a label: x = (label || r = 0) xor salt, 112 bits, then the counter. A 96-bit
// salt is padded on its right (RFC 7714 11).
void put_counters(std::span<const std::uint8_t> salt, rtp::label label, std::size_t first, std::size_t count,
                  std::uint8_t* to) noexcept {
    for (std::size_t i = first; i < first + count; ++i, to += block) {
        std::memset(to, 0, block);
        std::memcpy(to, salt.data(), salt.size());
        to[7] = static_cast<std::uint8_t>(to[7] ^ static_cast<std::uint8_t>(label));
        to[14] = static_cast<std::uint8_t>(i >> 8);
        to[15] = static_cast<std::uint8_t>(i);
    }
}

[[nodiscard]] constexpr std::size_t blocks_of(std::size_t bytes) noexcept {
    return (bytes + block - 1) / block;
}

} // namespace

bool derive(std::span<const std::uint8_t> master_key, std::span<const std::uint8_t> master_salt, rtp::label label,
            std::span<std::uint8_t> out) noexcept {
    block_cipher* const cipher = cipher_for(master_key.size());
    if (cipher == nullptr || (master_salt.size() != 12 && master_salt.size() != 14) || out.size() > 0x100000)
        return false;
    std::uint8_t stream[at_once * block];
    bool ok = true;
    for (std::size_t done = 0; ok && done < out.size(); done += sizeof stream) {
        const std::size_t bytes = std::min(sizeof stream, out.size() - done);
        put_counters(master_salt, label, done / block, blocks_of(bytes), stream);
        ok = cipher->encrypt(master_key.data(), stream, blocks_of(bytes));
        std::memcpy(out.data() + done, stream, bytes);
    }
    wipe(stream, sizeof stream);
    return ok;
}

bool derive_session_keys(api::suite suite, std::span<const std::uint8_t> master_key,
                         std::span<const std::uint8_t> master_salt, session_keys& out) noexcept {
    out = {};
    const auto& row = api::info(suite);
    block_cipher* const cipher = cipher_for(master_key.size());
    if (suite == api::suite::clear || master_key.size() != row.key_length || master_salt.size() != row.salt_length ||
        cipher == nullptr)
        return false;
    const struct {
        rtp::label label;
        std::uint8_t* to;
        std::size_t length;
    } parts[] = {{rtp::label::rtp_encryption, out.rtp.key, row.key_length},
                 {rtp::label::rtp_authentication, out.rtp.auth, row.auth_key_length},
                 {rtp::label::rtp_salting, out.rtp.salt, row.salt_length},
                 {rtp::label::rtcp_encryption, out.rtcp.key, row.key_length},
                 {rtp::label::rtcp_authentication, out.rtcp.auth, row.auth_key_length},
                 {rtp::label::rtcp_salting, out.rtcp.salt, row.salt_length}};
    static_assert(
        2 * (blocks_of(sizeof out.rtp.key) + blocks_of(sizeof out.rtp.auth) + blocks_of(sizeof out.rtp.salt)) <=
        at_once);
    std::uint8_t stream[at_once * block];
    std::size_t blocks = 0;
    for (const auto& part : parts) {
        put_counters(master_salt, part.label, 0, blocks_of(part.length), stream + blocks * block);
        blocks += blocks_of(part.length);
    }
    const bool ok = cipher->encrypt(master_key.data(), stream, blocks);
    blocks = 0;
    for (const auto& part : parts) {
        std::memcpy(part.to, stream + blocks * block, part.length);
        blocks += blocks_of(part.length);
    }
    wipe(stream, sizeof stream);
    if (!ok)
        wipe(&out, sizeof out);
    return ok;
}

} // namespace tandem::crypto
