// SPDX-License-Identifier: Apache-2.0
// The status socket <run_dir>/agent.sock: whoever connects gets one JSON object and the end of the stream. No key is in
// it. Server half on the agent's io_context; client half for `tandem-agent status`.
#pragma once

#include <functional>
#include <string>

#include <asio/io_context.hpp>
#include <asio/local/stream_protocol.hpp>
#include <tl/expected.hpp>

namespace tandem::agent {

inline constexpr std::string_view status_socket_name = "agent.sock";

class status_server {
public:
    // A socket that is left over is replaced; one that answers belongs to a running agent and is an error.
    // The socket is given to `user` where we are root, mode 0600.
    [[nodiscard]] static tl::expected<std::unique_ptr<status_server>, std::string>
    open(asio::io_context& io, const std::string& directory, const std::string& user);
    ~status_server();
    status_server(const status_server&) = delete;
    status_server& operator=(const status_server&) = delete;

    void serve(std::function<std::string()> describe);
    void close();

private:
    status_server(asio::io_context& io, std::string path) : acceptor_(io), path_(std::move(path)) {}
    void accept();
    asio::local::stream_protocol::acceptor acceptor_;
    std::string path_;
    std::function<std::string()> describe_;
};

// The running agent's JSON, or a sentence.
[[nodiscard]] tl::expected<std::string, std::string> read_status(const std::string& directory);

} // namespace tandem::agent
