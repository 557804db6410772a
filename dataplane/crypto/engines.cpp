// SPDX-License-Identifier: Apache-2.0
// The engines that there are, their start-up self-test and the choice among them. Start-up only.
// Vectors: RFC 7714 16.1.1, 16.2.1, 17.1, 17.2; RFC 3711 B.2 (key stream); libsrtp test/srtp_driver.c srtp_validate
// (RFC 3711 B.3's master key; packet with tag).
#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <vector>

#include "dataplane/crypto/engine.hpp"
#include "dataplane/crypto/ipsecmb.hpp"
#include "dataplane/crypto/openssl.hpp"
#include "dataplane/rtp/index.hpp"
#include "dataplane/rtp/packet.hpp"

namespace tandem::crypto {

namespace {

using bytes = std::vector<std::uint8_t>;

constexpr std::array registry{
    engine_info{"ipsecmb", 100, probe_ipsecmb, make_ipsecmb},
    engine_info{"openssl", 10, probe_openssl, [] { return make_openssl(nullptr); }},
};

bytes from_hex(std::string_view text) {
    const auto nibble = [](char digit) { return digit <= '9' ? digit - '0' : digit - 'a' + 10; };
    bytes out;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2)
        out.push_back(static_cast<std::uint8_t>(nibble(text[i]) << 4 | nibble(text[i + 1])));
    return out;
}

struct vector {
    std::string_view name;
    api::suite suite;
    bool session; // keys are session keys; else master key and salt
    std::string_view key;
    std::string_view salt;
    std::uint64_t index;
    std::string_view plain;
    std::string_view sealed;
};

constexpr std::string_view gcm_key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
constexpr std::string_view gcm_salt = "517569642070726f2071756f";
constexpr std::string_view rtp_plain =
    "8040f17b8041f8d35501a0b247616c6c696120657374206f6d6e69732064697669736120696e207061727465732074726573";
constexpr std::string_view rtcp_plain =
    "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61deadbeefdeadbeefdeadbeefdeadbeefdeadbeef";

constexpr std::array vectors{
    vector{"RFC 7714 16.1.1", api::suite::aead_aes_128_gcm, true, gcm_key.substr(0, 32), gcm_salt, 0xf17b, rtp_plain,
           "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833"
           "899d7f27beb16a9152cf765ee4390cce"},
    vector{"RFC 7714 16.2.1", api::suite::aead_aes_256_gcm, true, gcm_key, gcm_salt, 0xf17b, rtp_plain,
           "8040f17b8041f8d35501a0b232b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b"
           "7aa3db36dfffd6b0f9bb7878d7a76c13"},
    vector{"RFC 7714 17.1", api::suite::aead_aes_128_gcm, true, gcm_key.substr(0, 32), gcm_salt, 0x5d4, rtcp_plain,
           "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda4ce09b4686303ded0bb9"
           "275bc84aa45896cf4d2fc5abf87245d9eade800005d4"},
    vector{"RFC 7714 17.2", api::suite::aead_aes_256_gcm, true, gcm_key, gcm_salt, 0x5d4, rtcp_plain,
           "81c8000d4d617273d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be8415f658c61de0476f1b"
           "6fad1d1eb30c4446839f57ff6f6cb26ac3be800005d4"},
    vector{"libsrtp srtp_validate RTP", api::suite::aes_cm_128_hmac_sha1_80, false, "e1f97a0d3e018be0d64fa32c06de4139",
           "0ec675ad498afeebb6960b3aabe6", 0x1234, "800f1234decafbadcafebabeabababababababababababababababab",
           "800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb"},
    vector{"libsrtp srtp_validate RTCP", api::suite::aes_cm_128_hmac_sha1_80, false, "e1f97a0d3e018be0d64fa32c06de4139",
           "0ec675ad498afeebb6960b3aabe6", 1, "81c8000bcafebabeabababababababababababababababab",
           "81c8000bcafebabe7128035be487b9bdbef89041f977a5a880000001993e08cd54d6c1230798"},
    vector{"libsrtp srtp_validate_aes_256 RTP", api::suite::aes_256_cm_hmac_sha1_80, false,
           "f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6", "3b04803de51ee7c96423ab5b78d2", 0x1234,
           "800f1234decafbadcafebabeabababababababababababababababab",
           "800f1234decafbadcafebabef1d9de17ff251ff1aa007774b0b4b40da08d9d9a5b3a55d8873b"},
};

op make_op(const vector& from, bytes& packet, std::size_t length, const key_object& key) {
    const rtp::parsed parsed = rtp::parse(packet.data(), length);
    op item;
    item.packet = packet.data();
    item.length = static_cast<std::uint32_t>(length);
    item.key = &key;
    item.header = parsed.header;
    item.rtcp = parsed.rtcp;
    item.ssrc = parsed.ssrc;
    item.index = from.index;
    return item;
}

bool passes(engine& subject, const vector& row) {
    const bytes plain = from_hex(row.plain);
    const bytes sealed = from_hex(row.sealed);
    const bytes key_bytes = from_hex(row.key);
    const bytes salt = from_hex(row.salt);
    session_keys keys{};
    if (row.session) {
        std::copy(key_bytes.begin(), key_bytes.end(), keys.rtp.key);
        std::copy(salt.begin(), salt.end(), keys.rtp.salt);
        keys.rtcp = keys.rtp;
    } else if (!derive_session_keys(row.suite, key_bytes, salt, keys)) {
        return false;
    }
    const auto key = std::make_unique<key_object>();
    if (!subject.build(row.suite, keys, *key))
        return false;

    bytes packet = plain;
    packet.resize(plain.size() + rtp::max_trailer);
    op item = make_op(row, packet, plain.size(), *key);
    subject.protect({&item, 1});
    packet.resize(item.length);
    if (packet != sealed)
        return false;

    item = make_op(row, packet, packet.size(), *key);
    subject.unprotect({&item, 1});
    if (item.result != api::drop::none || item.length != plain.size() ||
        !std::equal(plain.begin(), plain.end(), packet.begin()))
        return false;

    packet = sealed;
    packet[item.header] ^= 1;
    const bytes broken = packet;
    item = make_op(row, packet, packet.size(), *key);
    subject.unprotect({&item, 1});
    if (item.result != api::drop::srtp_auth)
        return false;
    subject.restore(item);
    return packet == broken;
}

} // namespace

std::span<const engine_info> engines() noexcept {
    return registry;
}

std::string self_test(engine& subject) {
    for (const vector& row : vectors)
        if (!passes(subject, row))
            return std::string(row.name);
    return {};
}

tl::expected<std::unique_ptr<engine>, std::string> make_engine(std::string_view name) {
    std::string why;
    for (const engine_info& candidate : registry) { // by priority, highest first
        if (name != "auto" && name != candidate.name)
            continue;
        if (!candidate.probe()) {
            why += fmt::format("engine {} does not run on this CPU (it needs AES instructions). ", candidate.name);
            continue;
        }
        auto made = candidate.make();
        if (!made) {
            why += fmt::format("engine {} could not be started (out of memory?). ", candidate.name);
            continue;
        }
        const std::string failed = self_test(*made);
        if (failed.empty())
            return made;
        why += fmt::format("engine {} failed its self-test at vector \"{}\": do not use this build or this CPU. ",
                           candidate.name, failed);
    }
    if (why.empty())
        why = fmt::format("no engine is called \"{}\"; use auto, ipsecmb or openssl", name);
    return tl::make_unexpected(why);
}

} // namespace tandem::crypto
