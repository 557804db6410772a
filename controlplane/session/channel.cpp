// SPDX-License-Identifier: Apache-2.0
// A primary and its link of the control channel. See channel.hpp.
#include "controlplane/session/channel.hpp"

#include <spdlog/spdlog.h>

namespace tandem::session {

using protocol::outcome;
using protocol::status;

namespace {

void count_refusal(counters& count, status code) {
    switch (code) {
    case status::bad_version:
        ++count.bad_version;
        break;
    case status::bad_indication:
        ++count.bad_indication;
        break;
    case status::bad_reserved:
        ++count.bad_reserved;
        break;
    case status::unknown_type:
        ++count.unknown_type;
        break;
    case status::bad_count:
        ++count.bad_count;
        break;
    case status::missing_tlv:
        ++count.missing_tlv;
        break;
    case status::bad_sequence:
        ++count.bad_sequence;
        break;
    case status::bad_tsid:
        ++count.bad_tsid;
        break;
    case status::not_configured:
        ++count.not_configured;
        break;
    default:
        ++count.bad_tlv;
        break;
    }
}

} // namespace

channel::channel(asio::any_io_executor executor, std::shared_ptr<tunnel::connection> link,
                 std::shared_ptr<counters> count)
    : executor_(executor), connection_(std::move(link)), count_(std::move(count)),
      driver_(std::make_shared<protocol::channel_driver>(executor, protocol::role::gateway)) {}

void channel::start(channel_events events) {
    events_ = std::move(events);
    id_ = driver_->attach(protocol::carrier::stream, weak_from_this());
    // The connection must not keep its channel alive: the session does.
    const auto with_self = [weak = weak_from_this()](auto&& act) {
        if (const auto self = weak.lock())
            act(*self);
    };
    connection_->start({
        .on_control =
            [=](std::span<const std::uint8_t> bytes) {
                with_self([&](channel& c) {
                    ++c.count_->messages;
                    c.driver_->receive(c.id_, bytes);
                });
            },
        .on_packet =
            [=](std::span<const std::uint8_t> p) {
                with_self([&](channel& c) {
                    c.driver_->heard(c.id_);
                    c.events_.on_packet(p);
                });
            },
        .on_closed =
            [=](std::string_view reason) {
                with_self([&](channel& c) {
                    c.driver_->lost(c.id_);
                    c.events_.on_closed(reason);
                });
            },
    });
}

std::shared_ptr<protocol::channel_driver> channel::join(std::shared_ptr<protocol::channel_driver> conversation) {
    if (conversation && conversation != driver_) {
        id_ = conversation->take_over(*driver_);
        driver_ = std::move(conversation);
    }
    return driver_;
}

void channel::carry(link::rider::calls calls) {
    calls.take = [weak = weak_from_this(), take = std::move(calls.take)](std::span<const std::uint8_t> frame) {
        if (const auto self = weak.lock())
            self->driver_->heard(self->id_);
        take(frame);
    };
    connection_->carry(std::move(calls));
}

void channel::abandon(std::string_view reason) {
    connection_->detach();
    driver_->lost(id_);
    connection_->finish(reason);
}

void channel::send(protocol::wiped_bytes message, bool request) {
    if (request)
        ++count_->requests;
    connection_->send_control(std::move(message));
}

void channel::serve(protocol::message request) {
    const auto handler = events_.on_request; // a copy: CONFIG's handler rebinds
    handler(request);
}

void channel::hang_up(protocol::ending why) {
    switch (why) {
    case protocol::ending::wrong_tsid:
        return close("unexpected TSID");
    case protocol::ending::silent:
        ++count_->keepalive_lost;
        return close("silent for three keepalive intervals");
    case protocol::ending::replaced: {
        constexpr std::string_view reason = "replaced by the unit's new connection";
        connection_->detach();
        connection_->finish(reason);
        return events_.on_closed(reason);
    }
    }
}

void channel::count(std::optional<status> refused) {
    if (refused)
        count_refusal(*count_, *refused);
    else
        ++count_->unmatched_response;
}

asio::awaitable<tl::expected<protocol::message, request_error>> channel::request(protocol::message message,
                                                                                 std::chrono::milliseconds timeout) {
    const auto self = shared_from_this();
    const auto name = protocol::name_of(message.what());
    auto reply = co_await driver_->request(std::move(message), timeout);
    if (reply.how == outcome::failed)
        co_return tl::unexpected(request_error::not_up);
    if (reply.how == outcome::timeout) {
        ++count_->request_timeouts;
        co_return tl::unexpected(request_error::timeout);
    }
    if (const auto code = reply.response->code(); code != status::ok) {
        ++count_->requests_refused;
        spdlog::warn("session of '{}': {} refused: {} ({})", connection_->peer().id_code, name, protocol::text_of(code),
                     reply.response->get<protocol::tlv::reason>().value_or(""));
        co_return tl::unexpected(request_error::refused);
    }
    co_return std::move(*reply.response);
}

} // namespace tandem::session
