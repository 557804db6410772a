// SPDX-License-Identifier: Apache-2.0
// See srtp.hpp.
#include "bench/load/srtp.hpp"

#include <algorithm>
#include <cstring>

#include <openssl/crypto.h>
#include <openssl/sha.h>

namespace tandem::load {

namespace {

void must(int result) {
    if (result != 1)
        throw failure("OpenSSL refuses a call that it should not refuse");
}

std::uint32_t roc_of(std::uint64_t index) noexcept {
    return static_cast<std::uint32_t>(index >> 16);
}

void xor_bytes(std::uint8_t* to, std::uint64_t value, unsigned bytes) noexcept {
    for (unsigned i = 0; i < bytes; ++i)
        to[i] = static_cast<std::uint8_t>(to[i] ^ (value >> (8 * (bytes - 1 - i))));
}

// RFC 3711 4.3.1 and 4.3.3: the key stream under the master key from label and master salt.
void derive_key(const secret& master, std::size_t key_length, std::uint8_t label, std::uint8_t* to, std::size_t bytes) {
    std::array<std::uint8_t, 16> iv{};
    std::copy(master.begin() + static_cast<std::ptrdiff_t>(key_length), master.end(), iv.begin());
    iv[7] ^= label;
    std::unique_ptr<EVP_CIPHER_CTX, freed_by<EVP_CIPHER_CTX_free>> ctr(EVP_CIPHER_CTX_new());
    must(EVP_EncryptInit_ex(ctr.get(), key_length == 32 ? EVP_aes_256_ctr() : EVP_aes_128_ctr(), nullptr, master.data(),
                            iv.data()));
    std::memset(to, 0, bytes);
    int made = 0;
    must(EVP_EncryptUpdate(ctr.get(), to, &made, to, static_cast<int>(bytes)));
}

} // namespace

std::size_t rtp_header(const std::uint8_t* p, std::size_t length) noexcept {
    if (length < 12 || p[0] >> 6 != 2)
        return 0;
    std::size_t header = 12u + 4u * (p[0] & 15u);
    if ((p[0] & 16) != 0 && length >= header + 4)
        header += 4u + 4u * (static_cast<std::size_t>(p[header + 2]) << 8 | p[header + 3]);
    return length < header ? 0 : header;
}

srtp_session::srtp_session(srtp_suite suite, const secret& master)
    : suite_(suite), gcm_(suite == srtp_suite::gcm_128 || suite == srtp_suite::gcm_256),
      tag_(gcm_                                                           ? 16
           : suite == srtp_suite::cm_32 || suite == srtp_suite::cm_256_32 ? 4
                                                                          : 10),
      cipher_(EVP_CIPHER_CTX_new()) {
    derive(master, master.size() - (gcm_ ? 12 : 14));
}

void srtp_session::derive(const secret& master, std::size_t key_length) {
    std::array<std::uint8_t, 32> key{};
    derive_key(master, key_length, 0, key.data(), key_length);
    derive_key(master, key_length, 2, salt_.data(), gcm_ ? 12 : 14);
    const EVP_CIPHER* kind = key_length == 32 ? gcm_ ? EVP_aes_256_gcm() : EVP_aes_256_ctr()
                             : gcm_ ? EVP_aes_128_gcm()
                                              : EVP_aes_128_ctr();
    must(EVP_CipherInit_ex(cipher_.get(), kind, nullptr, key.data(), nullptr, 1));
    OPENSSL_cleanse(key.data(), key.size());
    if (gcm_)
        return;
    std::array<std::uint8_t, SHA_CBLOCK> pad{};
    derive_key(master, key_length, 1, pad.data(), 20);
    for (digest* state : {&inner_, &outer_}) {
        const int flip = state == &inner_ ? 0x36 : 0x36 ^ 0x5c; // the second undoes the first
        for (auto& b : pad)
            b = static_cast<std::uint8_t>(b ^ flip);
        state->reset(EVP_MD_CTX_new());
        must(EVP_DigestInit_ex(state->get(), EVP_sha1(), nullptr));
        must(EVP_DigestUpdate(state->get(), pad.data(), pad.size()));
    }
    OPENSSL_cleanse(pad.data(), pad.size());
    work_.reset(EVP_MD_CTX_new());
}

void srtp_session::crypt_cm(std::uint8_t* packet, std::size_t header, std::size_t length, std::uint64_t index) {
    std::array<std::uint8_t, 16> iv{};
    std::copy(salt_.begin(), salt_.end(), iv.begin());
    for (unsigned i = 0; i < 4; ++i)
        iv[4 + i] ^= packet[8 + i];
    xor_bytes(iv.data() + 8, index, 6);
    must(EVP_CipherInit_ex(cipher_.get(), nullptr, nullptr, nullptr, iv.data(), 1));
    int made = 0;
    must(EVP_CipherUpdate(cipher_.get(), packet + header, &made, packet + header, static_cast<int>(length - header)));
}

void srtp_session::authenticate(const std::uint8_t* packet, std::size_t length, std::uint64_t index,
                                std::uint8_t* mac) {
    std::array<std::uint8_t, 4> roc{};
    xor_bytes(roc.data(), roc_of(index), 4);
    must(EVP_MD_CTX_copy_ex(work_.get(), inner_.get()));
    must(EVP_DigestUpdate(work_.get(), packet, length));
    must(EVP_DigestUpdate(work_.get(), roc.data(), roc.size()));
    must(EVP_DigestFinal_ex(work_.get(), mac, nullptr));
    must(EVP_MD_CTX_copy_ex(work_.get(), outer_.get()));
    must(EVP_DigestUpdate(work_.get(), mac, SHA_DIGEST_LENGTH));
    must(EVP_DigestFinal_ex(work_.get(), mac, nullptr));
}

void srtp_session::start_gcm(const std::uint8_t* packet, std::size_t header, std::uint64_t index, int encrypt) {
    std::array<std::uint8_t, 12> iv{};
    std::copy(packet + 8, packet + 12, iv.begin() + 2);
    xor_bytes(iv.data() + 6, index, 6);
    for (std::size_t i = 0; i < iv.size(); ++i)
        iv[i] ^= salt_[i];
    must(EVP_CipherInit_ex(cipher_.get(), nullptr, nullptr, nullptr, iv.data(), encrypt));
    int made = 0;
    must(EVP_CipherUpdate(cipher_.get(), nullptr, &made, packet, static_cast<int>(header)));
}

std::size_t srtp_session::protect(std::uint8_t* packet, std::size_t length, std::uint64_t index) {
    const std::size_t header = rtp_header(packet, length);
    if (gcm_) {
        start_gcm(packet, header, index, 1);
        int made = 0;
        must(EVP_CipherUpdate(cipher_.get(), packet + header, &made, packet + header,
                              static_cast<int>(length - header)));
        must(EVP_CipherFinal_ex(cipher_.get(), packet + length, &made));
        must(EVP_CIPHER_CTX_ctrl(cipher_.get(), EVP_CTRL_AEAD_GET_TAG, 16, packet + length));
        return length + tag_;
    }
    crypt_cm(packet, header, length, index);
    std::array<std::uint8_t, SHA_DIGEST_LENGTH> mac{};
    authenticate(packet, length, index, mac.data());
    std::copy_n(mac.begin(), tag_, packet + length);
    return length + tag_;
}

bool srtp_session::unprotect(std::uint8_t* packet, std::size_t& length, std::uint64_t index) {
    if (length < 12 + tag_)
        return false;
    const std::size_t end = length - tag_, header = rtp_header(packet, end);
    if (header == 0)
        return false;
    if (gcm_) {
        start_gcm(packet, header, index, 0);
        int made = 0;
        must(EVP_CipherUpdate(cipher_.get(), packet + header, &made, packet + header, static_cast<int>(end - header)));
        must(EVP_CIPHER_CTX_ctrl(cipher_.get(), EVP_CTRL_AEAD_SET_TAG, 16, packet + end));
        if (EVP_CipherFinal_ex(cipher_.get(), packet + end, &made) != 1)
            return false;
    } else {
        std::array<std::uint8_t, SHA_DIGEST_LENGTH> mac{};
        authenticate(packet, end, index, mac.data());
        if (CRYPTO_memcmp(mac.data(), packet + end, tag_) != 0)
            return false;
        crypt_cm(packet, header, end, index);
    }
    length = end;
    return true;
}

} // namespace tandem::load
