// SPDX-License-Identifier: Apache-2.0
// TLS over TCP as a transport. OpenSSL reads and writes the socket in place (a BIO of our own), so nothing lies between
// them and an idle connection holds no buffer. Until its handshake a connection costs a socket. Limits in time are its
// user's, who calls close(). Owner thread: the executor's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include <asio/ip/tcp.hpp>

#include "controlplane/link/transport.hpp"
#include "controlplane/protocol/tls.hpp"

namespace tandem::link {

enum class side { client, server };

struct tls_options {
    int unsent_limit = 16384; // TCP_NOTSENT_LOWAT: octets that wait in the kernel before control that comes later
    std::uint64_t records_per_key = std::uint64_t{1} << 23; // of the 2^24.5 that RFC 8446 5.5 allows; then new keys
};

class tls_tcp final : public transport {
public:
    static constexpr std::size_t record = 16384; // what add() fills at most, unless one frame is longer

    explicit tls_tcp(const asio::any_io_executor& executor, tls_options options = {})
        : socket_(executor), options_(options) {}
    explicit tls_tcp(asio::ip::tcp::socket connected, tls_options options = {});

    // Client: TCP alone. prepare: of the socket before it connects (binds it, sets options); its error ends it.
    using preparation = std::function<std::error_code(int socket)>;
    [[nodiscard]] asio::awaitable<void> connect(endpoint to, std::error_code&, preparation prepare = {});
    // Server: waits until a whole ClientHello is there to be read, `begun` being called at its first octets. False: the
    // connection ended before.
    [[nodiscard]] asio::awaitable<bool> greeted(std::function<void()> begun);
    [[nodiscard]] asio::awaitable<void> handshake(SSL_CTX*, side, std::error_code&);

    // Server. See protocol::authenticated_peer() and offered_peer(); the latter also after a handshake that failed.
    [[nodiscard]] std::optional<protocol::peer_identity> peer() const;
    [[nodiscard]] std::optional<protocol::offered_identity> offered() const;
    // For tests: what was agreed.
    [[nodiscard]] SSL* native() const noexcept { return ssl_.get(); }

    [[nodiscard]] protocol::carrier kind() const noexcept override { return protocol::carrier::stream; }
    [[nodiscard]] asio::any_io_executor executor() override { return socket_.get_executor(); }
    [[nodiscard]] endpoint local() const override;
    [[nodiscard]] endpoint remote() const override { return remote_; }
    [[nodiscard]] std::string cipher() const override;
    [[nodiscard]] bool exported(std::string_view label, std::span<const std::uint8_t> context,
                                std::span<std::uint8_t> out) const override;
    [[nodiscard]] bool add(std::span<const std::uint8_t> frame) override;
    [[nodiscard]] asio::awaitable<void> flush(std::error_code&) override;
    [[nodiscard]] asio::awaitable<void> receive(const frame_handler&, std::error_code&) override;
    [[nodiscard]] asio::awaitable<void> shutdown(std::error_code&) override;
    void close() noexcept override;
    [[nodiscard]] bool is_open() const noexcept override { return socket_.is_open(); }

private:
    friend struct socket_bio;
    using tcp = asio::ip::tcp;
    struct ssl_free {
        void operator()(SSL* ssl) const noexcept { SSL_free(ssl); }
    };

    void tune();
    [[nodiscard]] std::error_code make_ssl(SSL_CTX*, side);
    template <class Call>
    asio::awaitable<void> drive(Call, std::error_code&);
    [[nodiscard]] tcp::socket::wait_type obstacle(int result, std::error_code&);
    asio::awaitable<void> wait(tcp::socket::wait_type, std::error_code&);
    [[nodiscard]] bool fill(tcp::socket::wait_type& then);
    void hand_up(const frame_handler&);
    void give_input_back();
    void count_records();
    void batch_is_out();

    tcp::socket socket_;
    tls_options options_;
    endpoint remote_;
    std::unique_ptr<SSL, ssl_free> ssl_;
    protocol::framer framer_{0};
    protocol::wiped_bytes batch_;
    std::size_t control_end_ = 0; // of batch_: up to here it may hold a seed
    std::uint64_t records_ = 0;   // under the sending keys
    std::error_code io_error_;    // of the socket, in the call of OpenSSL that is under way
    std::error_code read_error_;  // not told yet
    bool socket_empty_ = false;   // a read got less than it asked for: not again before the socket says so
    bool more_ = false;           // the last receive() left something
};

} // namespace tandem::link
