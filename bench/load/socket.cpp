// SPDX-License-Identifier: Apache-2.0
// See socket.hpp.
#include "bench/load/socket.hpp"

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/sock_diag.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <fmt/format.h>

#include "bench/load/options.hpp"

namespace tandem::load {

namespace {

constexpr int buffer_bytes = 64 << 20;

int enter(const std::string& netns) {
    const std::string path = netns.find('/') == std::string::npos ? "/run/netns/" + netns : netns;
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) != 0)
        throw failure(fmt::format("network namespace {}: {}", netns, std::strerror(errno)));
    return fd;
}

// A socket stays in the namespace where it was made; the thread goes back.
int socket_in(const std::string& netns, int family, int type, int protocol) {
    int home = -1, there = -1;
    if (!netns.empty()) {
        home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        there = enter(netns);
    }
    const int fd = socket(family, type | SOCK_CLOEXEC, protocol);
    const int error = errno;
    if (home >= 0 && setns(home, CLONE_NEWNET) != 0)
        throw failure("cannot return to the own network namespace");
    close(home);
    close(there);
    if (fd < 0)
        throw failure(fmt::format("no socket: {}", std::strerror(error)));
    return fd;
}

void enlarge(int fd) {
    for (const auto& [forced, plain] : {std::pair{SO_RCVBUFFORCE, SO_RCVBUF}, std::pair{SO_SNDBUFFORCE, SO_SNDBUF}})
        if (setsockopt(fd, SOL_SOCKET, forced, &buffer_bytes, sizeof buffer_bytes) != 0)
            setsockopt(fd, SOL_SOCKET, plain, &buffer_bytes, sizeof buffer_bytes);
}

} // namespace

udp_socket::udp_socket(const sockaddr_storage& bind_to, socklen_t length, const std::string& netns)
    : fd_(socket_in(netns, bind_to.ss_family, SOCK_DGRAM | SOCK_NONBLOCK, 0)) {
    enlarge(fd_);
    if (bind(fd_, reinterpret_cast<const sockaddr*>(&bind_to), length) != 0) {
        const std::string why = std::strerror(errno);
        close(std::exchange(fd_, -1));
        throw failure(
            fmt::format("cannot bind a local address: {}; --from and --receive name addresses of this host", why));
    }
}

udp_socket::~udp_socket() {
    if (fd_ >= 0)
        close(fd_);
}

std::uint64_t udp_socket::dropped() const noexcept {
    std::uint32_t info[SK_MEMINFO_VARS] = {};
    socklen_t size = sizeof info;
    if (getsockopt(fd_, SOL_SOCKET, SO_MEMINFO, info, &size) != 0)
        return 0;
    return info[SK_MEMINFO_DROPS];
}

int open_frame_socket(const std::string& interface, const std::string& netns) {
    const int fd = socket_in(netns, AF_PACKET, SOCK_RAW, 0);
    ifreq request{};
    interface.copy(request.ifr_name, IFNAMSIZ - 1);
    sockaddr_ll to{};
    to.sll_family = AF_PACKET;
    const bool found = ioctl(fd, SIOCGIFINDEX, &request) == 0; // in the socket's own namespace
    to.sll_ifindex = request.ifr_ifindex;
    if (!found || bind(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) {
        const std::string why = std::strerror(errno);
        close(fd);
        throw failure(fmt::format("--interface {}: {}", interface, why));
    }
    enlarge(fd);
    const int bypass = 1;
    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &bypass, sizeof bypass);
    return fd;
}

std::uint64_t now_ns() noexcept {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_nsec);
}

} // namespace tandem::load
