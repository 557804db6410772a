// SPDX-License-Identifier: Apache-2.0
// Accepting. See tcp_acceptor.hpp.
#include "controlplane/link/tcp_acceptor.hpp"

#include <asio/ip/v6_only.hpp>
#include <asio/steady_timer.hpp>

#include "controlplane/link/with.hpp"

namespace tandem::link {

using asio::ip::tcp;

namespace {
constexpr auto pause_when_short = std::chrono::milliseconds(100);
}

std::error_code tcp_acceptor::open(const endpoint& where) {
    const tcp::endpoint at(where.address, where.port);
    std::error_code error;
    acceptor_.open(at.protocol(), error);
    if (!error)
        acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error && where.address.is_v6())
        acceptor_.set_option(asio::ip::v6_only(true), error);
    if (!error)
        acceptor_.bind(at, error);
    if (!error)
        acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (!error)
        acceptor_.non_blocking(true, error);
    return error;
}

asio::awaitable<std::unique_ptr<tls_tcp>> tcp_acceptor::accept(std::error_code& error) {
    auto socket = co_await acceptor_.async_accept(with(error));
    if (error)
        co_return nullptr;
    co_return std::make_unique<tls_tcp>(std::move(socket), options_);
}

asio::awaitable<void> tcp_acceptor::each(std::function<void(tcp::socket)> take, std::function<void()> short_of) {
    while (is_open()) {
        std::error_code error;
        auto socket = co_await acceptor_.async_accept(with(error));
        if (!error) {
            take(std::move(socket));
        } else if (error == asio::error::operation_aborted) {
            co_return;
        } else if (error != asio::error::connection_aborted) {
            if (short_of)
                short_of();
            asio::steady_timer pause(io_, pause_when_short);
            co_await pause.async_wait(with(error));
        }
    }
}

std::unique_ptr<tls_tcp> tcp_acceptor::accept_waiting() {
    std::error_code error;
    auto socket = acceptor_.accept(io_, error);
    return error ? nullptr : std::make_unique<tls_tcp>(std::move(socket), options_);
}

void tcp_acceptor::close() {
    std::error_code ignored;
    acceptor_.close(ignored);
}

endpoint tcp_acceptor::local() const {
    std::error_code gone;
    const auto at = acceptor_.local_endpoint(gone);
    return gone ? endpoint{} : endpoint{at.address(), at.port()};
}

} // namespace tandem::link
