// SPDX-License-Identifier: Apache-2.0
// Accepts primaries on several addresses, drives their TLS handshakes within limits of time and number, and writes the
// audit line of each that fails (RIM-04): who it claimed to be and from where, never a key.
// Owner thread: the io_context's.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/link/tcp_acceptor.hpp"
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

    [[nodiscard]] tl::expected<void, std::string> start(const std::vector<link::endpoint>&);
    void stop();
    [[nodiscard]] std::vector<link::endpoint> endpoints() const;
    [[nodiscard]] SSL_CTX* tls() { return context_.get(); }

private:
    asio::awaitable<void> accept_loop(std::shared_ptr<listener> self, link::tcp_acceptor& acceptor);
    using arrival = std::unique_ptr<link::tls_tcp>;
    asio::awaitable<void> handshake(std::shared_ptr<listener> self, arrival);
    [[nodiscard]] asio::awaitable<bool> greeted(link::tls_tcp&);
    void take(const std::shared_ptr<listener>& self, arrival);
    void make_room();
    [[nodiscard]] bool is_room();
    [[nodiscard]] std::optional<protocol::peer_identity> proven_unit(const link::tls_tcp&);
    void failed(const link::tls_tcp&, const std::error_code&, bool timed_out);
    void audit(const std::string& line);

    asio::io_context& io_;
    protocol::ssl_context context_;
    limits limits_;
    std::shared_ptr<counters> count_;
    admission admitted_;
    ready_handler ready_;
    std::list<link::tcp_acceptor> acceptors_;
    struct silent_place;
    std::list<silent_place*> silent_; // connections without a ClientHello, oldest first
    handshake_queue half_open_;
    std::list<std::weak_ptr<connection>> connections_; // swept when the limit is near
    bool stopped_ = false;
    std::chrono::steady_clock::time_point audit_second_{};
    unsigned audit_lines_ = 0, audit_suppressed_ = 0;
};

} // namespace tandem::tunnel
