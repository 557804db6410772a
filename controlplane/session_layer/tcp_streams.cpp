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

tcp_streams::pipe_ptr tcp_streams::add(stream_id id, tcp::socket socket, stream_kind kind) {
    ++count_.begun;
    ++budget_->connections;
    const auto p = pipes_[id] = std::make_shared<pipe>(id, std::move(socket));
    p->packed = kind == stream_kind::packed;
    count_.packed += std::size_t{p->packed};
    return p;
}

tcp_streams::pipe_ptr tcp_streams::find(stream_id id) const {
    const auto at = pipes_.find(id);
    return at != pipes_.end() ? at->second : nullptr;
}

void tcp_streams::take(stream_id id, tcp::socket connected, stream_kind kind) {
    start(add(id, std::move(connected), kind));
}

void tcp_streams::connect(stream_id id, link::endpoint to, std::chrono::milliseconds patience, stream_kind kind) {
    const auto p = add(id, tcp::socket(executor_), kind);
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
    p->packs.reset();
    p->unpacks.reset();
    account_contexts(p);
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
            (p->packed ? count_.packed_octets : count_.from_session) += r->octets.size();
            p->held += r->octets.size();
            budget_->octets += r->octets.size();
            p->out.append(r->octets);
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
    (p->packed ? count_.packed_octets : count_.to_session) += took;
    return took;
}

// What the session has no room for waits here, and nothing more is read. What is compressed can be read at the other
// end as soon as the socket has nothing more: a typed line goes out at once, bulk in whole blocks.
asio::awaitable<void> tcp_streams::read(pipe_ptr p) {
    const auto self = shared_from_this();
    std::vector<std::uint8_t> rest;
    for (bool ended = false; !p->over;) {
        if (!rest.empty()) {
            co_await woken(p->writable);
        } else if (ended) {
            if (const auto session = session_.lock())
                session->use([&](session_layer::session& s) { s.close(p->id); });
            co_return;
        } else {
            std::error_code error;
            if (p->unsaid)
                co_await asio::post(executor_, asio::use_awaitable); // the others' turn
            else
                co_await p->socket.async_wait(tcp::socket::wait_read, link::with(error));
            const auto got = error || p->over ? 0 : p->socket.read_some(asio::buffer(chunk_), error);
            if (p->over)
                co_return;
            ended = error == asio::error::eof;
            if (error && !ended && error != asio::error::would_block)
                co_return fail(p, static_cast<std::uint16_t>(reset_code::cancelled));
            const auto how = ended                  ? packer::flush::end
                             : got == chunk_.size() ? packer::flush::later
                                                    : packer::flush::now;
            if (!prepare(p, got, how, rest))
                co_return;
        }
        if (!p->over && !rest.empty())
            rest.erase(rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(write(p, rest)));
    }
}

asio::awaitable<void> tcp_streams::write_out(pipe_ptr p) {
    const auto self = shared_from_this();
    std::vector<std::uint8_t> chunk;
    while (!p->over) {
        const auto took = next_out(p, chunk);
        if (p->over)
            co_return;
        if (chunk.empty() && took == 0) {
            if (p->ended)
                break;
            co_await woken(p->readable);
            continue;
        }
        std::error_code error;
        if (!chunk.empty())
            co_await asio::async_write(p->socket, asio::buffer(chunk), link::with(error));
        if (p->over)
            co_return;
        if (error)
            co_return fail(p, static_cast<std::uint16_t>(reset_code::cancelled));
        p->held -= took;
        budget_->octets -= took;
        if (const auto session = session_.lock())
            session->use([&](session_layer::session& s) { s.consumed(p->id, took); });
    }
    if (p->over)
        co_return;
    std::error_code ignored;
    p->socket.shutdown(tcp::socket::shutdown_send, ignored);
    p->drained = true;
    forget_if_done(p);
}

// ---- compression
// ------------------------------------------------------------------------------------------------------

bool tcp_streams::prepare(const pipe_ptr& p, std::size_t size, packer::flush how,
                          std::vector<std::uint8_t>& to_session) {
    const auto octets = std::span<const std::uint8_t>(chunk_).first(size);
    if (!p->packed) {
        to_session.assign(octets.begin(), octets.end());
        return true;
    }
    if (!p->packs && octets.empty())
        return true;
    if (!p->packs && !context_fits(p))
        return false;
    count_.to_session += size;
    count_.plain_octets += size;
    if (!p->packs)
        p->packs = std::make_unique<packer>();
    const bool done = p->packs->pack(octets, how, to_session);
    p->unsaid = how == packer::flush::later;
    if (how == packer::flush::end)
        p->packs.reset();
    account_contexts(p);
    if (!done)
        fail(p, static_cast<std::uint16_t>(reset_code::refused));
    return done;
}

std::size_t tcp_streams::next_out(const pipe_ptr& p, std::vector<std::uint8_t>& octets) {
    if (p->packed)
        return unpack_next(p, octets);
    octets = p->out.take();
    return octets.size();
}

// A small frame may be made of very much: no more of it than one chunk is here, however much that would be.
std::size_t tcp_streams::unpack_next(const pipe_ptr& p, std::vector<std::uint8_t>& octets) {
    octets.clear();
    if (!p->unpacks) {
        if (p->out.view().empty() || !context_fits(p))
            return 0;
        p->unpacks = std::make_unique<unpacker>();
    }
    octets.resize(chunk_.size());
    const auto [eaten, made, wrong] = p->unpacks->unpack(p->out.view(), octets);
    octets.resize(made);
    p->out.drop(eaten);
    count_.from_session += made;
    count_.plain_octets += made;
    account_contexts(p);
    if (wrong)
        fail_unpacking(p, *wrong);
    else if (p->ended && eaten == 0 && made == 0 && !p->unpacks->whole())
        fail_unpacking(p, unpacker::fault::corrupt); // cut off
    return eaten;
}

bool tcp_streams::context_fits(const pipe_ptr& p) {
    const auto& b = *budget_;
    if ((b.most_contexts == 0 || b.contexts < b.most_contexts) &&
        (b.most_contexts_each == 0 || context_octets_ < b.most_contexts_each))
        return true;
    ++count_.no_context;
    if (failed_)
        failed_(failure::no_context);
    fail(p, static_cast<std::uint16_t>(reset_code::refused));
    return false;
}

void tcp_streams::fail_unpacking(const pipe_ptr& p, unpacker::fault what) {
    const bool window = what == unpacker::fault::window;
    ++(window ? count_.zstd_window : count_.not_zstd);
    if (failed_)
        failed_(window ? failure::zstd_window : failure::not_zstd);
    fail(p, window ? reset_zstd_window : reset_not_zstd);
}

void tcp_streams::account_contexts(const pipe_ptr& p) noexcept {
    const auto octets = (p->packs ? p->packs->memory() : 0) + (p->unpacks ? p->unpacks->memory() : 0);
    const std::size_t number = std::size_t{p->packs != nullptr} + std::size_t{p->unpacks && !p->unpacks->whole()};
    contexts_ += number - std::exchange(p->contexts, number);
    budget_->contexts += octets - p->context_octets;
    context_octets_ += octets - std::exchange(p->context_octets, octets);
}

} // namespace tandem::session_layer
