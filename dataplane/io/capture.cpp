// SPDX-License-Identifier: Apache-2.0
// stderr into a memory file and back.
#include "dataplane/io/capture.hpp"

#include <cstdio>

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

namespace tandem::io {

stderr_capture::stderr_capture(bool enabled) {
    if (!enabled)
        return;
    memory_ = ::memfd_create("stderr", MFD_CLOEXEC);
    saved_ = ::dup(STDERR_FILENO);
    std::fflush(stderr);
    if (memory_ >= 0 && saved_ >= 0)
        ::dup2(memory_, STDERR_FILENO);
}

stderr_capture::~stderr_capture() {
    std::fflush(stderr);
    if (saved_ >= 0) {
        ::dup2(saved_, STDERR_FILENO);
        ::close(saved_);
    }
    if (memory_ >= 0)
        ::close(memory_);
}

std::string stderr_capture::words() const {
    std::fflush(stderr);
    if (memory_ < 0)
        return {};
    std::string text(4096, '\0');
    off_t size = ::lseek(memory_, 0, SEEK_END);
    off_t from = size > 4096 ? size - 4096 : 0;
    ssize_t n = ::pread(memory_, text.data(), text.size(), from);
    text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    while (!text.empty() && text.back() == '\n')
        text.pop_back();
    if (text.empty())
        return {};
    std::size_t line = text.rfind('\n');
    return " (" + text.substr(line == std::string::npos ? 0 : line + 1) + ")";
}

void raise_memory_lock_limit() noexcept {
    rlimit limit{RLIM_INFINITY, RLIM_INFINITY};
    if (::setrlimit(RLIMIT_MEMLOCK, &limit) == 0)
        return;
    if (::getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        ::setrlimit(RLIMIT_MEMLOCK, &limit);
    }
}

} // namespace tandem::io
