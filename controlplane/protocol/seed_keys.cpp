// SPDX-License-Identifier: Apache-2.0
// Seed -> SRTP master key and salt (seed_keys.hpp): HKDF-SHA256 (RFC 5869) by OpenSSL's EVP_KDF. Any
// thread.
#include "controlplane/protocol/seed_keys.hpp"

#include <array>
#include <memory>
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <string_view>

namespace tandem::protocol {

namespace {

constexpr std::string_view extract_salt = "tandem media seed v1";
constexpr std::size_t min_seed = 16;
constexpr std::size_t max_seed = 64;

// OpenSSL takes pointers to non-const, and reads only.
[[nodiscard]] OSSL_PARAM octets(const char* name, std::span<const std::uint8_t> value) {
    static std::uint8_t empty = 0;
    return OSSL_PARAM_construct_octet_string(name, value.empty() ? &empty : const_cast<std::uint8_t*>(value.data()),
                                             value.size());
}

template <typename T>
void append(std::uint8_t*& at, T value) {
    for (std::size_t i = sizeof(T); i-- > 0;)
        *at++ = static_cast<std::uint8_t>(value >> 8 * i);
}

} // namespace

bool hkdf_sha256(std::span<const std::uint8_t> salt, std::span<const std::uint8_t> ikm,
                 std::span<const std::uint8_t> info, std::span<std::uint8_t> out) noexcept {
    const std::unique_ptr<EVP_KDF, decltype(&EVP_KDF_free)> kdf(EVP_KDF_fetch(nullptr, "HKDF", nullptr), EVP_KDF_free);
    const std::unique_ptr<EVP_KDF_CTX, decltype(&EVP_KDF_CTX_free)> context(kdf ? EVP_KDF_CTX_new(kdf.get()) : nullptr,
                                                                            EVP_KDF_CTX_free);
    if (!context)
        return false;
    char digest[] = "SHA256";
    const std::array parameters{
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        octets(OSSL_KDF_PARAM_KEY, ikm),
        octets(OSSL_KDF_PARAM_SALT, salt),
        octets(OSSL_KDF_PARAM_INFO, info),
        OSSL_PARAM_construct_end(),
    };
    return EVP_KDF_derive(context.get(), out.data(), out.size(), parameters.data()) == 1;
}

std::optional<secret> derive_keys(const secret& seed, const key_binding& binding) {
    const api::suite_info* row = api::find_suite(static_cast<std::uint16_t>(binding.suite));
    if (row == nullptr || binding.suite == api::suite::clear || seed.size() < min_seed || seed.size() > max_seed)
        return std::nullopt;
    std::array<std::uint8_t, 8 + 4 + 1 + 4 + 2> info{};
    std::uint8_t* at = info.data();
    append(at, binding.tsid);
    append(at, binding.media);
    append(at, static_cast<std::uint8_t>(binding.way));
    append(at, binding.epoch);
    append(at, static_cast<std::uint16_t>(binding.suite));
    secret keys;
    const auto salt = std::span(reinterpret_cast<const std::uint8_t*>(extract_salt.data()), extract_salt.size());
    if (!hkdf_sha256(salt, seed.view(), info, keys.resize(std::size_t{row->key_length} + row->salt_length)))
        return std::nullopt;
    return keys;
}

std::optional<secret> seed_as_keys(const secret& seed, api::suite suite) {
    const api::suite_info* row = api::find_suite(static_cast<std::uint16_t>(suite));
    if (row == nullptr || suite == api::suite::clear || seed.size() != std::size_t{row->key_length} + row->salt_length)
        return std::nullopt;
    return seed.copy();
}

digest_bytes digest(std::span<const std::uint8_t> secret) noexcept {
    static constexpr std::array<std::uint8_t, 11> name{'s', 'e', 'e', 'd', ' ', 'd', 'i', 'g', 'e', 's', 't'};
    digest_bytes out{};
    (void)hkdf_sha256(name, secret, {}, out);
    return out;
}

} // namespace tandem::protocol
