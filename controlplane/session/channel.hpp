// SPDX-License-Identifier: Apache-2.0
// One primary as its session sees it: a tunnel::connection that carries a link of the session's protocol::channel,
// where all rules are. Here refusals are counted and what the channel ends is closed. Owner thread: the io_context's.
#pragma once

#include <asio/awaitable.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include <tl/expected.hpp>

#include "controlplane/protocol/channel_asio.hpp"
#include "controlplane/session/counters.hpp"
#include "controlplane/session/directory.hpp"
#include "controlplane/tunnel/connection.hpp"

namespace tandem::session {

struct channel_events {
    std::function<void(const protocol::message& request)> on_request; // must answer() it
    std::function<void(std::span<const std::uint8_t>)> on_packet;
    std::function<void(std::string_view reason)> on_closed; // once, unless abandoned
};

class channel final : public protocol::channel_link, public std::enable_shared_from_this<channel> {
public:
    channel(asio::any_io_executor, std::shared_ptr<tunnel::connection>, std::shared_ptr<counters>);

    void start(channel_events);
    // Other handlers from now on; safe from within on_request.
    void rebind(channel_events events) { events_ = std::move(events); }
    // From now on this is a link of that conversation: requests under way and sequences go on. None: of its own.
    std::shared_ptr<protocol::channel_driver> join(std::shared_ptr<protocol::channel_driver>);

    void answer(const protocol::message& response) { driver_->answer(id_, response); }
    // Sends a request whose response nobody waits for.
    void tell(protocol::message request) { driver_->tell(std::move(request)); }
    asio::awaitable<tl::expected<protocol::message, request_error>> request(protocol::message,
                                                                            std::chrono::milliseconds timeout);

    // The session layer rides along; its frames are signs of life, too.
    void carry(link::rider::calls);
    void close(std::string_view reason) { connection_->close(reason); }
    // No event comes any more; requests fail with not_up; what is queued is flushed, then the connection is closed.
    void abandon(std::string_view reason);

    [[nodiscard]] tunnel::connection& link() noexcept { return *connection_; }
    [[nodiscard]] asio::any_io_executor executor() const { return executor_; }

private:
    void send(protocol::wiped_bytes message, bool request) override;
    void serve(protocol::message request) override;
    void hang_up(protocol::ending) override;
    void count(std::optional<protocol::status>) override;

    asio::any_io_executor executor_;
    std::shared_ptr<tunnel::connection> connection_;
    std::shared_ptr<counters> count_;
    channel_events events_;
    std::shared_ptr<protocol::channel_driver> driver_;
    protocol::link_id id_ = 0;
};

} // namespace tandem::session
