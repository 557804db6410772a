// SPDX-License-Identifier: Apache-2.0
// One libsrtp2 session for the benchmarks: both compare with the same one. Null where libsrtp2 refuses.
#pragma once

#include <cstring>

#include <srtp2/srtp.h>

#include "dataplane/api/contract.hpp"

namespace tandem::bench {

[[nodiscard]] inline srtp_t make_libsrtp(api::suite which, const api::epoch_key& key, bool sender) {
    srtp_policy_t policy{};
    srtp_crypto_policy_set_rtp_default(&policy.rtp);
    srtp_crypto_policy_set_rtcp_default(&policy.rtcp);
    if (which == api::suite::aes_cm_128_hmac_sha1_32)
        srtp_crypto_policy_set_aes_cm_128_hmac_sha1_32(&policy.rtp);
    if (which == api::suite::aead_aes_128_gcm)
        srtp_crypto_policy_set_aes_gcm_128_16_auth(&policy.rtp);
    if (which == api::suite::aead_aes_256_gcm)
        srtp_crypto_policy_set_aes_gcm_256_16_auth(&policy.rtp);
    if (api::info(which).aead)
        policy.rtcp = policy.rtp;
    unsigned char joined[sizeof key.key + sizeof key.salt];
    std::memcpy(joined, key.key, key.key_length);
    std::memcpy(joined + key.key_length, key.salt, key.salt_length);
    policy.key = joined;
    policy.ssrc.type = sender ? ssrc_any_outbound : ssrc_any_inbound;
    policy.window_size = 128;
    srtp_t made = nullptr;
    return srtp_create(&made, &policy) == srtp_err_status_ok ? made : nullptr;
}

} // namespace tandem::bench
