// SPDX-License-Identifier: Apache-2.0
// [names]: a name server for this device's programs. It answers for the names of forwarded ports and passes the rest on
// to a server of the network, unchanged but for the query's id, from a port of its own each (RFC 5452). UDP and TCP.
// The io_context's thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/ip/udp.hpp>
#include <nlohmann/json_fwd.hpp>
#include <tl/expected.hpp>

#include "controlplane/link/tcp_acceptor.hpp"
#include "tools/agent/names/settings.hpp"

namespace tandem::agent {

class name_stub : public std::enable_shared_from_this<name_stub> {
public:
    static constexpr std::size_t most_passed_on = 256, most_connections = 32; // at once
    struct counters {
        std::uint64_t answered = 0, passed_on = 0;
        std::uint64_t unanswered = 0; // by any server
        std::uint64_t malformed = 0;
        std::uint64_t no_room = 0;
    };
    name_stub(asio::io_context& io, name_settings settings)
        : io_(io), settings_(std::move(settings)), socket_(io), acceptor_(io) {}

    // Binds, while the agent still may. The error is a sentence.
    [[nodiscard]] tl::expected<void, std::string> listen();
    void start();
    void stop();
    [[nodiscard]] const counters& count() const noexcept { return count_; }
    [[nodiscard]] nlohmann::json describe() const;

private:
    using udp = asio::ip::udp;
    using tcp = asio::ip::tcp;
    using message = std::vector<std::uint8_t>;

    // What is to be sent back at once; empty: nothing, or `pass` says that a server is to be asked.
    [[nodiscard]] message decide(std::span<const std::uint8_t> query, bool& pass);
    asio::awaitable<void> receive();
    asio::awaitable<void> pass_on(message query, udp::endpoint from);
    asio::awaitable<message> ask(const link::endpoint& server, message& query);
    asio::awaitable<void> accept();
    asio::awaitable<void> serve(std::shared_ptr<tcp::socket>);
    asio::awaitable<message> ask_by_tcp(const link::endpoint& server, const message& query);

    asio::io_context& io_;
    name_settings settings_;
    udp::socket socket_;
    link::tcp_acceptor acceptor_;
    std::size_t asking_ = 0, connections_ = 0; // now
    std::array<std::uint8_t, 65535> in_{};
    counters count_;
};

} // namespace tandem::agent
