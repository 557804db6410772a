// SPDX-License-Identifier: Apache-2.0
// See socket.hpp.
#include "bench/load/socket.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <cstdio>
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

// A socket stays in the namespace where it was made; the thread goes back.
int socket_in(const std::string& netns, int family, int type, int protocol) {
    int home = -1, there = -1;
    if (!netns.empty()) {
        home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        there = open_netns(netns);
        if (setns(there, CLONE_NEWNET) != 0)
            throw failure(fmt::format("network namespace {}: {}", netns, std::strerror(errno)));
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

int open_netns(const std::string& name) {
    const std::string path = name.find('/') == std::string::npos ? "/run/netns/" + name : name;
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        throw failure(fmt::format("network namespace {}: {}", name, std::strerror(errno)));
    return fd;
}

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

frame_socket open_frame_socket(const std::string& interface, const std::string& netns) {
    const int fd = socket_in(netns, AF_PACKET, SOCK_RAW, 0);
    ifreq request{};
    interface.copy(request.ifr_name, IFNAMSIZ - 1);
    frame_socket made{fd, {}, 0};
    sockaddr_ll to{};
    to.sll_family = AF_PACKET;
    const bool found = ioctl(fd, SIOCGIFINDEX, &request) == 0; // in the socket's own namespace
    to.sll_ifindex = request.ifr_ifindex;
    made.index = static_cast<unsigned>(request.ifr_ifindex);
    if (!found || bind(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) {
        const std::string why = std::strerror(errno);
        close(fd);
        throw failure(fmt::format("--interface {}: {}", interface, why));
    }
    enlarge(fd);
    if (ioctl(fd, SIOCGIFHWADDR, &request) == 0)
        std::memcpy(made.mac.data(), request.ifr_hwaddr.sa_data, made.mac.size());
    const int bypass = 1;
    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &bypass, sizeof bypass);
    return made;
}

mac_address parse_mac(const std::string& text) {
    mac_address m{};
    char rest = 0;
    if (std::sscanf(text.c_str(), "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%c", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5],
                    &rest) != 6)
        throw usage_error(fmt::format("--to-mac: \"{}\" is not like 02:00:00:00:00:01", text));
    return m;
}

frame_header make_frame_header(const mac_address& from, const mac_address& to, const sockaddr_storage& source,
                               const sockaddr_storage& destination, std::size_t payload) {
    if (source.ss_family != AF_INET || destination.ss_family != AF_INET)
        throw usage_error("--interface with streams is for IPv4; leave it out for IPv6");
    const auto& a = reinterpret_cast<const sockaddr_in&>(source);
    const auto& b = reinterpret_cast<const sockaddr_in&>(destination);
    frame_header h{};
    std::copy(to.begin(), to.end(), h.begin());
    std::copy(from.begin(), from.end(), h.begin() + 6);
    h[12] = 0x08;
    std::uint8_t* ip = h.data() + 14;
    ip[0] = 0x45;
    const std::uint16_t total = htons(static_cast<std::uint16_t>(payload + 28));
    std::memcpy(ip + 2, &total, 2);
    ip[6] = 0x40; // do not fragment
    ip[8] = 64;
    ip[9] = IPPROTO_UDP;
    std::memcpy(ip + 12, &a.sin_addr, 4);
    std::memcpy(ip + 16, &b.sin_addr, 4);
    std::uint32_t sum = 0;
    for (unsigned i = 0; i < 20; i += 2)
        sum += static_cast<std::uint32_t>(ip[i] << 8 | ip[i + 1]);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = ~(sum + (sum >> 16)) & 0xffff;
    ip[10] = static_cast<std::uint8_t>(sum >> 8);
    ip[11] = static_cast<std::uint8_t>(sum);
    std::memcpy(ip + 20, &a.sin_port, 2);
    std::memcpy(ip + 22, &b.sin_port, 2);
    const std::uint16_t udp = htons(static_cast<std::uint16_t>(payload + 8));
    std::memcpy(ip + 24, &udp, 2);
    return h;
}

std::uint64_t now_ns() noexcept {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_nsec);
}

} // namespace tandem::load
