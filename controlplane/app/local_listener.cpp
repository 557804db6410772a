// SPDX-License-Identifier: Apache-2.0
// See local_listener.hpp.
#include "controlplane/app/local_listener.hpp"

#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include "controlplane/protocol/spawn.hpp"

namespace tandem::control {

local_listener::local_listener(asio::io_context& io, std::string what, std::string path, mode_t mode, serving serve)
    : io_(io), what_(std::move(what)), path_(std::move(path)), mode_(mode), serve_(std::move(serve)), acceptor_(io) {}

local_listener::~local_listener() {
    stop();
}

tl::expected<void, std::string> local_listener::start() {
    ::unlink(path_.c_str()); // ours: the lock on run_dir says that nobody else lives here
    asio::error_code error;
    acceptor_.open(asio::local::stream_protocol(), error);
    const auto before = ::umask(0777 & ~mode_);
    if (!error)
        acceptor_.bind(asio::local::stream_protocol::endpoint(path_), error);
    ::umask(before);
    if (!error)
        acceptor_.listen(16, error);
    if (error)
        return tl::unexpected(
            fmt::format("{} ({}) cannot be made: {}; check its directory", what_, path_, error.message()));
    protocol::spawn(io_, "acceptor of a local socket", accept());
    return {};
}

void local_listener::stop() {
    if (!acceptor_.is_open())
        return;
    asio::error_code ignored;
    acceptor_.close(ignored);
    ::unlink(path_.c_str());
}

asio::awaitable<void> local_listener::accept() {
    for (;;) {
        asio::error_code error;
        auto client = co_await acceptor_.async_accept(asio::redirect_error(asio::use_awaitable, error));
        if (error == asio::error::operation_aborted || error == asio::error::bad_descriptor)
            co_return;
        if (error) { // out of descriptors: wait, do not spin
            asio::steady_timer pause(io_, std::chrono::milliseconds(100));
            co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
            continue;
        }
        if (clients_ >= max_clients) {
            spdlog::warn("{} has {} clients: one more is turned away", what_, clients_);
            continue;
        }
        protocol::spawn_contained(io_, "client of a local socket", serve(std::move(client)), [this] { --clients_; });
    }
}

asio::awaitable<void> local_listener::serve(socket client) {
    ++clients_;
    co_await serve_(std::move(client));
    --clients_;
}

} // namespace tandem::control
