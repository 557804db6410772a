// SPDX-License-Identifier: Apache-2.0
// SRTP by another implementation (libsrtp2), as the tests' judge. See testbed_test.hpp.
#include <cstring>
#include <stdexcept>

#include <srtp2/srtp.h>

#include "dataplane/pipeline/testbed_test.hpp"

namespace tandem::pipeline::testing {

struct srtp_end::state {
    srtp_policy_t policy{};
    srtp_t session = nullptr;
    // libsrtp2 2.5 looks for SRTCP's MKI in front of a tag of SRTP's length, so with the _32 suites (4 and 10
    // bytes) it never finds it. For these packets the MKI is taken out here and a session without MKI judges the rest.
    srtp_t rtcp_without_mki = nullptr;
    unsigned mki_length = 0;
    std::vector<bytes> keys, mkis;
    std::vector<srtp_master_key_t> masters;
    std::vector<srtp_master_key_t*> list;
    std::map<std::uint32_t, unsigned> place;
    bool mki = false;
};

namespace {
bool tag_differs(api::suite suite) {
    return api::info(suite).rtp_tag_length != api::info(suite).rtcp_tag_length;
}
} // namespace

srtp_end::srtp_end(api::suite suite, const std::vector<key>& keys, unsigned mki_length, bool inbound)
    : state_(std::make_unique<state>()) {
    state& s = *state_;
    using set = void (*)(srtp_crypto_policy_t*);
    constexpr set rtp_policy[] = {nullptr,
                                  srtp_crypto_policy_set_rtp_default,
                                  srtp_crypto_policy_set_aes_cm_128_hmac_sha1_32,
                                  srtp_crypto_policy_set_aes_gcm_128_16_auth,
                                  srtp_crypto_policy_set_aes_gcm_256_16_auth,
                                  srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80,
                                  srtp_crypto_policy_set_aes_cm_256_hmac_sha1_32};
    constexpr set rtcp_policy[] = {nullptr,
                                   srtp_crypto_policy_set_rtp_default,
                                   srtp_crypto_policy_set_rtcp_default,
                                   srtp_crypto_policy_set_aes_gcm_128_16_auth,
                                   srtp_crypto_policy_set_aes_gcm_256_16_auth,
                                   srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80,
                                   srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80};
    rtp_policy[static_cast<std::size_t>(suite)](&s.policy.rtp);
    rtcp_policy[static_cast<std::size_t>(suite)](&s.policy.rtcp);
    s.policy.ssrc.type = inbound ? ssrc_any_inbound : ssrc_any_outbound;
    s.policy.window_size = 1024;
    s.masters.resize(keys.size());
    s.mki = mki_length != 0;
    for (std::size_t i = 0; i < keys.size(); ++i) {
        bytes padded = keys[i].master;
        padded.resize(64);
        s.keys.push_back(padded);
        bytes mki;
        for (unsigned b = 0; b < mki_length; ++b)
            mki.push_back(static_cast<std::uint8_t>(keys[i].epoch >> 8 * (mki_length - 1 - b)));
        s.mkis.push_back(mki);
        s.place[keys[i].epoch] = static_cast<unsigned>(i);
    }
    for (std::size_t i = 0; i < keys.size(); ++i) {
        s.masters[i] = {s.keys[i].data(), s.mkis[i].data(), mki_length};
        s.list.push_back(&s.masters[i]);
    }
    if (s.mki) {
        s.policy.keys = s.list.data();
        s.policy.num_master_keys = s.list.size();
    } else {
        s.policy.key = s.keys[0].data();
    }
    if (srtp_create(&s.session, &s.policy) != srtp_err_status_ok)
        throw std::runtime_error("srtp_create");
    s.mki_length = mki_length;
    if (s.mki && inbound && tag_differs(suite) && keys.size() == 1) {
        srtp_policy_t plain = s.policy;
        plain.keys = nullptr;
        plain.num_master_keys = 0;
        plain.key = s.keys[0].data();
        if (srtp_create(&s.rtcp_without_mki, &plain) != srtp_err_status_ok)
            throw std::runtime_error("srtp_create");
    }
}

srtp_end::~srtp_end() {
    srtp_dealloc(state_->session);
    if (state_->rtcp_without_mki != nullptr)
        srtp_dealloc(state_->rtcp_without_mki);
}

bytes srtp_end::protect(bytes packet, std::uint32_t epoch) {
    state& s = *state_;
    const bool is_rtcp = packet[1] >= 192 && packet[1] <= 223;
    int length = static_cast<int>(packet.size());
    packet.resize(packet.size() + SRTP_MAX_TRAILER_LEN + 8);
    const unsigned at = s.mki ? s.place.at(epoch) : 0;
    const auto status = is_rtcp ? srtp_protect_rtcp_mki(s.session, packet.data(), &length, s.mki, at)
                                : srtp_protect_mki(s.session, packet.data(), &length, s.mki, at);
    if (status != srtp_err_status_ok)
        throw std::runtime_error("srtp_protect " + std::to_string(status));
    packet.resize(static_cast<std::size_t>(length));
    return packet;
}

std::optional<bytes> srtp_end::unprotect(bytes packet) {
    state& s = *state_;
    const bool is_rtcp = packet[1] >= 192 && packet[1] <= 223;
    constexpr unsigned tag = 10;
    const bool cut = is_rtcp && s.rtcp_without_mki != nullptr && packet.size() > tag + s.mki_length;
    if (cut)
        packet.erase(packet.end() - tag - s.mki_length, packet.end() - tag);
    int length = static_cast<int>(packet.size());
    const auto status = cut       ? srtp_unprotect_rtcp(s.rtcp_without_mki, packet.data(), &length)
                        : is_rtcp ? srtp_unprotect_rtcp_mki(s.session, packet.data(), &length, s.mki)
                                  : srtp_unprotect_mki(s.session, packet.data(), &length, s.mki);
    if (status != srtp_err_status_ok)
        return std::nullopt;
    packet.resize(static_cast<std::size_t>(length));
    return packet;
}

bytes master_key(api::suite suite, std::uint8_t seed) {
    const auto& row = api::info(suite);
    bytes k;
    for (unsigned i = 0; i < row.key_length + row.salt_length; ++i)
        k.push_back(static_cast<std::uint8_t>(i * 11 + seed));
    return k;
}

api::epoch_key epoch_key(api::flow_id id, api::side side, std::uint32_t epoch, api::suite suite, std::uint8_t seed) {
    const auto& row = api::info(suite);
    const bytes master = master_key(suite, seed);
    api::epoch_key k{};
    k.id = id;
    k.side = side;
    k.epoch = k.mki = epoch;
    k.key_length = row.key_length;
    k.salt_length = row.salt_length;
    std::memcpy(k.key, master.data(), row.key_length);
    std::memcpy(k.salt, master.data() + row.key_length, row.salt_length);
    return k;
}

} // namespace tandem::pipeline::testing
