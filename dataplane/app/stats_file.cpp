// SPDX-License-Identifier: Apache-2.0
// See stats_file.hpp. The name is in a directory that anyone may write: opened without following links, and only a file
// of our own user is taken over.
#include "dataplane/app/stats_file.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

namespace tandem::app {

namespace {

struct shape {
    std::size_t workers, flows, total;
};

shape shape_of(unsigned workers, std::uint32_t max_flows) {
    shape s{};
    s.workers = sizeof(api::stats_header);
    s.flows = s.workers + workers * sizeof(api::worker_stats);
    s.total = s.flows + max_flows * sizeof(api::flow_stats);
    return s;
}

// A predecessor's file, when it is ours and of the same shape; -1 otherwise.
int open_old(const std::string& path, std::size_t bytes) {
    const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -1;
    struct stat status {};
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == geteuid() &&
        static_cast<std::size_t>(status.st_size) == bytes)
        return fd;
    close(fd);
    return -1;
}

// Whoever took it: it lies where anybody may make files. A directory is put aside.
void clear_name(const std::string& path) {
    if (unlink(path.c_str()) != 0 && errno == EISDIR)
        (void)std::rename(path.c_str(), fmt::format("{}.foreign-{}", path, getpid()).c_str());
}

// Not of the segment itself, which anybody may open, and so lock.
std::string lock_name(const std::string& path) {
    return "stats-" + path.substr(path.rfind('/') + 1);
}

} // namespace

tl::expected<stats_file, std::string> stats_file::open(const std::string& path, unsigned workers,
                                                       std::uint32_t max_flows) {
    const shape s = shape_of(workers, max_flows);
    auto lock = bpf::lock_file::take(lock_name(path));
    if (!lock && lock.error().held)
        return tl::unexpected(
            fmt::format("{} belongs to a running data plane; give this one another `instance`", path));
    if (!lock)
        return tl::unexpected(fmt::format("stats segment {}: {}", path, lock.error().text));
    stats_file made(std::move(*lock));
    made.path_ = path;
    made.bytes_ = s.total;
    made.fd_ = open_old(path, s.total);
    if (made.fd_ < 0) {
        clear_name(path);
        made.fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
        made.made_here_ = made.fd_ >= 0;
        if (made.fd_ < 0 || fchmod(made.fd_, 0644) != 0 || ftruncate(made.fd_, static_cast<off_t>(s.total)) != 0)
            return tl::unexpected(fmt::format("stats segment {}: {}", path, std::strerror(errno)));
    }
    void* at = mmap(nullptr, s.total, PROT_READ | PROT_WRITE, MAP_SHARED, made.fd_, 0);
    if (at == MAP_FAILED)
        return tl::unexpected(fmt::format("stats segment {}: {}", path, std::strerror(errno)));
    made.header_ = static_cast<api::stats_header*>(at);
    api::stats_header& h = *made.header_;
    if (h.magic != api::stats_magic || h.version != api::stats_version || h.workers != workers ||
        h.max_flows != max_flows)
        std::memset(at, 0, s.total);
    h.version = api::stats_version;
    h.workers = static_cast<std::uint16_t>(workers);
    h.max_flows = max_flows;
    h.worker_offset = s.workers;
    h.flow_offset = s.flows;
    h.pid = static_cast<std::uint64_t>(getpid());
    h.magic = api::stats_magic;
    auto* base = static_cast<std::byte*>(at);
    made.workers_ = {reinterpret_cast<api::worker_stats*>(base + s.workers), workers};
    made.flows_ = {reinterpret_cast<api::flow_stats*>(base + s.flows), max_flows};
    return made;
}

stats_file::stats_file(stats_file&& other) noexcept
    : lock_(std::move(other.lock_)), path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)),
      made_here_(std::exchange(other.made_here_, false)), bytes_(other.bytes_),
      header_(std::exchange(other.header_, nullptr)), workers_(other.workers_), flows_(other.flows_) {}

stats_file::~stats_file() {
    if (made_here_)
        remove();
    if (header_ != nullptr)
        munmap(header_, bytes_);
    if (fd_ >= 0)
        close(fd_);
}

void stats_file::let_go() noexcept {
    lock_.reset();
}

void stats_file::remove() noexcept {
    unlink(path_.c_str());
}

} // namespace tandem::app
