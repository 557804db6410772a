// SPDX-License-Identifier: Apache-2.0
// libsrtp2 behind srtp.hpp.
#include "tests/tools/oracle/srtp.hpp"

#include <stdexcept>

#include <fmt/format.h>
#include <srtp2/srtp.h>

namespace tandem::oracle {

namespace {

constexpr std::size_t mki_length = 4;

std::size_t tag_length(api::suite suite, bool rtcp) noexcept {
    return rtcp ? api::info(suite).rtcp_tag_length : api::info(suite).rtp_tag_length;
}

// Bytes that stand behind the MKI.
std::size_t behind_mki(api::suite suite, bool rtcp) noexcept {
    return api::info(suite).aead ? 0 : tag_length(suite, rtcp);
}

void set_suite(srtp_policy_t& policy, api::suite suite) {
    switch (suite) {
    case api::suite::aes_cm_128_hmac_sha1_80:
        srtp_crypto_policy_set_rtp_default(&policy.rtp);
        srtp_crypto_policy_set_rtcp_default(&policy.rtcp);
        return;
    case api::suite::aes_cm_128_hmac_sha1_32:
        srtp_crypto_policy_set_aes_cm_128_hmac_sha1_32(&policy.rtp);
        srtp_crypto_policy_set_rtcp_default(&policy.rtcp); // SRTCP keeps 80 bits (RFC 4568 6.2.2)
        return;
    case api::suite::aead_aes_128_gcm:
        srtp_crypto_policy_set_aes_gcm_128_16_auth(&policy.rtp);
        srtp_crypto_policy_set_aes_gcm_128_16_auth(&policy.rtcp);
        return;
    case api::suite::aead_aes_256_gcm:
        srtp_crypto_policy_set_aes_gcm_256_16_auth(&policy.rtp);
        srtp_crypto_policy_set_aes_gcm_256_16_auth(&policy.rtcp);
        return;
    case api::suite::clear:
        break;
    }
    throw std::invalid_argument("no SRTP suite");
}

} // namespace

std::uint32_t get32(std::span<const std::uint8_t> from, std::size_t at) noexcept {
    return std::uint32_t{from[at]} << 24 | std::uint32_t{from[at + 1]} << 16 | std::uint32_t{from[at + 2]} << 8 |
           from[at + 3];
}
std::uint64_t get64(std::span<const std::uint8_t> from, std::size_t at) noexcept {
    return std::uint64_t{get32(from, at)} << 32 | get32(from, at + 4);
}
void put32(std::span<std::uint8_t> to, std::size_t at, std::uint32_t value) noexcept {
    for (std::size_t i = 0; i < 4; ++i)
        to[at + i] = static_cast<std::uint8_t>(value >> (24 - 8 * i));
}
void put64(std::span<std::uint8_t> to, std::size_t at, std::uint64_t value) noexcept {
    put32(to, at, static_cast<std::uint32_t>(value >> 32));
    put32(to, at + 4, static_cast<std::uint32_t>(value));
}

std::optional<packet_head> read_head(std::span<const std::uint8_t> packet) noexcept {
    if (packet.size() < 8 || packet[0] >> 6 != 2)
        return std::nullopt;
    packet_head head;
    head.rtcp = packet[1] >= 192 && packet[1] <= 223;
    if (!head.rtcp && packet.size() < 12)
        return std::nullopt;
    head.ssrc = get32(packet, head.rtcp ? 4 : 8);
    head.sequence = static_cast<std::uint16_t>(packet[2] << 8 | packet[3]);
    return head;
}

std::optional<std::uint32_t> take_mki(bytes& packet, api::suite suite, bool rtcp) {
    const auto behind = behind_mki(suite, rtcp);
    if (packet.size() < 8 + behind + mki_length)
        return std::nullopt;
    const auto at = packet.size() - behind - mki_length;
    const auto mki = get32(packet, at);
    packet.erase(packet.begin() + static_cast<std::ptrdiff_t>(at),
                 packet.begin() + static_cast<std::ptrdiff_t>(at + mki_length));
    return mki;
}

void put_mki(bytes& packet, api::suite suite, bool rtcp, std::uint32_t mki) {
    const auto at = packet.size() - behind_mki(suite, rtcp);
    packet.insert(packet.begin() + static_cast<std::ptrdiff_t>(at), mki_length, 0);
    put32(packet, at, mki);
}

std::uint32_t srtcp_index(std::span<const std::uint8_t> packet, api::suite suite) noexcept {
    const auto behind = behind_mki(suite, true) + 4;
    return packet.size() < behind ? 0 : get32(packet, packet.size() - behind) & 0x7fffffff;
}

void check_key(const srtp_key& key) {
    const auto& row = api::info(key.suite);
    const auto length = std::size_t{row.key_length} + row.salt_length;
    if (length == 0 || key.material.size() != length)
        throw std::invalid_argument(
            fmt::format("a key of {} bytes is none of {}, which has {}", key.material.size(), row.name, length));
}

void srtp_stream::closer::operator()(srtp_ctx_t_* session) const noexcept {
    srtp_dealloc(session);
}

srtp_stream::srtp_stream(const srtp_key& key, std::uint32_t ssrc, std::uint32_t roc) {
    static const bool ready = srtp_init() == srtp_err_status_ok;
    if (!ready)
        throw std::runtime_error("srtp_init failed");
    check_key(key);
    auto material = key.material; // libsrtp2 has no const here
    srtp_policy_t policy{};
    set_suite(policy, key.suite);
    policy.ssrc = {ssrc_specific, ssrc};
    policy.key = reinterpret_cast<unsigned char*>(material.data());
    policy.window_size = 1024;
    srtp_t session = nullptr;
    if (srtp_create(&session, &policy) != srtp_err_status_ok)
        throw std::runtime_error("srtp_create failed");
    session_.reset(session);
    if (roc != 0 && srtp_set_stream_roc(session, ssrc, roc) != srtp_err_status_ok)
        throw std::runtime_error("cannot set the rollover counter");
}

bool srtp_stream::protect(bytes& packet, bool rtcp) {
    int length = static_cast<int>(packet.size());
    packet.resize(packet.size() + SRTP_MAX_TRAILER_LEN + 8);
    const auto status = rtcp ? srtp_protect_rtcp(session_.get(), packet.data(), &length)
                             : srtp_protect(session_.get(), packet.data(), &length);
    packet.resize(static_cast<std::size_t>(length));
    return status == srtp_err_status_ok;
}

std::optional<bytes> srtp_stream::open(const bytes& packet, bool rtcp) {
    bytes plain = packet;
    int length = static_cast<int>(plain.size());
    const auto status = rtcp ? srtp_unprotect_rtcp(session_.get(), plain.data(), &length)
                             : srtp_unprotect(session_.get(), plain.data(), &length);
    if (status != srtp_err_status_ok)
        return std::nullopt;
    plain.resize(static_cast<std::size_t>(length));
    return plain;
}

} // namespace tandem::oracle
