// SPDX-License-Identifier: Apache-2.0
// A file descriptor that is closed with its owner. Whatever made it said in errno why there is none: look before
// anything else is closed.
#pragma once

#include <unistd.h>
#include <utility>

namespace tandem {

class descriptor {
public:
    descriptor() = default;
    explicit descriptor(int fd) noexcept : fd_(fd) {}
    descriptor(descriptor&& other) noexcept : fd_(other.release()) {}
    descriptor& operator=(descriptor&& other) noexcept { // what was owned until now is closed at once
        descriptor taken(std::move(other));
        std::swap(fd_, taken.fd_);
        return *this;
    }
    ~descriptor() {
        if (fd_ >= 0)
            ::close(fd_);
    }
    [[nodiscard]] int get() const noexcept { return fd_; }
    explicit operator bool() const noexcept { return fd_ >= 0; }
    [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); } // the caller closes it

private:
    int fd_ = -1;
};

} // namespace tandem
