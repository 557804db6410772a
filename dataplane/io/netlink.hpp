// SPDX-License-Identifier: Apache-2.0
// Inside of io: the little of rtnetlink that next hops need, over libmnl. Control thread only.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <tl/expected.hpp>

namespace tandem::io {

// A message's attributes by type; those of types >= 64 are left out.
class attributes {
public:
    attributes(const nlmsghdr* message, std::size_t header) noexcept;
    explicit attributes(const nlattr* nest) noexcept;

    [[nodiscard]] const nlattr* operator[](unsigned type) const noexcept { return found_[type]; }
    [[nodiscard]] std::uint32_t u32(unsigned type, std::uint32_t missing = 0) const noexcept;
    [[nodiscard]] std::uint16_t u16(unsigned type, std::uint16_t missing = 0) const noexcept;
    [[nodiscard]] std::span<const std::uint8_t> bytes(unsigned type) const noexcept;

private:
    static int keep(const nlattr* attribute, void* self);
    std::array<const nlattr*, 64> found_{};
};

class netlink_socket {
public:
    using handler = std::function<void(const nlmsghdr*)>;

    // groups: RTNLGRP_*; with any, the socket is non-blocking and only listens.
    [[nodiscard]] static tl::expected<netlink_socket, std::string> open(std::span<const unsigned> groups);
    netlink_socket(netlink_socket&& other) noexcept;
    netlink_socket& operator=(netlink_socket&&) = delete;
    ~netlink_socket();

    [[nodiscard]] int fd() const noexcept { return mnl_socket_get_fd(socket_); }

    // Sends the request and gives every message of the answer to `each`; errno of the outcome, 0 = done.
    int request(nlmsghdr* message, const handler& each);

    // Everything that is waiting; false where the kernel had to leave some out (read everything again).
    bool drain(const handler& each);

private:
    explicit netlink_socket(mnl_socket* socket) noexcept : socket_(socket) {}
    mnl_socket* socket_;
    std::uint32_t sequence_ = 0;
};

} // namespace tandem::io
