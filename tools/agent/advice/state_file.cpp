// SPDX-License-Identifier: Apache-2.0
// open(2) with O_NOFOLLOW throughout: the directory belongs to the agent's user, and root writes in it, too.
#include "tools/agent/advice/state_file.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace tandem::agent {

namespace {

tl::unexpected<std::string> failed(const std::string& path) {
    return tl::unexpected(fmt::format("{}: {}", path, std::strerror(errno)));
}

std::string directory_of(const std::string& path) {
    const auto slash = path.rfind('/');
    return slash == std::string::npos ? "." : path.substr(0, slash);
}

bool give_to_owner(int fd, const std::string& directory) {
    struct stat owner {};
    return ::geteuid() != 0 ||
           (::stat(directory.c_str(), &owner) == 0 && ::fchown(fd, owner.st_uid, owner.st_gid) == 0);
}

bool write_all(int fd, const std::string& text) {
    std::size_t done = 0;
    while (done < text.size()) {
        const ssize_t wrote = ::write(fd, text.data() + done, text.size() - done);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return false;
        done += static_cast<std::size_t>(wrote);
    }
    return true;
}

} // namespace

file_stamp stamp_of(const std::string& path) {
    struct stat info {};
    if (::lstat(path.c_str(), &info) != 0)
        return {};
    return {info.st_ino, static_cast<std::uint64_t>(info.st_size),
            std::int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec};
}

tl::expected<std::optional<std::string>, std::string> read_state(const std::string& path, std::size_t most) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return std::optional<std::string>{};
    if (fd < 0)
        return failed(path);
    std::string text;
    std::array<char, 16384> part{};
    ssize_t got = 0;
    while ((got = ::read(fd, part.data(), part.size())) > 0 && text.size() <= most)
        text.append(part.data(), static_cast<std::size_t>(got));
    const int error = got < 0 ? errno : 0;
    ::close(fd);
    if (error != 0)
        return tl::unexpected(fmt::format("{}: {}", path, std::strerror(error)));
    if (text.size() > most)
        return tl::unexpected(fmt::format("{}: larger than {} bytes", path, most));
    return std::optional(std::move(text));
}

tl::expected<void, std::string> write_state(const std::string& path, const std::string& text, bool durable) {
    const std::string directory = directory_of(path), fresh = path + ".new";
    ::unlink(fresh.c_str()); // of a writer that was killed; live ones exclude each other by state_lock
    const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return failed(fresh);
    const bool written = give_to_owner(fd, directory) && write_all(fd, text) && (!durable || ::fsync(fd) == 0);
    const int error = errno;
    ::close(fd);
    if (!written || ::rename(fresh.c_str(), path.c_str()) != 0) {
        errno = written ? errno : error;
        const auto words = failed(path);
        ::unlink(fresh.c_str());
        return words;
    }
    if (durable)
        if (const int folder = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); folder >= 0) {
            ::fsync(folder);
            ::close(folder);
        }
    return {};
}

tl::expected<state_lock, std::string> state_lock::take(const std::string& directory,
                                                       std::chrono::milliseconds patience) {
    const std::string path = directory + "/lock";
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return failed(path);
    state_lock taken(fd);
    if (!give_to_owner(fd, directory))
        return failed(path);
    const auto end = std::chrono::steady_clock::now() + patience;
    while (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK || std::chrono::steady_clock::now() >= end)
            return tl::unexpected(fmt::format("{}: held by another program; try again", path));
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return taken;
}

state_lock::state_lock(state_lock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

state_lock::~state_lock() {
    if (fd_ >= 0)
        ::close(fd_);
}

} // namespace tandem::agent
