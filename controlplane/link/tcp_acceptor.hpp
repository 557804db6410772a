// SPDX-License-Identifier: Apache-2.0
// Where connections come in: one listening socket. Owner thread: the io_context's.
#pragma once

#include <functional>
#include <memory>

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>

#include "controlplane/link/tls_tcp.hpp"

namespace tandem::link {

class tcp_acceptor {
public:
    explicit tcp_acceptor(asio::io_context& io, tls_options options = {}) : io_(io), options_(options), acceptor_(io) {}

    [[nodiscard]] std::error_code open(const endpoint& at); // IPv6 for itself; port 0: the kernel chooses
    [[nodiscard]] asio::awaitable<std::unique_ptr<tls_tcp>> accept(std::error_code&);
    // Every connection as it is, until close(). Where descriptors are short they wait in the backlog, and `short_of` is
    // told now and then.
    [[nodiscard]] asio::awaitable<void> each(std::function<void(asio::ip::tcp::socket)> take,
                                             std::function<void()> short_of = {});
    // One that waits already; nothing else.
    [[nodiscard]] std::unique_ptr<tls_tcp> accept_waiting();
    void close();
    [[nodiscard]] bool is_open() const { return acceptor_.is_open(); }
    [[nodiscard]] endpoint local() const;

private:
    asio::io_context& io_;
    tls_options options_;
    asio::ip::tcp::acceptor acceptor_;
};

} // namespace tandem::link
