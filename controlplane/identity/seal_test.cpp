// SPDX-License-Identifier: Apache-2.0
// Keys at rest: open only as they were sealed; the key file is private, whole, and never silently replaced.
#include "controlplane/identity/seal.hpp"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sys/stat.h>

namespace tandem::identity {
namespace {

class Seal : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = testing::TempDir() + "tandem-seal-XXXXXX";
        ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
        directory_ = pattern;
        file_ = directory_ + "/master.key";
    }
    void TearDown() override { std::filesystem::remove_all(directory_); }
    std::string directory_, file_;
};

TEST_F(Seal, OpensWhatItSealed) {
    const auto s = sealer::open(file_);
    ASSERT_TRUE(s) << s.error();
    for (std::size_t size = 0; size <= protocol::secret::capacity; ++size) {
        const auto plain = random_secret(size);
        const auto sealed = s->seal(plain.view(), "psk:alice");
        const auto again = sealer::open(file_)->unseal(sealed, "psk:alice");
        ASSERT_TRUE(again);
        EXPECT_TRUE(std::ranges::equal(again->view(), plain.view()));
        EXPECT_NE(s->seal(plain.view(), "psk:alice"), sealed); // fresh nonce
    }
}

TEST_F(Seal, AnyChangeIsRefused) {
    const auto s = sealer::open(file_);
    ASSERT_TRUE(s) << s.error();
    const auto plain = random_secret(32);
    const auto sealed = s->seal(plain.view(), "psk:alice");
    EXPECT_FALSE(s->unseal(sealed, "psk:bob"));
    for (std::size_t i = 0; i < sealed.size() * 8; ++i) {
        auto flipped = sealed;
        flipped[i / 8] = static_cast<std::uint8_t>(flipped[i / 8] ^ 1U << i % 8);
        EXPECT_FALSE(s->unseal(flipped, "psk:alice"));
    }
    for (std::size_t n = 0; n < sealed.size(); ++n)
        EXPECT_FALSE(s->unseal(std::span(sealed).first(n), "psk:alice"));
    const auto other = sealer::open(directory_ + "/other.key");
    EXPECT_FALSE(other->unseal(sealed, "psk:alice"));
}

TEST_F(Seal, KeyFileIsPrivate) {
    ASSERT_TRUE(sealer::open(file_));
    struct stat status {};
    ASSERT_EQ(::stat(file_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600U);
    EXPECT_EQ(status.st_size, 32);
    ASSERT_EQ(::chmod(file_.c_str(), 0640), 0);
    const auto open = sealer::open(file_);
    ASSERT_FALSE(open);
    EXPECT_NE(open.error().find("chmod 600"), std::string::npos);
}

TEST_F(Seal, WrongSizeIsNotReplaced) {
    for (const std::size_t size : {0U, 31U, 33U}) {
        std::ofstream(file_, std::ios::trunc) << std::string(size, 'x');
        ::chmod(file_.c_str(), 0600);
        EXPECT_FALSE(sealer::open(file_));
        EXPECT_EQ(std::filesystem::file_size(file_), size);
    }
    EXPECT_FALSE(sealer::open(directory_ + "/no/such/place"));
}

} // namespace
} // namespace tandem::identity
