// SPDX-License-Identifier: Apache-2.0
// A listening Unix stream socket in a directory of ours. Whoever may connect is one of its file's mode. Owner thread:
// io_context.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>
#include <asio/local/stream_protocol.hpp>
#include <functional>
#include <string>
#include <sys/types.h>

#include <tl/expected.hpp>

namespace tandem::control {

class local_listener {
public:
    using socket = asio::local::stream_protocol::socket;
    // Serves one client; what it throws ends that one. `what` names it in the log: "the ops socket".
    using serving = std::function<asio::awaitable<void>(socket)>;

    local_listener(asio::io_context& io, std::string what, std::string path, mode_t mode, serving serve);
    ~local_listener();
    local_listener(const local_listener&) = delete;
    local_listener& operator=(const local_listener&) = delete;
    [[nodiscard]] tl::expected<void, std::string> start(); // the error is a sentence
    void stop();

private:
    asio::awaitable<void> accept();
    asio::awaitable<void> serve(socket client);

    static constexpr std::size_t max_clients = 64;
    asio::io_context& io_;
    std::string what_, path_;
    mode_t mode_;
    serving serve_;
    asio::local::stream_protocol::acceptor acceptor_;
    std::size_t clients_ = 0;
};

} // namespace tandem::control
