// SPDX-License-Identifier: Apache-2.0
// Where the cgroups are, and what is said where they are not. What the kernel does: tests/system/capture_tcp.py.
#include <cerrno>

#include <gtest/gtest.h>

#include "bpf/loader/capture.hpp"

namespace tandem::bpf {
namespace {

TEST(Capture, FindsCgroup2WhereverItIsMounted) {
    EXPECT_EQ(cgroup2_mount("proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"),
              "/sys/fs/cgroup");
    EXPECT_EQ(
        cgroup2_mount("cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"),
        "/sys/fs/cgroup/unified");
    EXPECT_EQ(cgroup2_mount("cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\nbroken\n"), "");
    EXPECT_EQ(cgroup2_mount(""), "");
}

TEST(Capture, RefusesWhatIsNoCgroupOfPrograms) {
    for (const auto* name : {"", "/", "a/../..", ".."})
        EXPECT_FALSE(capture::find_cgroup(name)) << name;
}

TEST(Capture, SaysWhatToDoWhereTheKernelRefuses) {
    const auto has = [](int code, std::string_view words) {
        const auto said = attach_refusal("cgroup/getpeername4", "/sys/fs/cgroup/captured", code);
        EXPECT_NE(said.find(words), std::string::npos) << said;
    };
    has(EINVAL, "this kernel cannot capture cgroup/getpeername4");
    has(EINVAL, "CONFIG_CGROUP_BPF");
    has(EPERM, "run as root, or with CAP_BPF and CAP_NET_ADMIN");
    has(EBADF, "/sys/fs/cgroup/captured: it is no cgroup2 directory");
    has(E2BIG, "detach one");
    has(ENOMEM, "Cannot allocate memory");
}

} // namespace
} // namespace tandem::bpf
