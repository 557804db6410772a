// SPDX-License-Identifier: Apache-2.0
// Where what was captured goes. The io_context's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include <asio/ip/tcp.hpp>
#include <asio/ip/udp.hpp>

namespace tandem::agent {

// One program's datagram socket, on its way; its end is the program's, or of who was idle.
class datagram_way {
public:
    virtual ~datagram_way() = default;
    virtual void send(const asio::ip::udp::endpoint& destination, std::span<const std::uint8_t> datagram) = 0;
};

// A datagram to the program. Lost where the program never sent to `from`, as at many a firewall. Not after the way's
// end.
using datagram_return =
    std::function<void(const asio::ip::udp::endpoint& from, std::span<const std::uint8_t> datagram)>;

class taker {
public:
    virtual ~taker() = default;
    // A program's connection, and what it meant to reach. It was told that it is connected: where the destination
    // cannot be had, the connection is to be reset (SO_LINGER of 0), not closed.
    virtual void take(asio::ip::tcp::socket program, const asio::ip::tcp::endpoint& destination) = 0;
    // A program's socket that sends its first datagram, of that family; null: there is no room, which is counted.
    [[nodiscard]] virtual std::unique_ptr<datagram_way> take_datagrams(const asio::ip::udp& family,
                                                                       datagram_return back) = 0;
};

} // namespace tandem::agent
