// SPDX-License-Identifier: Apache-2.0
// The load's SRTP beside libsrtp2: each unprotects what the other protected, over a sequence number's wrap, and refuses
// a packet of which one bit was changed. Run at every start, so that a figure never rests on one implementation alone.
#include <cstring>
#include <memory>

#include <fmt/format.h>
#include <srtp2/srtp.h>

#include "bench/load/srtp.hpp"

namespace tandem::load {

namespace {

constexpr std::size_t payload = 77, clear_length = 12 + payload;
using buffer = std::array<std::uint8_t, clear_length + SRTP_MAX_TRAILER_LEN>;

void set_policy(srtp_suite suite, srtp_crypto_policy_t* p) {
    switch (suite) {
    case srtp_suite::cm_32:
        srtp_crypto_policy_set_aes_cm_128_hmac_sha1_32(p);
        break;
    case srtp_suite::gcm_128:
        srtp_crypto_policy_set_aes_gcm_128_16_auth(p);
        break;
    case srtp_suite::gcm_256:
        srtp_crypto_policy_set_aes_gcm_256_16_auth(p);
        break;
    case srtp_suite::cm_256_80:
        srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80(p);
        break;
    case srtp_suite::cm_256_32:
        srtp_crypto_policy_set_aes_cm_256_hmac_sha1_32(p);
        break;
    default:
        srtp_crypto_policy_set_aes_cm_128_hmac_sha1_80(p);
    }
}

struct library_session {
    library_session(srtp_suite suite, secret& key, srtp_ssrc_type_t direction) {
        srtp_policy_t policy{};
        set_policy(suite, &policy.rtp);
        set_policy(suite, &policy.rtcp);
        policy.ssrc.type = direction;
        policy.key = key.data();
        policy.window_size = 1024;
        if (const auto wrong = srtp_create(&session, &policy); wrong != srtp_err_status_ok)
            throw failure(fmt::format("libsrtp2 cannot do this suite (status {})", static_cast<int>(wrong)));
    }
    library_session(const library_session&) = delete;
    library_session& operator=(const library_session&) = delete;
    ~library_session() { srtp_dealloc(session); }
    srtp_t session = nullptr;
};

buffer packet_of(std::uint64_t index) {
    buffer b{};
    b[0] = 0x80;
    b[2] = static_cast<std::uint8_t>(index >> 8);
    b[3] = static_cast<std::uint8_t>(index);
    b[8] = 0xab;
    b[11] = 7;
    for (std::size_t i = 12; i < clear_length; ++i)
        b[i] = static_cast<std::uint8_t>(index + i);
    return b;
}

bool agree(srtp_session& ours, const library_session& sends, const library_session& receives, std::uint64_t index) {
    const buffer clear = packet_of(index);
    buffer a = clear, b = clear;
    std::size_t length = ours.protect(a.data(), clear_length, index);
    int library_length = clear_length;
    if (srtp_protect(sends.session, b.data(), &library_length) != srtp_err_status_ok ||
        length != static_cast<std::size_t>(library_length) || std::memcmp(a.data(), b.data(), length) != 0)
        return false;
    buffer broken = a;
    broken[20] ^= 1;
    if (std::size_t n = length; ours.unprotect(broken.data(), n, index))
        return false;
    if (srtp_unprotect(receives.session, a.data(), &library_length) != srtp_err_status_ok ||
        !ours.unprotect(b.data(), length, index))
        return false;
    return length == clear_length && std::memcmp(a.data(), clear.data(), clear_length) == 0 &&
           std::memcmp(b.data(), clear.data(), clear_length) == 0;
}

} // namespace

void check_engine(srtp_suite suite) {
    if (suite == srtp_suite::clear)
        return;
    static const bool started = srtp_init() == srtp_err_status_ok;
    if (!started)
        throw failure("libsrtp2 does not start");
    secret key(key_bytes(suite));
    for (std::size_t i = 0; i < key.size(); ++i)
        key[i] = static_cast<std::uint8_t>(i * 7 + 1);
    srtp_session ours(suite, key);
    library_session sends(suite, key, ssrc_any_outbound), receives(suite, key, ssrc_any_inbound);
    for (std::uint64_t index = 65534; index < 65538; ++index)
        if (!agree(ours, sends, receives, index))
            throw failure("this program's SRTP and libsrtp2 disagree: no figure of it would mean anything");
}

} // namespace tandem::load
