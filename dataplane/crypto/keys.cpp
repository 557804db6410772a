// SPDX-License-Identifier: Apache-2.0
// Key derivation (RFC 3711 4.3.3 AES-CM PRF over OpenSSL), wiping and constant-time comparison. Control thread.
#include "dataplane/crypto/keys.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <openssl/crypto.h>
#include <openssl/evp.h>

namespace tandem::crypto {

void wipe(void* memory, std::size_t length) noexcept {
    OPENSSL_cleanse(memory, length);
}

bool equal_constant_time(const void* a, const void* b, std::size_t length) noexcept {
    return CRYPTO_memcmp(a, b, length) == 0;
}

bool derive(std::span<const std::uint8_t> master_key, std::span<const std::uint8_t> master_salt, media::label label,
            std::span<std::uint8_t> out) noexcept {
    const EVP_CIPHER* cipher = master_key.size() == 16   ? EVP_aes_128_ctr()
                               : master_key.size() == 32 ? EVP_aes_256_ctr()
                                                         : nullptr;
    if (cipher == nullptr || (master_salt.size() != 12 && master_salt.size() != 14) || out.size() > 0x100000)
        return false;
    // x = (label || r = 0) xor salt, 112 bits; a 96-bit salt is padded on its right (RFC 7714 11). IV = x << 16.
    std::uint8_t iv[16] = {};
    std::copy(master_salt.begin(), master_salt.end(), iv);
    iv[7] = static_cast<std::uint8_t>(iv[7] ^ static_cast<std::uint8_t>(label));

    const std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(EVP_CIPHER_CTX_new(),
                                                                                  EVP_CIPHER_CTX_free);
    int written = 0;
    std::fill(out.begin(), out.end(), std::uint8_t{0});
    const bool ok =
        context && EVP_EncryptInit_ex(context.get(), cipher, nullptr, master_key.data(), iv) == 1 &&
        EVP_EncryptUpdate(context.get(), out.data(), &written, out.data(), static_cast<int>(out.size())) == 1;
    wipe(iv, sizeof iv);
    return ok && static_cast<std::size_t>(written) == out.size();
}

bool derive_session_keys(api::suite suite, std::span<const std::uint8_t> master_key,
                         std::span<const std::uint8_t> master_salt, session_keys& out) noexcept {
    out = {};
    const auto& row = api::info(suite);
    if (suite == api::suite::clear || master_key.size() != row.key_length || master_salt.size() != row.salt_length)
        return false;
    bool ok = true;
    const auto one = [&](media::label label, std::uint8_t* to, std::size_t length) {
        ok = ok && (length == 0 || derive(master_key, master_salt, label, {to, length}));
    };
    one(media::label::rtp_encryption, out.rtp.key, row.key_length);
    one(media::label::rtp_authentication, out.rtp.auth, row.auth_key_length);
    one(media::label::rtp_salting, out.rtp.salt, row.salt_length);
    one(media::label::rtcp_encryption, out.rtcp.key, row.key_length);
    one(media::label::rtcp_authentication, out.rtcp.auth, row.auth_key_length);
    one(media::label::rtcp_salting, out.rtcp.salt, row.salt_length);
    if (!ok)
        wipe(&out, sizeof out);
    return ok;
}

} // namespace tandem::crypto
