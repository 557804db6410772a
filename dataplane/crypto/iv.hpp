// SPDX-License-Identifier: Apache-2.0
// Initialisation vectors of one packet from salt, SSRC and index: AES-CM (RFC 3711 4.1.1) and AEAD (RFC 7714 8.1, 9.1).
// RTP's 48-bit and RTCP's 31-bit index sit at the same place. Engines only. Two word operations, no byte loop.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace tandem::crypto {

static_assert(std::endian::native == std::endian::little, "IVs are built for a little-endian host");

// (salt << 16) xor (SSRC << 64) xor (index << 16); the last 16 bits count blocks. `salt`: 14 bytes of 16 readable ones.
inline void make_cm_iv(const std::uint8_t* salt, std::uint32_t ssrc, std::uint64_t index, std::uint8_t* iv) noexcept {
    std::uint64_t words[2];
    std::memcpy(words, salt, sizeof words);
    words[0] ^= __builtin_bswap64(ssrc);
    words[1] = (words[1] & 0x0000ffffffffffff) ^ __builtin_bswap64(index << 16);
    std::memcpy(iv, words, sizeof words);
}

// (0:16 | SSRC | index:48) xor salt. 12 bytes; `salt` readable for 12.
inline void make_aead_iv(const std::uint8_t* salt, std::uint32_t ssrc, std::uint64_t index, std::uint8_t* iv) noexcept {
    std::uint32_t first = 0;
    std::uint64_t rest = 0;
    std::memcpy(&first, salt, sizeof first);
    std::memcpy(&rest, salt + 4, sizeof rest);
    first ^= __builtin_bswap32(ssrc >> 16);
    rest ^= __builtin_bswap64(std::uint64_t{ssrc} << 48 | index);
    std::memcpy(iv, &first, sizeof first);
    std::memcpy(iv + 4, &rest, sizeof rest);
}

} // namespace tandem::crypto
