// SPDX-License-Identifier: Apache-2.0
// The ops socket: one JSON object per line each way, answered in order (ops_protocol.hpp). Mode 0600: whoever may
// connect may operate. Owner thread: io_context.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>
#include <asio/local/stream_protocol.hpp>
#include <memory>
#include <string>

#include <tl/expected.hpp>

#include "controlplane/app/ops_verbs.hpp"

namespace tandem::control {

class ops_server {
public:
    ops_server(asio::io_context& io, std::string path, verbs& answers);
    ~ops_server();
    [[nodiscard]] tl::expected<void, std::string> start(); // the error is a sentence
    void stop();

private:
    asio::awaitable<void> accept();
    asio::awaitable<void> serve(asio::local::stream_protocol::socket socket);

    asio::io_context& io_;
    std::string path_;
    verbs& verbs_;
    asio::local::stream_protocol::acceptor acceptor_;
    std::size_t clients_ = 0;
};

} // namespace tandem::control
