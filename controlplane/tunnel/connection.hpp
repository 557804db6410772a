// SPDX-License-Identifier: Apache-2.0
// One authenticated primary: frames in, frames out, over whatever link carries it. Control messages go ahead of inner
// packets and are never dropped; inner packets wait in a bounded queue whose oldest go first. With TCP_NOTSENT_LOWAT a
// control message waits for one write (16 KiB) of bulk data at most. Knows nothing of sessions. Owner thread: the
// io_context's.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/link/rider.hpp"
#include "controlplane/link/transport.hpp"
#include "controlplane/protocol/tls.hpp"
#include "controlplane/tunnel/counters.hpp"

namespace tandem::tunnel {

// Called on the io_context; the spans live as long as the call. Must not outlive detach().
struct connection_events {
    std::function<void(std::span<const std::uint8_t>)> on_control;
    std::function<void(std::span<const std::uint8_t>)> on_packet;
    std::function<void(std::string_view reason)> on_closed; // once
};

class connection : public std::enable_shared_from_this<connection> {
public:
    static constexpr std::size_t max_control_bytes = 1U << 20; // beyond it the peer does not read: closed

    connection(std::unique_ptr<link::transport>, protocol::peer_identity, std::shared_ptr<counters>,
               std::size_t queue_bytes);

    void start(connection_events);
    void send_control(protocol::wiped_bytes message);
    void send_packet(std::span<const std::uint8_t> packet);
    // At once; what is queued is lost. on_closed follows before this returns (unless detached).
    void close(std::string_view reason);
    // After what control messages are queued went out, or after a second.
    void finish(std::string_view reason);
    // Nobody listens any more: no event is called from now on.
    void detach() {
        detached_ = true;
        rider_.dismount();
    }
    // The session layer rides along from now on.
    void carry(link::rider::calls calls) { rider_.mount(std::move(calls)); }
    void ask_rider() noexcept {
        rider_.ask();
        wake_.cancel();
    }
    [[nodiscard]] const link::transport& carrier() const noexcept { return *link_; }

    [[nodiscard]] bool closed() const noexcept { return closed_; }
    [[nodiscard]] const protocol::peer_identity& peer() const noexcept { return peer_; }
    [[nodiscard]] link::endpoint remote() const { return link_->remote(); }
    [[nodiscard]] std::string cipher() const { return link_->cipher(); }

private:
    asio::awaitable<void> read_loop(std::shared_ptr<connection> self);
    asio::awaitable<void> write_loop(std::shared_ptr<connection> self);
    void take(const protocol::frame&);
    void compose();

    std::unique_ptr<link::transport> link_;
    protocol::peer_identity peer_;
    std::shared_ptr<counters> count_;
    std::size_t queue_limit_;
    connection_events events_;
    std::deque<protocol::wiped_bytes> control_;
    std::deque<std::vector<std::uint8_t>> packets_;
    std::size_t control_bytes_ = 0, packet_bytes_ = 0;
    link::rider rider_;
    asio::steady_timer wake_; // the writer's, cancelled when there is something to write
    asio::steady_timer deadline_;
    std::string reason_;
    bool closed_ = false, finishing_ = false, detached_ = false;
};

} // namespace tandem::tunnel
