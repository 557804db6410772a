// SPDX-License-Identifier: Apache-2.0
// Limits of memory as control groups of either version and the machine say them, from files of a pretended /proc.
#include "controlplane/app/memory_limit.hpp"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <malloc.h>
#include <memory>
#include <unistd.h>
#include <vector>

namespace tandem::control {
namespace {

constexpr std::uint64_t mib = 1 << 20;

struct memory_test : testing::Test {
    memory_test() {
        char name[] = "/tmp/tandem-memory-XXXXXX";
        root = ::mkdtemp(name);
        put("/proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:    8388608 kB\n");
    }
    ~memory_test() override { std::filesystem::remove_all(root); }
    void put(const std::string& path, const std::string& text) const {
        const std::filesystem::path whole = root + path;
        std::filesystem::create_directories(whole.parent_path());
        std::ofstream(whole) << text;
    }
    void number(const std::string& path, std::uint64_t value) const { put(path, std::to_string(value) + "\n"); }
    void second_version() const {
        put("/proc/self/cgroup", "0::/system.slice/tandem.service\n");
        put("/proc/self/mountinfo", "30 24 0:26 / /cg rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n");
        put("/cg/system.slice/tandem.service/memory.max", "max\n");
        put("/cg/system.slice/tandem.service/memory.high", "max\n");
        number("/cg/system.slice/tandem.service/memory.current", 20 * mib);
        put("/cg/system.slice/tandem.service/memory.stat", "anon 1\nfile 2\ninactive_file 0\nactive_file 0\n");
    }
    std::string root;
};

TEST_F(memory_test, TheTightestLevelOfTheSecondVersionCounts) {
    second_version();
    EXPECT_EQ(memory_limit(root).look().limit, 16384 * mib) << "no limit: the machine's memory";
    number("/cg/system.slice/tandem.service/memory.max", 64 * mib);
    EXPECT_EQ(memory_limit(root).look().limit, 64 * mib);
    EXPECT_EQ(memory_limit(root).look().used, 20 * mib);
    number("/cg/system.slice/memory.max", 100 * mib); // others are in it too
    number("/cg/system.slice/memory.current", 90 * mib);
    EXPECT_EQ(memory_limit(root).look().limit, 100 * mib);
    number("/cg/system.slice/memory.current", 30 * mib);
    number("/cg/system.slice/tandem.service/memory.high", 48 * mib);
    EXPECT_EQ(memory_limit(root).look().limit, 48 * mib) << "above it the kernel slows the process down";
}

TEST_F(memory_test, TheFirstVersionToo) {
    put("/proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/box/tandem\n0::/\n");
    put("/proc/self/mountinfo", "31 24 0:27 /box /v1/memory rw - cgroup cgroup rw,memory\n"
                                "30 24 0:26 / /v1/cpu rw - cgroup cgroup rw,cpu,cpuacct\n");
    number("/v1/memory/tandem/memory.limit_in_bytes", 64 * mib);
    number("/v1/memory/tandem/memory.usage_in_bytes", 63 * mib);
    put("/v1/memory/tandem/memory.stat", "inactive_file 1\ntotal_inactive_file 20971520\ntotal_active_file 10485760\n");
    number("/v1/memory/memory.limit_in_bytes", 9223372036854771712U);
    number("/v1/memory/memory.usage_in_bytes", 1);
    memory_limit memory(root);
    EXPECT_EQ(memory.look().limit, 64 * mib);
    EXPECT_EQ(memory.look().used, 33 * mib) << "what is cached of files goes when it must";
    EXPECT_FALSE(memory.no_room());
}

TEST_F(memory_test, NoCallBeginsWhereItIsNearlyUsedUp) {
    second_version();
    const auto used = [&](std::uint64_t bytes) { number("/cg/system.slice/tandem.service/memory.current", bytes); };
    // So large that this program's own heap has nothing free, compared.
    number("/cg/system.slice/tandem.service/memory.max", 100'000 * mib);
    used(84'000 * mib);
    memory_limit memory(root);
    EXPECT_FALSE(memory.no_room());
    const auto room = memory.calls_more();
    EXPECT_GT(room, 40'000u);
    EXPECT_LT(room, 44'000u);
    used(86'000 * mib);
    (void)memory.look();
    ASSERT_TRUE(memory.no_room());
    EXPECT_NE(memory.no_room()->find("MemoryMax"), std::string::npos);
    EXPECT_TRUE(memory.was_short());
    EXPECT_EQ(memory.calls_more(), 0u);
    used(80'000 * mib);
    (void)memory.look();
    EXPECT_FALSE(memory.no_room());
    EXPECT_TRUE(memory.was_short()) << "a moment ago: the alarm does not come and go";
}

TEST_F(memory_test, CallsThatBeginBetweenTwoLooksAreCounted) {
    second_version();
    number("/cg/system.slice/tandem.service/memory.max", 1000 * mib);
    number("/cg/system.slice/tandem.service/memory.current", 849 * mib);
    memory_limit memory(root);
    int begun = 0;
    while (begun < 10'000 && !memory.no_room())
        ++begun;
    EXPECT_LT(begun, 10'000);
}

TEST_F(memory_test, BelowTheMarkThatCallsLeadPastTheHeapsFreeMemoryCountsAtOnce) {
    second_version();
    number("/cg/system.slice/tandem.service/memory.max", 64 * mib);
    number("/cg/system.slice/tandem.service/memory.current", 54 * mib); // 84 of 100
    std::vector<std::unique_ptr<char[]>> blocks(40'000);
    for (auto& block : blocks)
        block = std::make_unique<char[]>(1000);
    for (std::size_t n = 0; n < blocks.size(); n += 2)
        blocks[n].reset(); // calls that ended
    if (::mallinfo2().fordblks == 0)
        return; // a sanitizer's allocator, which does not tell
    memory_limit memory(root);
    for (int begun = 0; begun < 200; ++begun)
        ASSERT_FALSE(memory.no_room()) << begun;
}

TEST_F(memory_test, WithoutControlGroupsOnlyAMachineThatHasNothingLeftRefuses) {
    memory_limit memory(root);
    EXPECT_EQ(memory.look().limit, 16384 * mib);
    EXPECT_FALSE(memory.no_room());
    put("/proc/meminfo", "MemTotal:       16777216 kB\nMemAvailable:    2097152 kB\n");
    (void)memory.look();
    EXPECT_FALSE(memory.no_room()) << "huge pages, and what others use, are none of ours";
    put("/proc/meminfo", "MemTotal:       16777216 kB\nMemAvailable:    204800 kB\n");
    (void)memory.look();
    EXPECT_TRUE(memory.no_room());
    put("/proc/meminfo", "");
    (void)memory.look();
    EXPECT_FALSE(memory.no_room()) << "nothing is known";
}

} // namespace
} // namespace tandem::control
