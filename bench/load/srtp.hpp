// SPDX-License-Identifier: Apache-2.0
// SRTP of the load's own, on OpenSSL: another implementation than the data plane's, and much faster than Debian's
// libsrtp2 (which makes a context a packet). check_engine() compares the two at every start. RFC 3711, 6188, 7714; no
// MKI. Owner: the load's one thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <openssl/evp.h>

#include "bench/load/options.hpp"

namespace tandem::load {

template <auto f>
struct freed_by {
    template <class T>
    void operator()(T* p) const noexcept {
        f(p);
    }
};

inline constexpr std::size_t max_tag = 16;

// Bytes of an RTP header with its CSRCs and extension; 0 where that is no RTP.
[[nodiscard]] std::size_t rtp_header(const std::uint8_t* packet, std::size_t length) noexcept;

class srtp_session {
public:
    srtp_session(srtp_suite suite, const secret& master);

    [[nodiscard]] std::size_t tag() const noexcept { return tag_; }
    // In place; `packet` has room for tag() more. Returns the new length. index = ROC << 16 | sequence.
    std::size_t protect(std::uint8_t* packet, std::size_t length, std::uint64_t index);
    // In place; false: the tag is wrong or the packet too short. `length` becomes that of the RTP packet.
    bool unprotect(std::uint8_t* packet, std::size_t& length, std::uint64_t index);

private:
    void crypt_cm(std::uint8_t* packet, std::size_t header, std::size_t length, std::uint64_t index);
    void authenticate(const std::uint8_t* packet, std::size_t length, std::uint64_t index, std::uint8_t* mac);
    void start_gcm(const std::uint8_t* packet, std::size_t header, std::uint64_t index, int encrypt);
    void derive(const secret& master, std::size_t key_length);

    srtp_suite suite_;
    bool gcm_;
    std::size_t tag_;
    std::array<std::uint8_t, 14> salt_{};
    std::unique_ptr<EVP_CIPHER_CTX, freed_by<EVP_CIPHER_CTX_free>> cipher_;
    using digest = std::unique_ptr<EVP_MD_CTX, freed_by<EVP_MD_CTX_free>>;
    digest inner_, outer_, work_; // HMAC's two states after their pads
};

// Throws `failure` where this and libsrtp2 do not understand each other.
void check_engine(srtp_suite suite);

} // namespace tandem::load
