// SPDX-License-Identifier: Apache-2.0
// The unit's primary: keeps one configured connection to one of its gateways, for ever. CONFIG (resumed after a loss),
// KEEPALIVE, renewal before the lifetime ends (the next connection is ready before the old one goes), RELEASE at the
// end, exponential back-off with jitter over the list of gateways. Media outlive a connection; they end with the
// session.
//
// Owner: the agent's io_context, one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#include <nlohmann/json_fwd.hpp>

#include "tools/agent/config.hpp"
#include "tools/agent/device/tun.hpp"
#include "tools/agent/link/connection.hpp"
#include "tools/agent/media/table.hpp"

namespace tandem::agent {

// What a CONFIG response says.
struct session_settings {
    std::uint64_t tsid = protocol::no_tsid;
    std::vector<inner_address> addresses;
    std::vector<ip_bytes> inner_gateways;
    std::chrono::milliseconds keepalive{5000};
    std::chrono::seconds lifetime{86400};
    std::uint16_t mtu = 1280;
    std::vector<link::endpoint> servers;
};

[[nodiscard]] tl::expected<session_settings, std::string> read_settings(const protocol::message& response);

class primary {
public:
    struct hooks {
        std::function<void(std::span<const std::uint8_t>)> packet; // to the TUN
        // Addresses are to be set; an error ends the program (nothing would work).
        std::function<tl::expected<void, std::string>(const session_settings&)> configured;
        // CONTACT's answer; without it the unit has no advice.
        std::function<protocol::message(const protocol::message&)> contact{};
        // The primary is up over this path, or no gateway answered over it. It may move().
        std::function<void(const path_place&, bool up)> reached{};
        // Streams ride on the primary: what CONFIG says of them (nothing: none here), and what became of it.
        std::function<std::optional<std::uint8_t>(std::uint64_t tsid)> streams{};
        std::function<void(connection&, std::uint64_t tsid, std::optional<std::uint8_t>)> carried{};
    };
    struct counters {
        std::uint64_t connects = 0, failures = 0, renewals = 0, sessions = 0;
        std::uint64_t moves = 0;        // to another path while the old one served
        std::uint64_t dropped_down = 0; // packets from the TUN while there is no primary
        std::uint64_t dropped_full = 0; // while its queue was full
    };

    primary(asio::io_context& io, const agent_config& config, protocol::ssl_context tls, media_table& media,
            hooks hook);

    void start();
    // RELEASE, then everything is closed and wiped; run() of the io_context ends when the rest does.
    asio::awaitable<void> stop();
    // Back-pressure: true while the TUN should not be read (only where no media would suffer from that).
    [[nodiscard]] bool wants_pause() const noexcept;
    void send(std::span<const std::uint8_t> packet);
    // From now on by this path (an empty one: by none, what is there stays). soft: the next connection is made over it
    // while the one that is there serves, as in a renewal. hard: that one is closed and the next made at once.
    // True: what is there leaves by it already.
    bool move(const path_place& to, move_kind kind);

    // What was replaced is closed where its network is gone: nothing more comes there, and what rides on it is not to
    // wait for an answer.
    void links_changed(const links& now);

    [[nodiscard]] bool up() const noexcept { return current_ != nullptr; }
    [[nodiscard]] const link::endpoint& gateway() const noexcept { return gateways_[gateway_]; }
    [[nodiscard]] const session_settings& settings() const noexcept { return settings_; }
    [[nodiscard]] const std::string& fatal() const noexcept { return fatal_; }
    [[nodiscard]] nlohmann::json describe() const;

private:
    using connection_ptr = std::shared_ptr<connection>;
    asio::awaitable<void> run();
    asio::awaitable<tl::expected<connection_ptr, failure>> connect(link::endpoint gateway);
    asio::awaitable<void> serve();
    asio::awaitable<void> renew();
    [[nodiscard]] tl::expected<void, std::string> take_settings(session_settings fresh);
    [[nodiscard]] std::chrono::milliseconds backoff(unsigned attempt);
    asio::awaitable<void> sleep(std::chrono::steady_clock::duration time);
    void answer(connection& from, protocol::message request);
    void adopt(connection_ptr fresh);
    void lost(connection& gone);
    [[nodiscard]] bool wants_move() const noexcept;
    void tell_reached(path_place over, bool up);
    [[nodiscard]] std::chrono::steady_clock::time_point renewal_time() const;

    asio::io_context& io_;
    const agent_config& config_;
    protocol::ssl_context tls_;
    media_table& media_;
    hooks hook_;
    std::vector<link::endpoint> gateways_;
    std::size_t gateway_ = 0;
    std::shared_ptr<protocol::channel_driver> channel_; // whatever connection carries it
    connection_ptr current_;
    connection_ptr trying_;
    connection_ptr old_; // replaced, but what the gateway sent before it knew still arrives here
    session_settings settings_;
    std::chrono::steady_clock::time_point configured_at_{};
    asio::steady_timer timer_; // of run(), serve() and back-off: cancelled when something changes
    std::mt19937 random_{std::random_device{}()};
    counters count_;
    connection::counters past_; // of connections that are gone
    std::string last_error_, fatal_;
    path_place place_;              // the choice's; empty: the kernel's routes decide
    std::size_t refusals_here_ = 0; // gateways that did not answer over it, one after another
    bool hurry_ = false;            // no back-off before the next attempt
    bool telling_ = false;
    bool stopping_ = false;
};

} // namespace tandem::agent
