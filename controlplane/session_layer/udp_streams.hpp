// SPDX-License-Identifier: Apache-2.0
// Streams of datagrams towards services: for each one UDP socket of each address family that it needs, so that a
// service sees one peer whatever network the unit is on. Owner thread: the driver's executor's.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include <asio/ip/udp.hpp>

#include "controlplane/session_layer/driver.hpp"
#include "controlplane/session_layer/placed_datagram.hpp"
#include "controlplane/session_layer/tcp_streams.hpp"

namespace tandem::session_layer {

class udp_streams : public std::enable_shared_from_this<udp_streams> {
public:
    // Of a datagram. not_allowed: either way, malformed ones too; unsent: no room for a socket, or it did not take it;
    // lost: on its way to the other end, which is seen with the next one.
    enum class fate : std::uint8_t { to_service, from_service, not_allowed, unsent, lost };
    using allowed = std::function<bool(const link::endpoint&)>;
    using told = std::function<void(fate)>;

    // Each socket is one of the budget's connections. idle: after it a stream is reset (RFC 4787 REQ-5: 5 minutes); the
    // other end opens another one when it needs it.
    udp_streams(asio::any_io_executor executor, std::weak_ptr<driver> session,
                std::shared_ptr<tcp_streams::budget> shared, allowed may, told tell, std::chrono::seconds idle)
        : executor_(executor), session_(std::move(session)), budget_(std::move(shared)), may_(std::move(may)),
          tell_(std::move(tell)), idle_(idle), timer_(executor) {}

    void begin(stream_id);
    // What the session tells of streams; others it leaves alone.
    void on(const event&);
    void abort_all();

    [[nodiscard]] std::size_t size() const noexcept { return flows_.size(); }

private:
    using udp = asio::ip::udp;
    using clock = std::chrono::steady_clock;
    struct flow {
        std::array<std::shared_ptr<udp::socket>, 2> sockets{}; // IPv4, IPv6; made when needed
        clock::time_point used;
    };

    void send(flow&, stream_id, const placed_datagram&);
    [[nodiscard]] std::shared_ptr<udp::socket> open(stream_id, const udp&);
    asio::awaitable<void> receive(stream_id, std::shared_ptr<udp::socket>);
    [[nodiscard]] bool receive_one(stream_id, udp::socket&);
    void forget(stream_id);
    void watch();

    asio::any_io_executor executor_;
    std::weak_ptr<driver> session_;
    std::shared_ptr<tcp_streams::budget> budget_;
    allowed may_;
    told tell_;
    std::chrono::seconds idle_;
    asio::steady_timer timer_;
    bool watching_ = false;
    std::uint64_t lost_ = 0; // told of
    std::map<stream_id, flow> flows_;
    std::vector<std::uint8_t> out_;
};

} // namespace tandem::session_layer
