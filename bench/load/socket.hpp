// SPDX-License-Identifier: Apache-2.0
// UDP sockets of the load, made in whatever network namespace the user names, with large buffers and a count of what
// the kernel dropped because the receive buffer was full.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <sys/socket.h>
#include <utility>

namespace tandem::load {

class udp_socket {
public:
    udp_socket(const sockaddr_storage& bind_to, socklen_t length, const std::string& netns);
    udp_socket(udp_socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    udp_socket& operator=(udp_socket&&) = delete;
    ~udp_socket();
    [[nodiscard]] int fd() const noexcept { return fd_; }
    // Datagrams that were dropped because the receive buffer was full.
    [[nodiscard]] std::uint64_t dropped() const noexcept;

private:
    int fd_;
};

[[nodiscard]] int open_netns(const std::string& name); // for setns

using mac_address = std::array<std::uint8_t, 6>;

// A raw frame socket on an interface, past its queueing discipline, and the interface's own address.
struct frame_socket {
    int fd;
    mac_address mac;
    unsigned index; // of the interface
};
[[nodiscard]] frame_socket open_frame_socket(const std::string& interface, const std::string& netns);
[[nodiscard]] mac_address parse_mac(const std::string& text);

// Ethernet, IPv4 and UDP headers of a datagram of `payload` bytes; the UDP checksum is left out (RFC 768).
inline constexpr std::size_t frame_header_bytes = 14 + 20 + 8;
using frame_header = std::array<std::uint8_t, frame_header_bytes>;
[[nodiscard]] frame_header make_frame_header(const mac_address& from, const mac_address& to,
                                             const sockaddr_storage& source, const sockaddr_storage& destination,
                                             std::size_t payload);

[[nodiscard]] std::uint64_t now_ns() noexcept; // CLOCK_MONOTONIC

} // namespace tandem::load
