// SPDX-License-Identifier: Apache-2.0
// Streams that are TCP connections. See tcp_streams.hpp.
#include "controlplane/session_layer/tcp_streams.hpp"

#include <asio/write.hpp>

#include "controlplane/link/with.hpp"
#include "controlplane/protocol/spawn.hpp"

namespace tandem::session_layer {
namespace {

using tcp = asio::ip::tcp;

asio::awaitable<void> woken(asio::steady_timer& timer) {
    timer.expires_at(asio::steady_timer::time_point::max());
    std::error_code cancelled;
    co_await timer.async_wait(link::with(cancelled));
}

} // namespace

// ---- life
// -------------------------------------------------------------------------------------------------------------

tcp_streams::pipe_ptr tcp_streams::add(stream_id id, tcp::socket socket) {
    ++count_.begun;
    ++budget_->connections;
    return pipes_[id] = std::make_shared<pipe>(id, std::move(socket));
}

tcp_streams::pipe_ptr tcp_streams::find(stream_id id) const {
    const auto at = pipes_.find(id);
    return at != pipes_.end() ? at->second : nullptr;
}

void tcp_streams::take(stream_id id, tcp::socket connected) {
    start(add(id, std::move(connected)));
}

void tcp_streams::connect(stream_id id, link::endpoint to, std::chrono::milliseconds patience) {
    const auto p = add(id, tcp::socket(executor_));
    const auto self = shared_from_this();
    protocol::spawn_contained(
        executor_, "connection of a stream", [self, p, to, patience] { return self->dial(p, to, patience); },
        [self, p] { self->fail(p, reset_unreachable); });
}

void tcp_streams::start(const pipe_ptr& p) {
    std::error_code ignored;
    p->socket.set_option(tcp::no_delay(true), ignored);
    p->socket.set_option(tcp::socket::keep_alive(true), ignored);
    // Should this process be killed: its peer must not take what it has for all.
    p->socket.set_option(tcp::socket::linger(true, 0), ignored);
    p->socket.non_blocking(true, ignored);
    const auto self = shared_from_this();
    const auto failed = [self, p] { self->fail(p, static_cast<std::uint16_t>(reset_code::cancelled)); };
    protocol::spawn_contained(
        executor_, "reader of a stream's connection", [self, p] { return self->read(p); }, failed);
    protocol::spawn_contained(
        executor_, "writer of a stream's connection", [self, p] { return self->write_out(p); }, failed);
}

// Its peer hears of it as a reset.
void tcp_streams::abort(const pipe_ptr& p) {
    if (std::exchange(p->over, true))
        return;
    ++count_.reset;
    if (failed_)
        failed_(failure::reset);
    std::error_code ignored;
    p->socket.set_option(tcp::socket::linger(true, 0), ignored);
    p->socket.close(ignored);
    p->readable.cancel();
    p->writable.cancel();
    forget(p);
}

void tcp_streams::forget(const pipe_ptr& p) {
    --budget_->connections;
    budget_->octets -= std::exchange(p->held, 0);
    pipes_.erase(p->id);
}

void tcp_streams::fail(const pipe_ptr& p, std::uint16_t code) {
    if (p->over)
        return;
    abort(p);
    if (const auto session = session_.lock())
        session->use([&](session_layer::session& s) { s.reset(p->id, code); });
}

void tcp_streams::forget_if_done(const pipe_ptr& p) {
    if (p->over || !p->finished || !p->drained)
        return;
    p->over = true;
    ++count_.ended;
    forget(p);
    std::error_code ignored;
    p->socket.set_option(tcp::socket::linger(false, 0), ignored); // the kernel brings the rest there
    p->socket.close(ignored);
}

void tcp_streams::abort_all() {
    while (!pipes_.empty())
        abort(pipe_ptr(pipes_.begin()->second));
}

// ---- what the session says
// --------------------------------------------------------------------------------------------

void tcp_streams::on(const event& e) {
    if (const auto* r = std::get_if<received>(&e)) {
        if (const auto p = find(r->stream)) {
            count_.from_session += r->octets.size();
            p->held += r->octets.size();
            budget_->octets += r->octets.size();
            p->out.insert(p->out.end(), r->octets.begin(), r->octets.end());
            p->readable.cancel();
            if (budget_->most_octets != 0 && budget_->octets > budget_->most_octets)
                fail(p, static_cast<std::uint16_t>(reset_code::refused));
        }
    } else if (const auto* c = std::get_if<closed>(&e)) {
        if (const auto p = find(c->stream)) {
            p->ended = true;
            p->readable.cancel();
        }
    } else if (const auto* w = std::get_if<writable>(&e)) {
        if (const auto p = find(w->stream))
            p->writable.cancel();
    } else if (const auto* gone = std::get_if<was_reset>(&e)) {
        if (const auto p = find(gone->stream))
            abort(p);
    } else if (const auto* done = std::get_if<session_layer::finished>(&e)) {
        if (const auto p = find(done->stream)) {
            p->finished = true;
            forget_if_done(p);
        }
    } else if (std::holds_alternative<expired>(e)) {
        abort_all();
    }
}

// ---- one connection
// ---------------------------------------------------------------------------------------------------

asio::awaitable<void> tcp_streams::dial(pipe_ptr p, link::endpoint to, std::chrono::milliseconds patience) {
    asio::steady_timer deadline(executor_, patience);
    deadline.async_wait([p](const std::error_code& cancelled) {
        std::error_code ignored;
        if (!cancelled)
            p->socket.close(ignored);
    });
    std::error_code error;
    co_await p->socket.async_connect({to.address, to.port}, link::with(error));
    deadline.cancel();
    if (p->over)
        co_return;
    if (error) {
        ++count_.unreachable;
        if (failed_)
            failed_(failure::unreachable);
        co_return fail(p, reset_unreachable);
    }
    start(p);
}

std::size_t tcp_streams::write(const pipe_ptr& p, std::span<const std::uint8_t> octets) {
    const auto session = session_.lock();
    const auto took = session ? session->use([&](session_layer::session& s) { return s.write(p->id, octets); }) : 0;
    count_.to_session += took;
    return took;
}

// What the session has no room for waits here, and nothing more is read.
asio::awaitable<void> tcp_streams::read(pipe_ptr p) {
    const auto self = shared_from_this();
    std::vector<std::uint8_t> rest;
    while (!p->over) {
        std::error_code error;
        if (!rest.empty()) {
            co_await woken(p->writable);
        } else {
            co_await p->socket.async_wait(tcp::socket::wait_read, link::with(error));
            const auto got = error || p->over ? 0 : p->socket.read_some(asio::buffer(chunk_), error);
            if (p->over)
                co_return;
            if (error == asio::error::would_block)
                continue;
            if (error)
                co_return read_ended(p, error);
            rest.assign(chunk_.begin(), chunk_.begin() + static_cast<std::ptrdiff_t>(got));
        }
        if (!p->over)
            rest.erase(rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(write(p, rest)));
    }
}

void tcp_streams::read_ended(const pipe_ptr& p, const std::error_code& error) {
    if (error != asio::error::eof)
        return fail(p, static_cast<std::uint16_t>(reset_code::cancelled));
    if (const auto session = session_.lock())
        session->use([&](session_layer::session& s) { s.close(p->id); });
}

asio::awaitable<void> tcp_streams::write_out(pipe_ptr p) {
    const auto self = shared_from_this();
    while (!p->over) {
        if (p->out.empty() && p->ended)
            break;
        if (p->out.empty()) {
            co_await woken(p->readable);
            continue;
        }
        const auto chunk = std::exchange(p->out, {});
        std::error_code error;
        co_await asio::async_write(p->socket, asio::buffer(chunk), link::with(error));
        if (p->over)
            co_return;
        if (error)
            co_return fail(p, static_cast<std::uint16_t>(reset_code::cancelled));
        p->held -= chunk.size();
        budget_->octets -= chunk.size();
        if (const auto session = session_.lock())
            session->use([&](session_layer::session& s) { s.consumed(p->id, chunk.size()); });
    }
    if (p->over)
        co_return;
    std::error_code ignored;
    p->socket.shutdown(tcp::socket::shutdown_send, ignored);
    p->drained = true;
    forget_if_done(p);
}

} // namespace tandem::session_layer
