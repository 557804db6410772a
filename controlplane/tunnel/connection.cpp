// SPDX-License-Identifier: Apache-2.0
// Reading and writing of one primary. See connection.hpp.
#include "controlplane/tunnel/connection.hpp"

#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>
#include <netinet/tcp.h>

#include "controlplane/protocol/spawn.hpp"
#include "controlplane/tunnel/with.hpp"

namespace tandem::tunnel {
namespace {

constexpr auto finish_time = std::chrono::seconds(1);

} // namespace

connection::connection(std::unique_ptr<tls_stream> stream, protocol::peer_identity peer, asio::ip::tcp::endpoint remote,
                       std::shared_ptr<counters> count, std::size_t queue_bytes)
    : stream_(std::move(stream)), peer_(std::move(peer)), remote_(std::move(remote)), count_(std::move(count)),
      queue_limit_(queue_bytes), wake_(stream_->get_executor()), deadline_(stream_->get_executor()) {
    std::error_code ignored; // both options only make it quicker
    auto& socket = stream_->lowest_layer();
    socket.set_option(asio::ip::tcp::no_delay(true), ignored);
    using unsent_limit = asio::detail::socket_option::integer<IPPROTO_TCP, TCP_NOTSENT_LOWAT>;
    socket.set_option(unsent_limit(static_cast<int>(write_size)), ignored);
}

void connection::start(connection_events events) {
    events_ = std::move(events);
    const auto failed = [self = shared_from_this()] { self->close("an error inside"); };
    protocol::spawn_contained(stream_->get_executor(), "reader of a primary", read_loop(shared_from_this()), failed);
    protocol::spawn_contained(stream_->get_executor(), "writer of a primary", write_loop(shared_from_this()), failed);
}

std::string connection::cipher() const {
    const char* name = SSL_get_cipher_name(stream_->native_handle());
    return name != nullptr ? name : "";
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
    std::error_code ignored;
    stream_->lowest_layer().close(ignored);
    wake_.cancel();
    deadline_.cancel();
    packets_.clear();
    control_.clear();
    if (!detached_ && events_.on_closed)
        events_.on_closed(finishing_ ? reason_ : reason);
}

void connection::finish(std::string_view reason) {
    if (closed_ || finishing_)
        return;
    finishing_ = true;
    reason_ = reason;
    packets_.clear();
    packet_bytes_ = 0;
    wake_.cancel();
    deadline_.expires_after(finish_time);
    deadline_.async_wait([self = shared_from_this()](std::error_code error) {
        if (!error)
            self->close({});
    });
}

void connection::take_frames() {
    while (!closed_) {
        const auto frame = framer_.next();
        if (!frame)
            return;
        if (detached_ || finishing_)
            continue;
        if (frame->kind == protocol::frame_kind::control)
            events_.on_control(frame->bytes);
        else if (frame->kind == protocol::frame_kind::other)
            ++count_->frame_other;
        else
            events_.on_packet(frame->bytes);
    }
}

asio::awaitable<void> connection::read_loop(std::shared_ptr<connection> self) {
    std::error_code error;
    while (!closed_) {
        const auto room = framer_.prepare();
        const auto n = co_await stream_->async_read_some(asio::buffer(room.data(), room.size()), with(error));
        if (error)
            break;
        framer_.commit(n);
        take_frames();
    }
    close(error == asio::error::eof ? "closed by the unit" : error.message());
    self.reset();
}

// Control first, whatever waits behind it; then inner packets as far as one record goes.
void connection::fill(protocol::wiped_bytes& batch) {
    while (!control_.empty() && (batch.empty() || batch.size() + control_.front().size() < write_size)) {
        control_bytes_ -= control_.front().size();
        protocol::append_frame(batch, control_.front());
        control_.pop_front();
    }
    while (!packets_.empty() &&
           (batch.empty() || batch.size() + protocol::frame_prefix + packets_.front().size() <= write_size)) {
        packet_bytes_ -= packets_.front().size();
        protocol::append_frame(batch, packets_.front());
        packets_.pop_front();
    }
}

asio::awaitable<void> connection::write_loop(std::shared_ptr<connection> self) {
    std::error_code error;
    protocol::wiped_bytes batch;
    batch.reserve(write_size);
    while (!closed_) {
        if (control_.empty() && packets_.empty()) {
            if (finishing_)
                break;
            wake_.expires_at(asio::steady_timer::time_point::max());
            co_await wake_.async_wait(with(error)); // always ends as cancelled
            continue;
        }
        fill(batch);
        protocol::count_record(stream_->native_handle());
        co_await asio::async_write(*stream_, asio::buffer(batch.data(), batch.size()), with(error));
        protocol::wipe(batch.data(), batch.size()); // seeds may have been among it
        batch.clear();
        if (error) {
            close(error.message());
            co_return;
        }
    }
    if (!closed_) {
        co_await stream_->async_shutdown(with(error)); // close_notify; the deadline ends a peer that does not answer
        close({});
    }
    self.reset();
}

} // namespace tandem::tunnel
