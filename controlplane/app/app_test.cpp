// SPDX-License-Identifier: Apache-2.0
// Configuration (every refusal names file, line and remedy) and the wiping allocator (what was freed is zero).
#include "controlplane/app/config.hpp"
#include "controlplane/app/wiping_allocator.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <sys/mman.h>
#include <vector>

namespace tandem::control {
namespace {

const std::string base = R"(version = 1
run_dir = "/run/tandem"
[tunnel]
listen = ["192.0.2.1:4433", "[2001:db8::1]:4433"]
inner4 = "10.64.0.0/16"
inner6 = "fd64::/64"
)";

std::string error_of(const std::string& text) {
    const auto got = parse_config(text, "c.toml");
    return got ? "accepted" : got.error();
}

TEST(Config, DefaultsAndEverythingGiven) {
    const auto plain = parse_config(base, "c.toml");
    ASSERT_TRUE(plain) << plain.error();
    EXPECT_EQ(plain->dataplane, "/run/tandem/dataplane.sock");
    EXPECT_EQ(plain->ops_socket(), "/run/tandem/controlplane.sock");
    ASSERT_EQ(plain->tunnel.listen.size(), 2u);
    EXPECT_TRUE(plain->tunnel.listen[1].address.is_v6());
    EXPECT_EQ(plain->ng.at(0).port(), 2223);
    EXPECT_EQ(plain->policy.default_level, "standard");
    EXPECT_EQ(plain->policy.levels.rows().size(), 4u);
    EXPECT_FALSE(plain->store.shared);
    EXPECT_TRUE(plain->tunnel.isolate && plain->tunnel.nftables && plain->tunnel.inner_from.empty());

    const auto full = parse_config("default_level = \"fast\"\n" + base + R"(keepalive_ms = 1000
lifetime_s = 3600
inner_from = ["eth1", "eth2"]
services = ["198.51.100.0/24:80", "[2001:db8::7]:*"]
isolate = false
[ng]
listen = ["127.0.0.1:2300"]
[media]
ports = [30000, 30100]
timeout_s = 20
[levels.fast]
suite = "AEAD_AES_256_GCM"
seed_bytes = 48
rekey_s = 2.5
overlap_s = 0.5
)",
                                   "c.toml");
    ASSERT_TRUE(full) << full.error();
    EXPECT_EQ(full->tunnel.keepalive.count(), 1000);
    ASSERT_EQ(full->tunnel.services.size(), 2U);
    EXPECT_EQ(full->tunnel.services[1].port, 0);
    EXPECT_EQ(full->tunnel.inner_from, (std::vector<std::string>{"eth1", "eth2"}));
    EXPECT_FALSE(full->tunnel.isolate);
    EXPECT_EQ(full->media.first_port, 30000);
    const auto* fast = full->policy.levels.find("fast");
    ASSERT_NE(fast, nullptr);
    EXPECT_EQ(fast->rekey.count(), 2500);
    EXPECT_EQ(fast->seed_bytes, 48u);
    EXPECT_EQ(full->policy.levels.rows().size(), 1u) << "the table is exactly what is written";
    EXPECT_EQ(full->ng.at(0).port(), 2300);
}

// The line that is named, and a word of the remedy.
testing::AssertionResult refused(const std::string& text, int line, const std::string& words) {
    const auto error = error_of(text);
    if (error.rfind(fmt::format("c.toml:{}:", line), 0) == 0 && error.find(words) != std::string::npos)
        return testing::AssertionSuccess();
    return testing::AssertionFailure() << error;
}

