// SPDX-License-Identifier: Apache-2.0
// One connection to a gateway: handshake, then control ahead of bulk. It carries a link of the unit's control
// channel, whose rules are in controlplane/protocol/channel.hpp. It lives until close(); who wants the next one makes
// it (primary.hpp).
//
// Owner: the agent's io_context, one thread. Coroutines hold the connection by shared_ptr.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#include <tl/expected.hpp>

#include "controlplane/link/rider.hpp"
#include "controlplane/link/tls_tcp.hpp"
#include "controlplane/protocol/channel_asio.hpp"
#include "tools/agent/roam/choice.hpp"

namespace tandem::agent {

// Why a connection or request came to nothing. `refused` = the gateway said no; trying at once again will not help.
struct failure {
    std::string text;
    bool refused = false;
    std::optional<protocol::status> code; // of the gateway's answer
};

class connection final : public protocol::channel_link, public std::enable_shared_from_this<connection> {
public:
    struct handlers {
        std::function<void(std::span<const std::uint8_t>)> packet; // an inner IP packet from the gateway
        std::function<void(connection&, protocol::message)> request;
        std::function<void(connection&)> lost; // once, after open() succeeded
    };
    struct counters {
        std::uint64_t rx_packets = 0, rx_bytes = 0, tx_packets = 0, tx_bytes = 0;
        std::uint64_t malformed = 0, bad_sequence = 0, unmatched = 0;
    };

    static constexpr std::size_t bulk_limit = 256 * 1024;      // bytes that wait for the wire
    static constexpr std::size_t max_control_bytes = 1U << 20; // beyond it the gateway does not read: closed

    connection(asio::io_context& io, SSL_CTX* tls, std::shared_ptr<protocol::channel_driver> channel,
               std::string id_code, handlers handle);

    // TCP and TLS. Afterwards reader and writer run. `from`: the path that it leaves by; empty: the kernel's routes
    // decide.
    [[nodiscard]] asio::awaitable<tl::expected<void, failure>>
    open(link::endpoint gateway, std::chrono::milliseconds patience, path_place from);
    // The first request; its answer makes this the link that requests go out on. The error is a time-out, the loss of
    // the connection, or a status that is not ok; request()'s too.
    [[nodiscard]] asio::awaitable<tl::expected<protocol::message, failure>>
    configure(protocol::message config, std::chrono::milliseconds patience);
    [[nodiscard]] asio::awaitable<tl::expected<protocol::message, failure>> request(protocol::message what,
                                                                                    std::chrono::milliseconds patience);
    // What the CONFIG's answer says is in force: the gateway's requests are handed up from now on, those that came
    // first.
    void begin();
    void respond(const protocol::message& answer) { channel_->answer(link_, answer); }
    // False where the queue is full: the packet was not taken.
    [[nodiscard]] bool send_packet(std::span<const std::uint8_t> packet);
    [[nodiscard]] bool bulk_full() const noexcept { return bulk_.size() - bulk_sent_ > bulk_limit; }

    // The session layer rides along from now on.
    void carry(link::rider::calls calls) { rider_.mount(std::move(calls)); }
    void ask_rider() noexcept {
        rider_.ask();
        if (!writing_)
            wake_.cancel();
    }
    [[nodiscard]] const link::transport& carrier() const noexcept { return carrier_; }

    void close(const std::string& why);
    [[nodiscard]] bool closed() const noexcept { return closed_; }
    [[nodiscard]] const std::string& why() const noexcept { return why_; }
    [[nodiscard]] bool fell_silent() const noexcept { return fell_silent_; }

    [[nodiscard]] std::string cipher() const { return carrier_.cipher(); }
    [[nodiscard]] const path_place& from() const noexcept { return from_; }
    [[nodiscard]] link::endpoint local() const { return carrier_.local(); }
    [[nodiscard]] link::endpoint gateway() const { return carrier_.remote(); }
    [[nodiscard]] const counters& count() const noexcept { return count_; }

private:
    void send(protocol::wiped_bytes message, bool request) override;
    void serve(protocol::message request) override;
    void hang_up(protocol::ending) override;
    void count(std::optional<protocol::status>) override;

    using reply = protocol::channel_driver::reply;
    [[nodiscard]] tl::expected<protocol::message, failure> read(std::string_view name, reply) const;
    [[nodiscard]] failure explain(const std::error_code& error, bool timed_out) const;
    asio::awaitable<void> read_loop();
    asio::awaitable<void> write_loop();
    void take_frame(const protocol::frame& frame);
    void compose(); // what goes out next

    asio::io_context& io_;
    link::tls_tcp carrier_;
    SSL_CTX* tls_;
    std::shared_ptr<protocol::channel_driver> channel_;
    protocol::link_id link_ = 0;
    std::string id_code_;
    handlers handle_;
    std::deque<protocol::message> early_; // requests before begin()
    std::deque<protocol::wiped_bytes> control_;
    std::size_t control_waits_ = 0; // bytes of it
    std::vector<std::uint8_t> bulk_;
    std::size_t bulk_sent_ = 0; // of bulk_, taken already
    link::rider rider_;
    asio::steady_timer wake_; // cancelled when there is something to write
    counters count_;
    path_place from_;
    bool writing_ = false, running_ = false, begun_ = false, closed_ = false, fell_silent_ = false;
    std::string why_;
};

} // namespace tandem::agent
