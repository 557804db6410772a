// SPDX-License-Identifier: Apache-2.0
// Text of others (Call-IDs, tags) as JSON keeps it over a restart, byte for byte: what is no UTF-8 goes in as hex
// behind a mark that no such text begins with. Pure; any thread.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

namespace tandem::protocol {

// RFC 3629: no overlong form, no surrogate, nothing above U+10FFFF.
[[nodiscard]] inline bool is_utf8(std::string_view text) noexcept {
    for (std::size_t i = 0; i < text.size();) {
        const auto first = static_cast<unsigned char>(text[i++]);
        if (first < 0x80)
            continue;
        const std::size_t more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
        if (first < 0xc2 || first > 0xf4 || text.size() - i < more)
            return false;
        std::uint32_t code = first & (0x3fU >> more);
        for (std::size_t n = 0; n < more; ++n, ++i) {
            const auto next = static_cast<unsigned char>(text[i]);
            if ((next & 0xc0) != 0x80)
                return false;
            code = code << 6 | (next & 0x3f);
        }
        const bool overlong = code < (more == 3 ? 0x10000U : more == 2 ? 0x800U : 0x80U);
        if (overlong || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
            return false;
    }
    return true;
}

inline constexpr char kept_mark = '\x01';

[[nodiscard]] inline std::string kept_text(std::string_view text) {
    if (is_utf8(text) && !text.starts_with(kept_mark))
        return std::string(text);
    constexpr std::string_view digits = "0123456789abcdef";
    std::string out(1, kept_mark);
    for (const char c : text) {
        out += digits[static_cast<unsigned char>(c) >> 4];
        out += digits[static_cast<unsigned char>(c) & 15];
    }
    return out;
}

[[nodiscard]] inline std::string text_kept(std::string_view kept) {
    if (!kept.starts_with(kept_mark))
        return std::string(kept);
    std::string out;
    for (std::size_t i = 1; i + 1 < kept.size(); i += 2) {
        unsigned char byte = 0;
        std::from_chars(kept.data() + i, kept.data() + i + 2, byte, 16);
        out += static_cast<char>(byte);
    }
    return out;
}

} // namespace tandem::protocol
