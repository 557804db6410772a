// SPDX-License-Identifier: Apache-2.0
// Reading and writing of one primary. See connection.hpp.
#include "controlplane/tunnel/connection.hpp"

#include "controlplane/link/with.hpp"
#include "controlplane/protocol/spawn.hpp"

namespace tandem::tunnel {
namespace {

constexpr auto finish_time = std::chrono::seconds(1);

} // namespace

connection::connection(std::unique_ptr<link::transport> carrier, protocol::peer_identity peer,
                       std::shared_ptr<counters> count, std::size_t queue_bytes)
    : link_(std::move(carrier)), peer_(std::move(peer)), count_(std::move(count)), queue_limit_(queue_bytes),
      wake_(link_->executor()), deadline_(link_->executor()) {}

void connection::start(connection_events events) {
    events_ = std::move(events);
    const auto failed = [self = shared_from_this()] { self->close("an error inside"); };
    protocol::spawn_contained(link_->executor(), "reader of a primary", read_loop(shared_from_this()), failed);
    protocol::spawn_contained(link_->executor(), "writer of a primary", write_loop(shared_from_this()), failed);
}

void connection::send_control(protocol::wiped_bytes message) {
    if (closed_ || finishing_)
        return;
    control_bytes_ += message.size();
    control_.push_back(std::move(message));
    if (control_bytes_ > max_control_bytes) {
        ++count_->control_overflow;
        close("the unit does not read its control messages");
        return;
    }
    wake_.cancel();
}

void connection::send_packet(std::span<const std::uint8_t> packet) {
    if (closed_ || finishing_)
        return;
    packets_.emplace_back(packet.begin(), packet.end());
    packet_bytes_ += packet.size();
    while (packet_bytes_ > queue_limit_ && packets_.size() > 1) {
        packet_bytes_ -= packets_.front().size();
        packets_.pop_front();
        ++count_->queue_full;
    }
    wake_.cancel();
}

void connection::close(std::string_view reason) {
    if (closed_)
        return;
    closed_ = true;
    link_->close();
    wake_.cancel();
    deadline_.cancel();
    packets_.clear();
    control_.clear();
    rider_.dismount();
    if (!detached_ && events_.on_closed)
        events_.on_closed(finishing_ ? reason_ : reason);
}

void connection::finish(std::string_view reason) {
    if (closed_ || finishing_)
        return;
    finishing_ = true;
    reason_ = reason;
    rider_.dismount();
    packets_.clear();
    packet_bytes_ = 0;
    wake_.cancel();
    deadline_.expires_after(finish_time);
    deadline_.async_wait([self = shared_from_this()](std::error_code error) {
        if (!error)
            self->close({});
    });
}

void connection::take(const protocol::frame& frame) {
    if (detached_ || finishing_)
        return;
    switch (frame.kind) {
    case protocol::frame_kind::control:
        return events_.on_control(frame.bytes);
    case protocol::frame_kind::ipv4:
    case protocol::frame_kind::ipv6:
        return events_.on_packet(frame.bytes);
    case protocol::frame_kind::session:
        if (rider_.take(frame.bytes))
            return;
        break;
    case protocol::frame_kind::other:
        break;
    }
    ++count_->frame_other;
}

asio::awaitable<void> connection::read_loop(std::shared_ptr<connection> self) {
    const link::transport::frame_handler handler = [this](const protocol::frame& frame) { take(frame); };
    std::error_code error;
    while (!closed_ && !error)
        co_await link_->receive(handler, error);
    close(error == asio::error::eof ? "closed by the unit" : error.message());
    self.reset();
}

// Control first, whatever waits behind it; then inner packets as far as one record goes, by turns with the rider.
void connection::compose() {
    if (control_.empty() && rider_.takes_turn(!packets_.empty()))
        return rider_.fill(*link_);
    for (; !control_.empty() && link_->add(control_.front()); control_.pop_front())
        control_bytes_ -= control_.front().size();
    if (!control_.empty())
        return;
    for (; !packets_.empty() && link_->add(packets_.front()); packets_.pop_front())
        packet_bytes_ -= packets_.front().size();
}

asio::awaitable<void> connection::write_loop(std::shared_ptr<connection> self) {
    std::error_code error;
    while (!closed_ && !error) {
        if (!control_.empty() || !packets_.empty() || rider_.waits()) {
            compose();
            co_await link_->flush(error);
        } else if (!finishing_) {
            wake_.expires_at(asio::steady_timer::time_point::max());
            std::error_code woken;
            co_await wake_.async_wait(link::with(woken)); // always ends as cancelled
        } else {
            co_await link_->shutdown(
                error); // the reader hears the unit's answer; the deadline ends one that gives none
            break;
        }
    }
    if (error)
        close(error.message());
    self.reset();
}

} // namespace tandem::tunnel
