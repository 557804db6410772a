// SPDX-License-Identifier: Apache-2.0
// The control channel of one primary: decodes, holds the rules of TSID and sequence (ORA-05, -07, -08, -12, -15, -16),
// answers what is refused, and matches responses to the gateway's own requests, of which at most 32 are outstanding.
// Knows one connection, no session. Owner thread: the io_context's.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include <tl/expected.hpp>

#include "controlplane/session/counters.hpp"
#include "controlplane/session/directory.hpp"
#include "controlplane/tunnel/connection.hpp"

namespace tandem::session {

struct channel_events {
    std::function<void(const protocol::message& request)> on_request; // must answer() it
    std::function<void(std::span<const std::uint8_t>)> on_packet;
    std::function<void(std::string_view reason)> on_closed; // once, unless abandoned
};

class channel : public std::enable_shared_from_this<channel> {
public:
    static constexpr std::size_t max_outstanding = 32;
    static constexpr std::size_t max_waiting = 1024;

    channel(std::shared_ptr<tunnel::connection>, std::shared_ptr<counters>);

    void start(channel_events);
    // Other handlers from now on; safe from within on_request.
    void rebind(channel_events events) { events_ = std::move(events); }
    // From now on each message must carry this TSID; a second CONFIG is refused.
    void bind(tsid id) noexcept { tsid_ = id; }
    [[nodiscard]] bool bound() const noexcept { return tsid_.has_value(); }

    void answer(const protocol::message& response);
    // Sends a request whose response nobody waits for.
    void tell(protocol::message request);
    asio::awaitable<tl::expected<protocol::message, request_error>> request(protocol::message,
                                                                            std::chrono::milliseconds timeout);

    void close(std::string_view reason) { link_->close(reason); }
    // No event comes any more; requests fail with not_up; what is queued is flushed, then the connection is closed.
    void abandon(std::string_view reason);

    [[nodiscard]] tunnel::connection& link() noexcept { return *link_; }

private:
    struct pending;
    void receive(std::span<const std::uint8_t> bytes);
    void receive_request(const protocol::header&, tl::expected<protocol::message, protocol::status>);
    void receive_response(tl::expected<protocol::message, protocol::status>);
    [[nodiscard]] bool accept_tsid(const protocol::header&);
    void refuse(const protocol::header&, protocol::status);
    void send(pending&);
    void fail_all();
    void forget(const std::shared_ptr<pending>&);

    std::shared_ptr<tunnel::connection> link_;
    std::shared_ptr<counters> count_;
    channel_events events_;
    std::optional<tsid> tsid_;
    std::optional<std::uint32_t> last_received_; // sequence of the unit's last request
    std::uint32_t next_sequence_ = 1;
    std::map<std::uint32_t, std::shared_ptr<pending>> outstanding_;
    std::deque<std::shared_ptr<pending>> waiting_;
    bool down_ = false;
};

} // namespace tandem::session
