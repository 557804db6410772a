// SPDX-License-Identifier: Apache-2.0
// UDP sockets of the load, made in whatever network namespace the user names, with large buffers and a count of what
// the kernel dropped because the receive buffer was full.
#pragma once

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

// A raw frame socket on an interface.
[[nodiscard]] int open_frame_socket(const std::string& interface, const std::string& netns);

[[nodiscard]] std::uint64_t now_ns() noexcept; // CLOCK_MONOTONIC

} // namespace tandem::load