TEST(Config, RefusalsNameFileLineAndRemedy) {
    EXPECT_TRUE(refused(base + "colour = 3\n", 7, "unknown key \"colour\" in [tunnel]; known here: "));
    EXPECT_TRUE(refused(base + "services = [\"example.org:80\"]\n", 7, "a service is written"));
    EXPECT_TRUE(refused(base + "inner_from = [\"\"]\n", 7, "names of interfaces"));
    EXPECT_TRUE(refused(base + "crl = \"/x\"\n", 7, "certificate, key and ca"));
    EXPECT_NE(error_of("run_dir = \"/x\"\n").find("version = 1"), std::string::npos);
    EXPECT_NE(error_of("version = 1\n").find("no [tunnel] table"), std::string::npos);
    EXPECT_TRUE(refused(base + "[media]\nports = [30000, 30000]\n", 8, ""));
    EXPECT_NE(error_of(base + "[media]\nports = [30001, 30002]\n").find("no pair"), std::string::npos);
    EXPECT_TRUE(refused(base + "[levels.x]\nsuite = \"ROT13\"\n", 8, "suite \"ROT13\" is not known"));
    EXPECT_TRUE(refused(base + "[ng]\nlisten = [\"localhost\"]\n", 8, "listen: \"localhost\" is not address:port"));
    EXPECT_NE(error_of(base + "mtu = 100\n").find("1280 to 9000"), std::string::npos);
    EXPECT_NE(error_of("version = 1\n[tunnel\n").find("c.toml:2"), std::string::npos);
    EXPECT_TRUE(refused("version = 1\n# \xc3\xa9\nd\xcc\x8b = 1\n", 3, "only plain (ASCII)"));
    EXPECT_TRUE(refused("version = 1\nrun_dir = \"\"\"x\"\"\"\n", 2, "strings over several lines"));
    EXPECT_NE(error_of("default_level = \"gone\"\n" + base).find("gone"), std::string::npos);
}

TEST(Rim30, LevelSlowerThanThePrimaryIsRefusedAtLoad) {
    const auto error = error_of(base + "lifetime_s = 100\n");
    EXPECT_NE(error.find("level basic"), std::string::npos) << error; // 120 s
    EXPECT_NE(error.find("media keys must change more often"), std::string::npos) << error;
    EXPECT_EQ(error_of(base + "lifetime_s = 121\n"), "accepted");
}

#if !defined(__SANITIZE_ADDRESS__) // its allocator does not give a block back at once
// A freed block, as it lies there: malloc gives nothing of these sizes back to the kernel. Its first octets are links
// of malloc's own lists, of which any may be the one looked for.
bool left_in(std::uintptr_t freed, std::size_t size) {
    constexpr std::size_t links = 16;
    const auto* octets = reinterpret_cast<const volatile unsigned char*>(freed);
    bool found = false;
    for (std::size_t i = links; i < size; ++i)
        found |= octets[i] == 0xA7;
    return found;
}

bool seen_again(void* (*take)(std::size_t), void (*drop)(void*), std::size_t size) {
    mallopt(M_PERTURB, 0); // MALLOC_PERTURB_ fills blocks with a byte that may be the very one looked for
    void* block = take(size);
    const auto whole = malloc_usable_size(block); // 24 of a block of 16
    for (std::size_t i = 0; i < whole; ++i)       // a plain write before its end is none to the compiler
        static_cast<volatile unsigned char*>(block)[i] = 0xA7;
    const auto at = reinterpret_cast<std::uintptr_t>(block);
    drop(block);
    return left_in(at, whole);
}

TEST(WipingAllocator, DeletedMemoryIsZero) {
    for (const std::size_t size : {16u, 96u, 1000u})
        EXPECT_FALSE(
            seen_again([](std::size_t n) { return ::operator new(n); }, [](void* p) { ::operator delete(p); }, size))
            << size;
}

TEST(WipingAllocator, OpenSslMemoryIsZero) {
    for (const std::size_t size : {16u, 96u, 1000u})
        EXPECT_FALSE(
            seen_again([](std::size_t n) { return OPENSSL_malloc(n); }, [](void* p) { OPENSSL_free(p); }, size))
            << size;
}

TEST(WipingAllocator, OpenSslReallocWipesTheOldBlock) {
    mallopt(M_PERTURB, 0);
    auto* block = static_cast<unsigned char*>(OPENSSL_malloc(64));
    std::memset(block, 0xA7, 64);
    const auto at = reinterpret_cast<std::uintptr_t>(block);
    auto* larger = static_cast<unsigned char*>(OPENSSL_realloc(block, 4096));
    EXPECT_EQ(larger[63], 0xA7);
    EXPECT_FALSE(left_in(at, 64));
    OPENSSL_free(larger);
}
#endif

TEST(WipingAllocator, VectorsStringsAndAlignedBlocksWork) {
    std::vector<std::string> many;
    for (int i = 0; i < 1000; ++i)
        many.push_back(std::string(static_cast<std::size_t>(i), 'x'));
    struct alignas(256) wide {
        char bytes[512];
    };
    auto one = std::make_unique<wide>();
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(one.get()) % 256, 0u);
    EXPECT_EQ(many.back().size(), 999u);
}

} // namespace
} // namespace tandem::control

int main(int argc, char** argv) {
    if (!tandem::control::wipe_openssl_memory()) {
        fmt::print(stderr, "OpenSSL's allocator could not be replaced\n");
        return 1;
    }
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
