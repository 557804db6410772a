// SPDX-License-Identifier: Apache-2.0
// HKDF against RFC 5869's vectors, and the binding of seed keys: each part of it changes the key.
#include "controlplane/protocol/seed_keys.hpp"

#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

namespace tandem::protocol {
namespace {

using bytes = std::vector<std::uint8_t>;

bytes hex(const std::string& text) {
    bytes out;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2)
        out.push_back(static_cast<std::uint8_t>(std::stoul(text.substr(i, 2), nullptr, 16)));
    return out;
}

bytes of(const secret& from) {
    return {from.view().begin(), from.view().end()};
}

TEST(Rim12, HkdfAgreesWithRfc5869) {
    std::ifstream file(TANDEM_VECTORS "/rfc5869.json");
    ASSERT_TRUE(file);
    const auto vectors = nlohmann::json::parse(file);
    ASSERT_EQ(vectors["cases"].size(), 3U);
    for (const auto& row : vectors["cases"]) {
        const bytes expected = hex(row["okm"]);
        bytes got(expected.size());
        ASSERT_TRUE(hkdf_sha256(hex(row["salt"]), hex(row["ikm"]), hex(row["info"]), got)) << row["name"];
        EXPECT_EQ(got, expected) << row["name"];
    }
}

// The construction as the header states it, written out once more from its parts.
TEST(Rim12, SeedKeysAreHkdfOverTheBinding) {
    const secret seed(bytes(16, 0x5a));
    const key_binding binding{0x0102030405060708, 0x090a0b0c, direction::to_unit, 0x0d0e0f10,
                              api::suite::aead_aes_256_gcm};
    const bytes info = hex("0102030405060708"
                           "090a0b0c"
                           "01"
                           "0d0e0f10"
                           "0004");
    const std::string salt = "tandem media seed v1";
    bytes expected(32 + 12);
    ASSERT_TRUE(hkdf_sha256(bytes(salt.begin(), salt.end()), bytes(16, 0x5a), info, expected));
    const auto keys = derive_keys(seed, binding);
    ASSERT_TRUE(keys);
    EXPECT_EQ(of(*keys), expected);
}

TEST(Rim12, EveryPartOfTheBindingCounts) {
    const secret seed(bytes(32, 1));
    const key_binding base{1, 2, direction::to_gateway, 3, api::suite::aes_cm_128_hmac_sha1_80};
    std::set<std::string> all;
    const auto add = [&](const secret& from, key_binding binding) {
        const auto keys = derive_keys(from, binding);
        ASSERT_TRUE(keys);
        all.emplace(keys->view().begin(), keys->view().end());
    };
    add(seed, base);
    key_binding other = base;
    other.tsid = 9;
    add(seed, other);
    other = base;
    other.media = 9;
    add(seed, other);
    other = base;
    other.way = direction::to_unit;
    add(seed, other);
    other = base;
    other.epoch = 9;
    add(seed, other);
    other = base;
    other.suite = api::suite::aes_cm_128_hmac_sha1_32; // same lengths
    add(seed, other);
    add(secret(bytes(32, 2)), base);
    add(secret(bytes(33, 1)), base);
    EXPECT_EQ(all.size(), 8U);
    add(seed, base);
    EXPECT_EQ(all.size(), 8U) << "the same binding gives the same key";
}

TEST(Rim12, LengthsAreChecked) {
    const key_binding binding{1, 2, direction::to_gateway, 3, api::suite::aead_aes_128_gcm};
    EXPECT_FALSE(derive_keys(secret(bytes(15)), binding));
    EXPECT_FALSE(derive_keys(secret(bytes(65)), binding));
    EXPECT_TRUE(derive_keys(secret(bytes(64)), binding));
    key_binding clear = binding;
    clear.suite = api::suite::clear;
    EXPECT_FALSE(derive_keys(secret(bytes(16)), clear));
    clear.suite = static_cast<api::suite>(77);
    EXPECT_FALSE(derive_keys(secret(bytes(16)), clear));
}

TEST(Rim12, SeedIsKey) {
    const bytes raw = hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b");
    const auto keys = seed_as_keys(secret(raw), api::suite::aead_aes_128_gcm);
    ASSERT_TRUE(keys);
    EXPECT_EQ(of(*keys), raw);
    EXPECT_FALSE(seed_as_keys(secret(raw), api::suite::aead_aes_256_gcm));
    EXPECT_FALSE(seed_as_keys(secret(raw), api::suite::clear));
}

} // namespace
} // namespace tandem::protocol
