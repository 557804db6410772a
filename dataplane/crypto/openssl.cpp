// SPDX-License-Identifier: Apache-2.0
// The reference engine (openssl.hpp). Works from the raw session keys; key_object::expanded is not used.
#include "dataplane/crypto/openssl.hpp"

#include <cstdlib>
#include <cstring>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <vector>

#include "dataplane/crypto/iv.hpp"
#include "dataplane/crypto/trailer.hpp"

namespace tandem::crypto {

namespace {

using cipher_context = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;

class openssl final : public engine {
public:
    explicit openssl(iv_observer* observer) : observer_(observer), scratch_(65536) {}
    ~openssl() override { wipe(scratch_.data(), scratch_.size()); }

    [[nodiscard]] std::string_view name() const noexcept override { return "openssl"; }
    [[nodiscard]] std::uint32_t fingerprint() const noexcept override { return 0x4f53534c; }

    [[nodiscard]] bool build(api::suite suite, const session_keys& keys, key_object& out) noexcept override {
        if (suite == api::suite::clear)
            return false;
        begin_key(out, suite, fingerprint(), keys);
        return true;
    }

    void protect(std::span<op> ops) noexcept override {
        for (op& item : ops)
            if (is_work(item))
                is_aead(*item.key) ? protect_gcm(item) : protect_cm(item);
    }

    void unprotect(std::span<op> ops) noexcept override {
        for (op& item : ops)
            if (is_work(item) && !(is_aead(*item.key) ? unprotect_gcm(item) : unprotect_cm(item)))
                item.result = api::drop::srtp_auth;
    }

    void restore(op&) noexcept override {} // plaintext is written only after the tag was verified

private:
    [[nodiscard]] static const raw_keys& raw_of(const op& item) noexcept {
        return item.rtcp ? item.key->cold().raw.rtcp : item.key->cold().raw.rtp;
    }

    void observe(const op& item, std::span<const std::uint8_t> iv) {
        if (observer_ != nullptr)
            observer_->encrypting({raw_of(item).key, api::info(item.key->suite).key_length}, iv);
    }

    // in -> out, with a tag made (encrypt) or verified.
    [[nodiscard]] bool gcm(const op& item, std::uint32_t body, bool encrypt, const std::uint8_t* in, std::uint8_t* out,
                           std::uint8_t* tag) {
        std::uint8_t iv[12];
        std::uint8_t scratch[rtcp_aad_length];
        make_aead_iv(raw_of(item).salt, item.ssrc, item.index, iv);
        if (encrypt)
            observe(item, iv);
        const aad extra = make_aad(item, scratch);
        const cipher_context context(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
        const auto* cipher = item.key->suite == api::suite::aead_aes_256_gcm ? EVP_aes_256_gcm() : EVP_aes_128_gcm();
        int written = 0;
        const int length = static_cast<int>(body - item.header);
        std::uint8_t none = 0;
        return context &&
               EVP_CipherInit_ex(context.get(), cipher, nullptr, raw_of(item).key, iv, encrypt ? 1 : 0) == 1 &&
               (encrypt || EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_TAG, rtp::max_tag_length, tag) == 1) &&
               EVP_CipherUpdate(context.get(), nullptr, &written, extra.data, static_cast<int>(extra.length)) == 1 &&
               (length == 0 || EVP_CipherUpdate(context.get(), out, &written, in, length) == 1) &&
               EVP_CipherFinal_ex(context.get(), &none, &written) == 1 &&
               (!encrypt || EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, rtp::max_tag_length, tag) == 1);
    }

    void protect_gcm(op& item) {
        std::uint8_t* payload = item.packet + item.header;
        if (!gcm(item, item.length, true, payload, payload, item.packet + item.length))
            std::abort(); // a reference that cannot encrypt must not let a packet go
        item.length = finish_aead(item, item.length);
    }

    [[nodiscard]] bool unprotect_gcm(op& item) {
        const std::uint32_t body = body_length(item);
        std::uint8_t* payload = item.packet + item.header;
        if (!gcm(item, body, false, payload, scratch_.data(), item.packet + body))
            return false;
        std::memcpy(payload, scratch_.data(), body - item.header);
        item.length = body;
        return true;
    }

    // Over the body and the word behind it (ROC, or SRTCP's index word).
    void hmac(const op& item, std::uint32_t body, std::uint8_t (&tag)[20]) {
        std::memcpy(scratch_.data(), item.packet, body);
        rtp::store32(scratch_.data() + body, item.rtcp ? rtcp_word(item) : rtp::roc_of(item.index));
        unsigned length = 0;
        HMAC(EVP_sha1(), raw_of(item).auth, sizeof raw_of(item).auth, scratch_.data(), body + 4, tag, &length);
    }

    void cipher_cm(const op& item, std::uint32_t body) {
        std::uint8_t iv[16];
        std::uint8_t salt[16] = {};
        std::memcpy(salt, raw_of(item).salt, sizeof raw_of(item).salt);
        make_cm_iv(salt, item.ssrc, item.index, iv);
        std::uint8_t* payload = item.packet + item.header;
        const cipher_context context(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
        int written = 0;
        const auto* cipher = api::info(item.key->suite).key_length == 32 ? EVP_aes_256_ctr() : EVP_aes_128_ctr();
        if (!context || EVP_EncryptInit_ex(context.get(), cipher, nullptr, raw_of(item).key, iv) != 1 ||
            EVP_EncryptUpdate(context.get(), payload, &written, payload, static_cast<int>(body - item.header)) != 1)
            std::abort();
    }

    void protect_cm(op& item) {
        std::uint8_t iv[16];
        std::uint8_t salt[16] = {};
        std::memcpy(salt, raw_of(item).salt, sizeof raw_of(item).salt);
        make_cm_iv(salt, item.ssrc, item.index, iv);
        observe(item, iv);
        cipher_cm(item, item.length);
        std::uint8_t tag[20];
        hmac(item, item.length, tag);
        std::uint8_t* at = item.packet + item.length;
        if (item.rtcp) {
            rtp::store32(at, rtcp_word(item));
            at += rtp::srtcp_index_length;
        }
        write_mki(at, item.mki, item.mki_length);
        at += item.mki_length;
        const std::size_t length = rtp::tag_length(item.key->suite, item.rtcp);
        std::memcpy(at, tag, length);
        item.length = static_cast<std::uint32_t>(at + length - item.packet);
    }

    [[nodiscard]] bool unprotect_cm(op& item) {
        const std::uint32_t body = body_length(item);
        std::uint8_t tag[20];
        hmac(item, body, tag);
        const std::size_t length = rtp::tag_length(item.key->suite, item.rtcp);
        if (!equal_constant_time(tag, item.packet + item.length - length, length))
            return false;
        cipher_cm(item, body);
        item.length = body;
        return true;
    }

    iv_observer* observer_;
    std::vector<std::uint8_t> scratch_;
};

} // namespace

bool probe_openssl() noexcept {
    return true;
}

std::unique_ptr<engine> make_openssl(iv_observer* observer) {
    return std::make_unique<openssl>(observer);
}

} // namespace tandem::crypto
