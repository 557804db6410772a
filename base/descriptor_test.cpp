// SPDX-License-Identifier: Apache-2.0
// Who closes a descriptor, and when.
#include "base/descriptor.hpp"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <utility>

#include <gtest/gtest.h>

namespace tandem {
namespace {

bool open_now(int fd) {
    return ::fcntl(fd, F_GETFD) >= 0;
}

TEST(Descriptor, ClosesWithItsOwner) {
    int fd = -1;
    {
        const descriptor one(::eventfd(0, EFD_CLOEXEC));
        ASSERT_TRUE(one);
        fd = one.get();
        EXPECT_TRUE(open_now(fd));
    }
    EXPECT_FALSE(open_now(fd));
    EXPECT_FALSE(descriptor());
    EXPECT_FALSE(descriptor(-1));
}

TEST(Descriptor, MovesWithoutClosing) {
    descriptor from(::eventfd(0, EFD_CLOEXEC));
    const int fd = from.get();
    descriptor to(std::move(from));
    EXPECT_EQ(to.get(), fd);
    EXPECT_EQ(from.get(), -1);
    descriptor& itself = to;
    to = std::move(itself);
    EXPECT_TRUE(open_now(fd));
    const descriptor again(to.release());
    EXPECT_FALSE(to);
    EXPECT_TRUE(open_now(fd));
}

TEST(Descriptor, AssignmentClosesWhatWasOwned) {
    descriptor one(::eventfd(0, EFD_CLOEXEC)), two(::eventfd(0, EFD_CLOEXEC));
    const int first = one.get(), second = two.get();
    one = std::move(two);
    EXPECT_FALSE(open_now(first));
    EXPECT_EQ(one.get(), second);
    one = {};
    EXPECT_FALSE(open_now(second));
}

} // namespace
} // namespace tandem
