// SPDX-License-Identifier: Apache-2.0
// flock(2): of the open file, so that two in one process exclude each other, too. See lock_file.hpp.
#include "bpf/loader/lock_file.hpp"

#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace tandem::bpf {

namespace {

using refusal = lock_file::refusal;

// Where others may write, they could put files of their own in our place.
tl::expected<void, refusal> prepare_directory() {
    const std::string path(lock_directory);
    if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST)
        return tl::unexpected(refusal{false, fmt::format("{}: {}", path, std::strerror(errno))});
    struct stat s {};
    if (::lstat(path.c_str(), &s) != 0 || !S_ISDIR(s.st_mode) || (s.st_uid != 0 && s.st_uid != ::geteuid()) ||
        (s.st_mode & S_IWOTH) != 0)
        return tl::unexpected(
            refusal{false, fmt::format("{} must be a directory of root's that others may not write: its locks could be "
                                       "anybody's",
                                       path)});
    return {};
}

// Whether the file still has its name: another's end may have taken that away between open() and flock().
bool has_name(int fd, const std::string& path) {
    struct stat opened {
    }, named{};
    return ::fstat(fd, &opened) == 0 && ::lstat(path.c_str(), &named) == 0 && opened.st_ino == named.st_ino &&
           opened.st_dev == named.st_dev;
}

} // namespace

tl::expected<lock_file, refusal> lock_file::take(std::string_view name) {
    if (auto ready = prepare_directory(); !ready)
        return tl::unexpected(ready.error());
    std::string path = fmt::format("{}/{}.lock", lock_directory, name);
    for (;;) {
        descriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
        if (!fd)
            return tl::unexpected(refusal{false, fmt::format("{}: {}", path, std::strerror(errno))});
        if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0)
            return tl::unexpected(refusal{errno == EWOULDBLOCK, fmt::format("{}: {}", path, std::strerror(errno))});
        if (!has_name(fd.get(), path))
            continue;
        if (descriptor high(::fcntl(fd.get(), F_DUPFD_CLOEXEC, lock_file::first_descriptor)); high)
            fd = std::move(high);
        return lock_file(std::move(fd), std::move(path));
    }
}

lock_file& lock_file::operator=(lock_file&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(path_, other.path_);
    return *this;
}

lock_file::~lock_file() {
    if (fd_)
        ::unlink(path_.c_str()); // while it is ours
}

} // namespace tandem::bpf
