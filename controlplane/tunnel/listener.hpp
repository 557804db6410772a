// SPDX-License-Identifier: Apache-2.0
// Accepts primaries on several addresses, drives their TLS handshakes within limits of time and number, and writes the
// audit line of each that fails (RIM-04): who it claimed to be and from where, never a key.
// Owner thread: the io_context's.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/ssl/context.hpp>
#include <chrono>
#include <functional>
#include <list>
#include <memory>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/protocol/tls.hpp"
#include "controlplane/tunnel/connection.hpp"
#include "controlplane/tunnel/handshake_queue.hpp"

namespace tandem::tunnel {

struct limits {
    std::chrono::milliseconds first_byte{1000}; // of a connection
    std::chrono::milliseconds handshake{5000};  // from then on
    std::size_t silent = 8192;                  // connections without a ClientHello; the oldest go for newer ones
    std::size_t half_open = 256;                // handshakes after it (handshake_queue)
    std::size_t connections = 4096;
    std::size_t queue_bytes = 256 * 1024;
};

class listener : public std::enable_shared_from_this<listener> {
public:
    // Is this authenticated id code a unit's?
    using admission = std::function<bool(const protocol::peer_identity&)>;
    using ready_handler = std::function<void(std::shared_ptr<connection>)>;

    listener(asio::io_context&, protocol::ssl_context, limits, std::shared_ptr<counters>, admission, ready_handler);

    [[nodiscard]] tl::expected<void, std::string> start(const std::vector<asio::ip::tcp::endpoint>&);
    void stop();
    [[nodiscard]] std::vector<asio::ip::tcp::endpoint> endpoints() const;
    [[nodiscard]] SSL_CTX* tls() { return context_.native_handle(); }

private:
    asio::awaitable<void> accept_loop(std::shared_ptr<listener> self, asio::ip::tcp::acceptor& acceptor);
    asio::awaitable<void> handshake(std::shared_ptr<listener> self, asio::ip::tcp::socket socket);
    [[nodiscard]] asio::awaitable<bool> greeted(asio::ip::tcp::socket& socket);
    void take(const std::shared_ptr<listener>& self, asio::ip::tcp::socket socket);
    void make_room();
    [[nodiscard]] bool is_room();
    void failed(SSL*, const asio::ip::tcp::endpoint& remote, const std::error_code&, bool timed_out);
    void audit(const std::string& line);

    asio::io_context& io_;
    asio::ssl::context context_;
    limits limits_;
    std::shared_ptr<counters> count_;
    admission admitted_;
    ready_handler ready_;
    std::list<asio::ip::tcp::acceptor> acceptors_;
    struct silent_place;
    std::list<silent_place*> silent_; // connections without a ClientHello, oldest first
    handshake_queue half_open_;
    std::list<std::weak_ptr<connection>> connections_; // swept when the limit is near
    bool stopped_ = false;
    std::chrono::steady_clock::time_point audit_second_{};
    unsigned audit_lines_ = 0, audit_suppressed_ = 0;
};

} // namespace tandem::tunnel
