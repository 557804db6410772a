// SPDX-License-Identifier: Apache-2.0
// See contenders.hpp. Each engine is the shortest use of its library that an honest caller would write: EVP re-uses one
// context per session and sets only the IV; libsrtp2 gets whole packets.
#include "bench/path/contenders.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <srtp2/srtp.h>
#include <string>
#include <vector>

#include "bench/libsrtp.hpp"
#include "dataplane/crypto/iv.hpp"
#include "dataplane/crypto/trailer.hpp"
#include "dataplane/rtp/index.hpp"

namespace tandem::bench {

using api::suite;
using crypto::op;

void require(bool condition, const char* what) {
    if (condition)
        return;
    std::fprintf(stderr, "path_bench: %s failed: figures would be wrong, so there are none\n", what);
    std::exit(1);
}

namespace {

// What must happen to lengths, and nothing else.
class no_crypto final : public crypto::engine {
public:
    [[nodiscard]] std::string_view name() const noexcept override { return "none"; }
    [[nodiscard]] std::uint32_t fingerprint() const noexcept override { return 0; }
    [[nodiscard]] bool build(suite, const crypto::session_keys&, crypto::key_object&) noexcept override {
        return false;
    }
    void restore(op&) noexcept override {}
    void protect(std::span<op> ops) noexcept override {
        for (op& item : ops)
            if (crypto::is_work(item))
                item.length +=
                    static_cast<std::uint32_t>(rtp::trailer_length(item.key->suite, item.rtcp, item.mki_length));
    }
    void unprotect(std::span<op> ops) noexcept override {
        for (op& item : ops)
            if (crypto::is_work(item))
                item.length = crypto::body_length(item);
    }
};

// --- OpenSSL EVP: a context per session, its key set once
// -------------------------------------------------------------

class evp_session {
public:
    evp_session(suite which, const crypto::raw_keys& keys, bool encrypt)
        : aead_(api::info(which).aead), tag_(api::info(which).rtp_tag_length) {
        std::memcpy(salt_, keys.salt, sizeof keys.salt);
        static EVP_CIPHER* const gcm256 = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
        static EVP_CIPHER* const gcm128 = EVP_CIPHER_fetch(nullptr, "AES-128-GCM", nullptr);
        static EVP_CIPHER* const ctr128 = EVP_CIPHER_fetch(nullptr, "AES-128-CTR", nullptr);
        const EVP_CIPHER* cipher = which == suite::aead_aes_256_gcm ? gcm256 : aead_ ? gcm128 : ctr128;
        require(EVP_CipherInit_ex2(cipher_, cipher, keys.key, nullptr, encrypt || !aead_ ? 1 : 0, nullptr) == 1,
                "an EVP key");
        if (aead_)
            return;
        static EVP_MAC* const hmac = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
        mac_ = EVP_MAC_CTX_new(hmac);
        char digest[] = "SHA1";
        const OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                                         OSSL_PARAM_construct_end()};
        require(EVP_MAC_init(mac_, keys.auth, sizeof keys.auth, parameters) == 1, "an EVP MAC key");
    }
    evp_session(const evp_session&) = delete;
    evp_session& operator=(const evp_session&) = delete;
    ~evp_session() {
        EVP_CIPHER_CTX_free(cipher_);
        EVP_MAC_CTX_free(mac_);
    }

    void protect(op& item) {
        const int header = item.header, length = static_cast<int>(item.length) - header;
        std::uint8_t* payload = item.packet + header;
        std::uint8_t* end = item.packet + item.length;
        std::uint8_t iv[16];
        int written = 0;
        if (aead_) {
            crypto::make_aead_iv(salt_, item.ssrc, item.index, iv);
            EVP_EncryptInit_ex2(cipher_, nullptr, nullptr, iv, nullptr);
            EVP_EncryptUpdate(cipher_, nullptr, &written, item.packet, header);
            EVP_EncryptUpdate(cipher_, payload, &written, payload, length);
            EVP_EncryptFinal_ex(cipher_, end, &written);
            EVP_CIPHER_CTX_ctrl(cipher_, EVP_CTRL_AEAD_GET_TAG, tag_, end);
        } else {
            crypto::make_cm_iv(salt_, item.ssrc, item.index, iv);
            EVP_EncryptInit_ex2(cipher_, nullptr, nullptr, iv, nullptr);
            EVP_EncryptUpdate(cipher_, payload, &written, payload, length);
            std::uint8_t tag[20];
            hmac(item, item.length, tag);
            std::memcpy(end, tag, static_cast<std::size_t>(tag_));
        }
        item.length += static_cast<std::uint32_t>(tag_);
    }

