// SPDX-License-Identifier: Apache-2.0
// One listen address of ng as several sockets, so that who floods fills a queue of the kernel's that is not
// everybody's: each proxy that [ng] from names has its own, this host has one, all others share some by their address;
// each has lanes by the sender's port. What may not ask ends before any queue. The kernel decides by classic BPF
// programs (SO_ATTACH_REUSEPORT_CBPF, SO_ATTACH_FILTER), for which no privilege is needed.
#pragma once

#include <asio/io_context.hpp>
#include <asio/ip/udp.hpp>
#include <cstdint>
#include <vector>

#include <linux/filter.h>
#include <tl/expected.hpp>

#include "controlplane/callcontrol/asker.hpp"

namespace tandem::callcontrol {

struct who_asks {
    std::vector<network> from;  // empty: anybody
    std::vector<network> never; // though `from` says so
};

class source_queues {
public:
    static constexpr unsigned lanes = 4;        // of a source: a power of two
    static constexpr unsigned groups = 8;       // of sources that have none of their own: a power of two
    static constexpr unsigned most_own = 8;     // proxies with one; further ones are of the groups
    static constexpr unsigned most_rules = 150; // more prefixes than that are not looked at by the kernel

    // Where a datagram goes: socket 0 is the strangers', whose queue takes nothing.
    source_queues(const asio::ip::address& where, who_asks who);
    [[nodiscard]] unsigned sockets() const noexcept { return first_group_ + (alone_ ? 0 : groups * lanes); }
    [[nodiscard]] const std::vector<sock_filter>& program() const noexcept { return program_; }

    // All bound to the address and that port (0: to one that is free), the strangers' first. Where the kernel takes no
    // program it spreads datagrams over all of them, strangers' too.
    [[nodiscard]] tl::expected<std::vector<asio::ip::udp::socket>, asio::error_code> bind(asio::io_context& io,
                                                                                          std::uint16_t port) const;

private:
    void add(std::uint16_t code, std::uint32_t k, std::uint8_t yes = 0, std::uint8_t no = 0) {
        program_.push_back({code, yes, no, k});
    }
    void match(const network& one, const std::vector<sock_filter>& then);
    void to_group();
    void to_lane(std::vector<sock_filter>& out, unsigned first) const;

    static constexpr unsigned own_host = 1; // the first of its lanes
    asio::ip::address where_;
    bool ipv4_, alone_; // alone: on a loopback address, where nobody else's come
    unsigned first_group_ = 0;
    std::vector<sock_filter> program_;
};

// Datagrams that its queue did not take, since it was made; wraps.
[[nodiscard]] std::uint32_t dropped_by(asio::ip::udp::socket& socket);

} // namespace tandem::callcontrol
