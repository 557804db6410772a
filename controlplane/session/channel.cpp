// SPDX-License-Identifier: Apache-2.0
// Rules of the control channel. See channel.hpp.
#include "controlplane/session/channel.hpp"

#include <algorithm>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <spdlog/spdlog.h>

namespace tandem::session {

using protocol::exchange;
using protocol::status;

struct channel::pending {
    pending(const asio::any_io_executor& executor, protocol::message m) : timer(executor), message(std::move(m)) {}
    asio::steady_timer timer; // expires = timeout; cancelled = answered or lost
    protocol::message message;
    std::optional<protocol::message> answer;
    bool lost = false;
};

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

channel::channel(std::shared_ptr<tunnel::connection> link, std::shared_ptr<counters> count)
    : link_(std::move(link)), count_(std::move(count)) {}

void channel::start(channel_events events) {
    events_ = std::move(events);
    // The connection must not keep its channel alive: the session does.
    const auto with_self = [weak = weak_from_this()](auto&& act) {
        if (const auto self = weak.lock())
            act(*self);
    };
    link_->start({
        .on_control = [=](std::span<const std::uint8_t> bytes) { with_self([&](channel& c) { c.receive(bytes); }); },
        .on_packet = [=](std::span<const std::uint8_t> p) { with_self([&](channel& c) { c.events_.on_packet(p); }); },
        .on_closed =
            [=](std::string_view reason) {
                with_self([&](channel& c) {
                    c.fail_all();
                    c.events_.on_closed(reason);
                });
            },
    });
}

void channel::abandon(std::string_view reason) {
    link_->detach();
    fail_all();
    link_->finish(reason);
}

void channel::receive(std::span<const std::uint8_t> bytes) {
    ++count_->messages;
    const auto head = protocol::peek(bytes);
    if (!head) {
        ++count_->bad_tlv; // no header to answer to
        return;
    }
    if (!accept_tsid(*head))
        return;
    auto message = protocol::decode(bytes);
    if ((head->type & 1U) != 0)
        receive_response(std::move(message));
    else
        receive_request(*head, std::move(message));
}

// ORA-05, ORA-07, ORA-08. The tunnel is authenticated, so a wrong TSID is a fault of the unit's: the tunnel ends.
bool channel::accept_tsid(const protocol::header& head) {
    if (!tsid_) {
        if (head.tsid == protocol::no_tsid)
            return true;
        refuse(head, status::bad_tsid);
        return false;
    }
    if (head.tsid == *tsid_)
        return true;
    ++count_->bad_tsid;
    close("unexpected TSID");
    return false;
}

void channel::refuse(const protocol::header& head, status code) {
    count_refusal(*count_, code);
    if ((head.type & 1U) == 0) // a response is never answered
        answer(protocol::message::refusal(head, code));
}

void channel::receive_request(const protocol::header& head, tl::expected<protocol::message, status> message) {
    if (!message)
        return refuse(head, message.error());
    if (last_received_ && head.sequence <= *last_received_)
        return refuse(head, status::bad_sequence);
    last_received_ = head.sequence;
    if (!tsid_ && !message->is(exchange::config))
        return refuse(head, status::not_configured);
    if (tsid_ && message->is(exchange::config)) // its TSID would have to be all ones, which is not this tunnel's
        return refuse(head, status::bad_tsid);
    const auto handler = events_.on_request; // a copy: CONFIG's handler rebinds
    handler(*message);
}

void channel::receive_response(tl::expected<protocol::message, status> message) {
    if (!message)
        return count_refusal(*count_, message.error());
    const auto match = outstanding_.find(message->sequence());
    if (match == outstanding_.end() || match->second->message.what() != message->what()) {
        ++count_->unmatched_response;
        return;
    }
    match->second->answer = std::move(*message);
    match->second->timer.cancel();
    forget(match->second);
}

void channel::answer(const protocol::message& response) {
    link_->send_control(response.encode());
}

void channel::tell(protocol::message request) {
    if (!tsid_)
        return;
    request.set_tsid(*tsid_).set_sequence(next_sequence_++);
    ++count_->requests;
    link_->send_control(request.encode());
}

void channel::send(pending& p) {
    p.message.set_tsid(tsid_.value_or(protocol::no_tsid)).set_sequence(next_sequence_++);
    ++count_->requests;
    auto wire = p.message.encode();
    // Only its type and sequence are needed from now on; a seed must not wait for the response in memory.
    const auto sequence = p.message.sequence();
    p.message = protocol::message::request(p.message.what());
    p.message.set_sequence(sequence);
    link_->send_control(std::move(wire));
}

// Out of the tables; the next that waits takes its place.
void channel::forget(const std::shared_ptr<pending>& gone) {
    const auto p = gone; // the tables may hold the last reference but the caller's
    std::erase(waiting_, p);
    if (const auto at = outstanding_.find(p->message.sequence()); at != outstanding_.end() && at->second == p)
        outstanding_.erase(at);
    while (!down_ && !waiting_.empty() && outstanding_.size() < max_outstanding) {
        const auto next = waiting_.front();
        waiting_.pop_front();
        send(*next);
        outstanding_.emplace(next->message.sequence(), next);
    }
}

void channel::fail_all() {
    down_ = true;
    for (const auto& [sequence, p] : outstanding_) {
        p->lost = true;
        p->timer.cancel();
    }
    for (const auto& p : waiting_) {
        p->lost = true;
        p->timer.cancel();
    }
    outstanding_.clear();
    waiting_.clear();
}

asio::awaitable<tl::expected<protocol::message, request_error>> channel::request(protocol::message message,
                                                                                 std::chrono::milliseconds timeout) {
    const auto self = shared_from_this();
    if (down_ || link_->closed() || !tsid_)
        co_return tl::unexpected(request_error::not_up);
    if (waiting_.size() >= max_waiting) {
        ++count_->request_timeouts; // it would not get its turn
        co_return tl::unexpected(request_error::timeout);
    }
    const auto p = std::make_shared<pending>(co_await asio::this_coro::executor, std::move(message));
    p->timer.expires_after(timeout);
    if (outstanding_.size() < max_outstanding) {
        send(*p);
        outstanding_.emplace(p->message.sequence(), p);
    } else {
        waiting_.push_back(p);
    }
    std::error_code error;
    if (!down_) // sending may have closed the connection
        co_await p->timer.async_wait(asio::redirect_error(asio::use_awaitable, error));
    if (p->lost || (down_ && !p->answer))
        co_return tl::unexpected(request_error::not_up);
    if (!p->answer) {
        ++count_->request_timeouts;
        forget(p);
        co_return tl::unexpected(request_error::timeout);
    }
    if (const auto code = p->answer->code(); code != status::ok) {
        ++count_->requests_refused;
        spdlog::warn("session of '{}': {} refused: {} ({})", link_->peer().id_code,
                     protocol::name_of(p->message.what()), protocol::text_of(code),
                     p->answer->get<protocol::tlv::reason>().value_or(""));
        co_return tl::unexpected(request_error::refused);
    }
    co_return std::move(*p->answer);
}

} // namespace tandem::session