    [[nodiscard]] bool unprotect(op& item) {
        const std::uint32_t body = item.length - static_cast<std::uint32_t>(tag_);
        const int header = item.header, length = static_cast<int>(body) - header;
        std::uint8_t* payload = item.packet + header;
        std::uint8_t* received = item.packet + body;
        std::uint8_t iv[16];
        int written = 0;
        item.length = body;
        if (aead_) {
            crypto::make_aead_iv(salt_, item.ssrc, item.index, iv);
            EVP_DecryptInit_ex2(cipher_, nullptr, nullptr, iv, nullptr);
            EVP_CIPHER_CTX_ctrl(cipher_, EVP_CTRL_AEAD_SET_TAG, tag_, received);
            EVP_DecryptUpdate(cipher_, nullptr, &written, item.packet, header);
            EVP_DecryptUpdate(cipher_, payload, &written, payload, length);
            return EVP_DecryptFinal_ex(cipher_, received, &written) == 1;
        }
        std::uint8_t tag[20];
        hmac(item, body, tag);
        if (!crypto::equal_constant_time(tag, received, static_cast<std::size_t>(tag_)))
            return false;
        crypto::make_cm_iv(salt_, item.ssrc, item.index, iv);
        EVP_EncryptInit_ex2(cipher_, nullptr, nullptr, iv, nullptr);
        EVP_EncryptUpdate(cipher_, payload, &written, payload, length);
        return true;
    }

private:
    void hmac(const op& item, std::size_t length, std::uint8_t (&tag)[20]) {
        std::uint8_t roc[4];
        rtp::store32(roc, rtp::roc_of(item.index));
        std::size_t size = 0;
        EVP_MAC_init(mac_, nullptr, 0, nullptr);
        EVP_MAC_update(mac_, item.packet, length);
        EVP_MAC_update(mac_, roc, sizeof roc);
        EVP_MAC_final(mac_, tag, &size, sizeof tag);
    }

    bool aead_;
    int tag_;
    std::uint8_t salt_[16] = {};
    EVP_CIPHER_CTX* cipher_ = EVP_CIPHER_CTX_new();
    EVP_MAC_CTX* mac_ = nullptr;
};

class evp final : public session_engine {
public:
    using session_engine::session_engine;
    [[nodiscard]] std::string_view name() const noexcept override { return "evp"; }
    void add_session(std::uint32_t index, const api::epoch_key&, suite which, const crypto::raw_keys& keys,
                     bool sender) override {
        if (sessions_.size() <= index)
            sessions_.resize(index + 1);
        sessions_[index] = std::make_unique<evp_session>(which, keys, sender);
    }
    void protect(std::span<op> ops) noexcept override {
        for (op& item : ops)
            if (crypto::is_work(item))
                sessions_[index_(item.key)]->protect(item);
    }
    void unprotect(std::span<op> ops) noexcept override {
        for (op& item : ops)
            if (crypto::is_work(item) && !sessions_[index_(item.key)]->unprotect(item))
                item.result = api::drop::srtp_auth;
    }

private:
    std::vector<std::unique_ptr<evp_session>> sessions_;
};

// --- libsrtp2
// ---------------------------------------------------------------------------------------------------------

class libsrtp final : public session_engine {
public:
    explicit libsrtp(index_of_key index) : session_engine(std::move(index)) {
        static const bool started = srtp_init() == srtp_err_status_ok;
        require(started, "srtp_init");
    }
    ~libsrtp() override {
        for (srtp_t one : sessions_)
            if (one != nullptr)
                srtp_dealloc(one);
    }
    [[nodiscard]] std::string_view name() const noexcept override { return "libsrtp2"; }
    void add_session(std::uint32_t index, const api::epoch_key& master, suite which, const crypto::raw_keys&,
                     bool sender) override {
        if (sessions_.size() <= index)
            sessions_.resize(index + 1);
        sessions_[index] = make_libsrtp(which, master, sender);
        require(sessions_[index] != nullptr, "srtp_create");
    }
    void protect(std::span<op> ops) noexcept override { each(ops, srtp_protect); }
    void unprotect(std::span<op> ops) noexcept override { each(ops, srtp_unprotect); }

private:
    void each(std::span<op> ops, srtp_err_status_t (*what)(srtp_t, void*, int*)) noexcept {
        for (op& item : ops) {
            if (!crypto::is_work(item))
                continue;
            int length = static_cast<int>(item.length);
            if (what(sessions_[index_(item.key)], item.packet, &length) != srtp_err_status_ok)
                item.result = api::drop::srtp_auth;
            item.length = static_cast<std::uint32_t>(length);
        }
    }

    std::vector<srtp_t> sessions_;
};

} // namespace

std::unique_ptr<crypto::engine> make_no_crypto() {
    return std::make_unique<no_crypto>();
}

std::unique_ptr<session_engine> make_evp(index_of_key index) {
    return std::make_unique<evp>(std::move(index));
}

std::unique_ptr<session_engine> make_libsrtp(index_of_key index) {
    return std::make_unique<libsrtp>(std::move(index));
}

const char* libsrtp_backend() {
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);)
        if (line.find("libnss3") != std::string::npos)
            return "libsrtp2 with its NSS back end (a context per packet): flatters whoever is beside it";
    return "libsrtp2 with OpenSSL or its own cryptography";
}

} // namespace tandem::bench
