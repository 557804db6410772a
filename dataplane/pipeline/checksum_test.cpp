// SPDX-License-Identifier: Apache-2.0
#include "dataplane/pipeline/checksum.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace tandem::pipeline {
namespace {

// RFC 1071 1, word by word, as it lies in memory.
std::uint16_t by_the_book(const std::vector<std::uint8_t>& bytes) {
    std::uint32_t sum = 0;
    for (std::size_t at = 0; at < bytes.size(); ++at)
        sum += at % 2 == 0 ? bytes[at] << 8 : bytes[at];
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return __builtin_bswap16(static_cast<std::uint16_t>(~sum));
}

TEST(Checksum, OfAnyLengthIsTheBooks) {
    std::mt19937 random(1);
    for (std::size_t length = 0; length < 300; ++length) {
        for (const int kind : {0, 1, 2}) { // zeros, ones, anything
            std::vector<std::uint8_t> bytes(length);
            for (auto& byte : bytes)
                byte = static_cast<std::uint8_t>(kind == 2 ? random() : kind == 1 ? 0xff : 0);
            EXPECT_EQ(checksum::fold(checksum::add(bytes.data(), length)), by_the_book(bytes)) << length << " " << kind;
        }
    }
}

TEST(Checksum, SumsMayBeAddedAndOverflow) {
    const std::vector<std::uint8_t> bytes(64, 0xff);
    const std::uint64_t once = checksum::add(bytes.data(), 32);
    EXPECT_EQ(checksum::fold(checksum::plus(once, once)), by_the_book(bytes));
    EXPECT_EQ(checksum::plus(~std::uint64_t{0}, 1), 1);
}

TEST(Checksum, HoldsWhereTheSumIsInTheData) {
    std::vector<std::uint8_t> header = {0x45, 0, 0,    0x73, 0, 0, 0x40, 0,    0x40, 0x11,
                                        0,    0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0,    0xc7};
    const std::uint16_t sum = checksum::fold(checksum::add(header.data(), header.size()));
    std::memcpy(header.data() + 10, &sum, sizeof sum);
    EXPECT_EQ(header[10] << 8 | header[11], 0xb861);
    EXPECT_EQ(checksum::fold(checksum::add(header.data(), header.size())), 0);
    header[0] ^= 1;
    EXPECT_NE(checksum::fold(checksum::add(header.data(), header.size())), 0);
}

} // namespace
} // namespace tandem::pipeline
