// SPDX-License-Identifier: Apache-2.0
// The Internet checksum (RFC 1071), inline: each packet that leaves has one over all of it. Sums are of little-endian
// words of any width and may be added; fold() makes a checksum as it lies in memory (network order). Pure. Any thread.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tandem::pipeline {

static_assert(std::endian::native == std::endian::little);

// As it lies in memory.
template <typename T>
[[nodiscard]] inline std::uint64_t word(const std::uint8_t* at) noexcept {
    T read;
    std::memcpy(&read, at, sizeof read);
    return read;
}

namespace checksum {

// One's complement sum of two words: what overflows is added below.
[[nodiscard]] constexpr std::uint64_t plus(std::uint64_t a, std::uint64_t b) noexcept {
    const std::uint64_t sum = a + b;
    return sum + (sum < a ? 1 : 0);
}

// The bytes, as if zeros followed to the next word. Two sums run beside each other.
[[nodiscard]] inline std::uint64_t add(const std::uint8_t* data, std::size_t length) noexcept {
    std::uint64_t even = 0, odd = 0;
    for (; length >= 32; data += 32, length -= 32) {
        even = plus(plus(even, word<std::uint64_t>(data)), word<std::uint64_t>(data + 16));
        odd = plus(plus(odd, word<std::uint64_t>(data + 8)), word<std::uint64_t>(data + 24));
    }
    for (; length >= 8; data += 8, length -= 8)
        even = plus(even, word<std::uint64_t>(data));
    std::uint64_t rest = 0;
    if ((length & 4) != 0)
        rest += word<std::uint32_t>(data), data += 4;
    if ((length & 2) != 0)
        rest += word<std::uint16_t>(data), data += 2;
    if ((length & 1) != 0)
        rest += *data;
    return plus(plus(even, odd), rest);
}

// Each step adds the halves; what overflows the low one goes into the high one, which is kept.
[[nodiscard]] constexpr std::uint16_t fold(std::uint64_t sum) noexcept {
    const auto half = static_cast<std::uint32_t>((sum + std::rotr(sum, 32)) >> 32);
    return static_cast<std::uint16_t>(~((half + std::rotr(half, 16)) >> 16));
}

} // namespace checksum

} // namespace tandem::pipeline
