// SPDX-License-Identifier: Apache-2.0
// Streams that are UDP sockets. See udp_streams.hpp.
#include "controlplane/session_layer/udp_streams.hpp"

#include "controlplane/link/with.hpp"
#include "controlplane/protocol/spawn.hpp"

namespace tandem::session_layer {
namespace {

constexpr int burst = 64; // of one socket, before another's turn

} // namespace

void udp_streams::begin(stream_id id) {
    flows_[id].used = clock::now();
    if (!watching_)
        watch();
}

void udp_streams::on(const event& e) {
    if (const auto* d = std::get_if<received_datagram>(&e)) {
        const auto at = flows_.find(d->stream);
        if (at == flows_.end())
            return;
        const auto placed = read_placed(d->octets);
        if (!placed || !may_(placed->peer))
            return tell_(fate::not_allowed);
        send(at->second, at->first, *placed);
    } else if (const auto* c = std::get_if<closed>(&e); c != nullptr && flows_.contains(c->stream)) {
        forget(c->stream);
        if (const auto s = session_.lock())
            s->use([&](session& of) { of.close(c->stream); });
    } else if (const auto* r = std::get_if<was_reset>(&e)) {
        forget(r->stream);
    } else if (std::holds_alternative<expired>(e)) {
        abort_all();
    }
}

void udp_streams::abort_all() {
    while (!flows_.empty())
        forget(flows_.begin()->first);
}

void udp_streams::forget(stream_id id) {
    const auto at = flows_.find(id);
    if (at == flows_.end())
        return;
    std::error_code ignored;
    for (const auto& socket : at->second.sockets)
        if (socket) {
            socket->close(ignored);
            --budget_->connections;
        }
    flows_.erase(at);
}

void udp_streams::send(flow& f, stream_id id, const placed_datagram& d) {
    const udp::endpoint to(d.peer.address, d.peer.port);
    auto& socket = f.sockets[d.peer.address.is_v6() ? 1 : 0];
    if (!socket)
        socket = open(id, to.protocol());
    std::error_code error = asio::error::no_buffer_space;
    if (socket)
        socket->send_to(asio::buffer(d.octets.data(), d.octets.size()), to, 0, error);
    if (!error)
        f.used = clock::now();
    tell_(error ? fate::unsent : fate::to_service);
}

std::shared_ptr<asio::ip::udp::socket> udp_streams::open(stream_id id, const udp& family) {
    if (!budget_->has_room())
        return nullptr;
    auto socket = std::make_shared<udp::socket>(executor_);
    std::error_code error;
    socket->open(family, error);
    if (!error)
        socket->non_blocking(true, error);
    if (error)
        return nullptr;
    ++budget_->connections;
    protocol::spawn_contained(
        executor_, "reader of a stream's datagrams",
        [self = shared_from_this(), id, socket] { return self->receive(id, socket); },
        [self = shared_from_this(), id] { self->forget(id); });
    return socket;
}

asio::awaitable<void> udp_streams::receive(stream_id id, std::shared_ptr<udp::socket> from) {
    for (std::error_code error; !error;) {
        co_await from->async_wait(udp::socket::wait_read, link::with(error));
        for (int i = 0; i < burst && !error && from->is_open() && receive_one(id, *from); ++i) {
        }
    }
}

// False: there is none now.
bool udp_streams::receive_one(stream_id id, udp::socket& from) {
    std::array<std::uint8_t, 65536> in; // of the stack: none waits with each unit
    udp::endpoint sender;
    std::error_code error;
    const auto length = from.receive_from(asio::buffer(in), sender, 0, error);
    if (error)
        return error != asio::error::would_block; // an ICMP error of what was sent
    const auto at = flows_.find(id);
    const auto s = session_.lock();
    if (at == flows_.end() || !s)
        return false;
    const link::endpoint peer{sender.address(), sender.port()};
    if (!may_(peer)) {
        tell_(fate::not_allowed);
        return true;
    }
    at->second.used = clock::now();
    tell_(fate::from_service);
    out_.clear();
    write_placed(peer, std::span(in).first(length), out_);
    s->use([&](session& of) { of.send_datagram(id, out_, clock::now()); });
    for (const auto all = s->state().lost_datagrams(); lost_ < all; ++lost_)
        tell_(fate::lost);
    return true;
}

void udp_streams::watch() {
    watching_ = !flows_.empty();
    if (!watching_)
        return;
    timer_.expires_after(std::max<std::chrono::milliseconds>(idle_ / 10, std::chrono::milliseconds(100)));
    timer_.async_wait([weak = weak_from_this()](const std::error_code& error) {
        const auto self = weak.lock();
        if (error || !self)
            return;
        std::vector<stream_id> idle;
        for (const auto& [id, f] : self->flows_)
            if (clock::now() - f.used >= self->idle_)
                idle.push_back(id);
        for (const auto id : idle) {
            self->forget(id);
            if (const auto s = self->session_.lock())
                s->use([&](session& of) { of.reset(id, static_cast<std::uint16_t>(reset_code::cancelled)); });
        }
        self->watch();
    });
}

} // namespace tandem::session_layer
