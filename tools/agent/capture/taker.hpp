// SPDX-License-Identifier: Apache-2.0
// Where what was captured goes. The io_context's thread.
#pragma once

#include <asio/ip/tcp.hpp>

namespace tandem::agent {

class taker {
public:
    virtual ~taker() = default;
    // A program's connection, and what it meant to reach. It was told that it is connected: where the destination
    // cannot be had, the connection is to be reset (SO_LINGER of 0), not closed.
    virtual void take(asio::ip::tcp::socket program, const asio::ip::tcp::endpoint& destination) = 0;
};

} // namespace tandem::agent
