// SPDX-License-Identifier: Apache-2.0
// The ops socket: one JSON object per line each way, answered in order (ops_protocol.hpp). Mode 0600: whoever may
// connect may operate. Owner thread: io_context.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>
#include <string>

#include <tl/expected.hpp>

#include "controlplane/app/local_listener.hpp"
#include "controlplane/app/ops_verbs.hpp"

namespace tandem::control {

class ops_server {
public:
    ops_server(asio::io_context& io, std::string path, verbs& answers);
    [[nodiscard]] tl::expected<void, std::string> start() { return listener_.start(); } // the error is a sentence
    void stop() { listener_.stop(); }

private:
    asio::awaitable<void> serve(local_listener::socket client);

    verbs& verbs_;
    local_listener listener_;
};

} // namespace tandem::control
