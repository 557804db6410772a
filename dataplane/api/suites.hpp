// SPDX-License-Identifier: Apache-2.0
// The SRTP crypto suites that Tandem knows: one table (suites.def), no switch on a cipher elsewhere.
// Sources: RFC 3711, RFC 4568 6.2, RFC 6188, RFC 7714 12. All lengths in bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace tandem::api {

enum class suite : std::uint16_t {
#define X(name, number, text, key, salt, auth_key, tag_rtp, tag_rtcp, aead) name = number,
#include "dataplane/api/suites.def"
#undef X
};

struct suite_info {
    suite id;
    std::string_view name;
    std::uint8_t key_length;      // master key and session key
    std::uint8_t salt_length;     // master salt and session salt
    std::uint8_t auth_key_length; // HMAC-SHA1 session key; 0 where the cipher authenticates
    std::uint8_t rtp_tag_length;
    std::uint8_t rtcp_tag_length;
    bool aead;
};

inline constexpr std::array suite_table{
#define X(name, number, text, key, salt, auth_key, tag_rtp, tag_rtcp, aead)                                            \
    suite_info{suite::name, text, key, salt, auth_key, tag_rtp, tag_rtcp, (aead) != 0},
#include "dataplane/api/suites.def"
#undef X
};

inline constexpr std::size_t max_key_length = 32;
inline constexpr std::size_t max_salt_length = 14;

// The suite's row; nothing for a number that names no suite.
[[nodiscard]] constexpr const suite_info* find_suite(std::uint16_t number) noexcept {
    for (const auto& row : suite_table)
        if (static_cast<std::uint16_t>(row.id) == number)
            return &row;
    return nullptr;
}

[[nodiscard]] constexpr const suite_info* find_suite(std::string_view name) noexcept {
    for (const auto& row : suite_table)
        if (row.name == name)
            return &row;
    return nullptr;
}

[[nodiscard]] constexpr const suite_info& info(suite s) noexcept {
    return suite_table[static_cast<std::size_t>(s)];
}

static_assert(info(suite::aead_aes_256_gcm).id == suite::aead_aes_256_gcm, "suites.def is ordered by number");

} // namespace tandem::api
