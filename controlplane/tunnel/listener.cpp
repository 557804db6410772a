// SPDX-License-Identifier: Apache-2.0
// Accepting and handshakes. See listener.hpp.
#include "controlplane/tunnel/listener.hpp"

#include <algorithm>
#include <asio/ip/v6_only.hpp>
#include <asio/ssl/error.hpp>
#include <asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <optional>
#include <spdlog/spdlog.h>
#include <sys/resource.h>

#include "controlplane/protocol/spawn.hpp"
#include "controlplane/tunnel/client_hello.hpp"
#include "controlplane/tunnel/with.hpp"

namespace tandem::tunnel {
namespace {

constexpr unsigned audit_lines_per_second = 20; // a flood of bad handshakes must not fill the disk
constexpr unsigned most_accepted = 64;          // in one turn: else a flood fills the kernel's queue of connections
constexpr auto no_descriptors_pause = std::chrono::milliseconds(100);

std::string text(const asio::ip::tcp::endpoint& e) {
    return e.address().is_v6() ? fmt::format("[{}]:{}", e.address().to_string(), e.port())
                               : fmt::format("{}:{}", e.address().to_string(), e.port());
}

// A unit costs a descriptor; Debian's soft limit of 1,024 is for programs that use select().
// How many connections without a ClientHello there is room for beside them.
std::size_t raise_descriptor_limit(std::size_t connections, std::size_t silent) {
    constexpr std::size_t others = 256, least = 64;
    rlimit limit{};
    const rlim_t wanted = connections + others + silent;
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return silent;
    limit.rlim_cur = std::min(wanted, limit.rlim_max);
    if (::setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= wanted)
        return silent;
    spdlog::warn("tunnel: {} descriptors allowed, {} wanted for {} units: raise LimitNOFILE", limit.rlim_cur, wanted,
                 connections);
    return std::max(least, limit.rlim_cur > connections + others ? limit.rlim_cur - connections - others : 0);
}

using receive_low_water = asio::detail::socket_option::integer<SOL_SOCKET, SO_RCVLOWAT>;

} // namespace

// One connection among those that have said nothing yet, until it has, or its place is needed.
struct listener::silent_place {
    silent_place(std::list<silent_place*>& all, asio::ip::tcp::socket& socket)
        : socket_(socket), all_(all), at_(all.insert(all.end(), this)) {}
    ~silent_place() {
        if (listed_)
            all_.erase(at_);
    }
    silent_place(const silent_place&) = delete;
    silent_place& operator=(const silent_place&) = delete;
    void give_up() {
        all_.erase(at_);
        listed_ = false;
        std::error_code ignored;
        socket_.close(ignored);
    }
    std::shared_ptr<int> alive = std::make_shared<int>(0);

private:
    asio::ip::tcp::socket& socket_;
    std::list<silent_place*>& all_;
    std::list<silent_place*>::iterator at_;
    bool listed_ = true;
};

listener::listener(asio::io_context& io, protocol::ssl_context context, limits l, std::shared_ptr<counters> count,
                   admission admitted, ready_handler ready)
    : io_(io), context_(context.release()), limits_(l), count_(std::move(count)), admitted_(std::move(admitted)),
      ready_(std::move(ready)), half_open_(io, l.half_open) {}

tl::expected<void, std::string> listener::start(const std::vector<asio::ip::tcp::endpoint>& endpoints) {
    limits_.silent = raise_descriptor_limit(limits_.connections, limits_.silent);
    for (const auto& endpoint : endpoints) {
        auto& acceptor = acceptors_.emplace_back(io_);
        std::error_code error;
        acceptor.open(endpoint.protocol(), error);
        if (!error)
            acceptor.set_option(asio::ip::tcp::acceptor::reuse_address(true), error);
        if (!error && endpoint.address().is_v6())
            acceptor.set_option(asio::ip::v6_only(true), error);
        if (!error)
            acceptor.bind(endpoint, error);
        if (!error)
            acceptor.listen(asio::socket_base::max_listen_connections, error);
        if (!error)
            acceptor.non_blocking(true, error);
        if (error) {
            stop();
            return tl::unexpected(fmt::format(
                "cannot listen for tunnels on {}: {}; {}", text(endpoint), error.message(),
                error == asio::error::address_in_use
                    ? "another program has that port: end it or change [tunnel] listen"
                    : "[tunnel] listen must name an address of this host and a port that this program may bind"));
        }
        protocol::spawn(io_, "acceptor of tunnels", accept_loop(shared_from_this(), acceptor));
    }
    return {};
}

void listener::stop() {
    stopped_ = true;
    std::error_code ignored;
    for (auto& acceptor : acceptors_)
        acceptor.close(ignored);
}

std::vector<asio::ip::tcp::endpoint> listener::endpoints() const {
    std::vector<asio::ip::tcp::endpoint> all;
    for (const auto& acceptor : acceptors_)
        if (acceptor.is_open())
            all.push_back(acceptor.local_endpoint());
    return all;
}

bool listener::is_room() {
    if (connections_.size() + half_open_.under_way() > limits_.connections)
        connections_.remove_if([](const auto& c) { return c.expired(); });
    if (connections_.size() + half_open_.under_way() <= limits_.connections)
        return true;
    ++count_->connections_refused;
    return false;
}

asio::awaitable<void> listener::accept_loop(std::shared_ptr<listener> self, asio::ip::tcp::acceptor& acceptor) {
    while (!stopped_) {
        std::error_code error;
        auto socket = co_await acceptor.async_accept(with(error));
        if (stopped_)
            break;
        if (error) {
            if (error == std::errc::too_many_files_open || error == std::errc::too_many_files_open_in_system)
                spdlog::error("tunnel: cannot accept: {}; raise LimitNOFILE", error.message());
            asio::steady_timer pause(io_, no_descriptors_pause);
            co_await pause.async_wait(with(error));
            continue;
        }
        for (unsigned taken = 0; !error; ++taken) {
            take(self, std::move(socket));
            if (taken == most_accepted)
                break;
            socket = acceptor.accept(io_, error);
        }
    }
}

void listener::take(const std::shared_ptr<listener>& self, asio::ip::tcp::socket socket) {
    ++count_->connections;
    std::error_code gone;
    if (const auto from = socket.remote_endpoint(gone); gone || half_open_.is_hopeless(from.address())) {
        ++count_->half_open_refused;
        return;
    }
    make_room();
    protocol::spawn_contained(io_, "handshake", handshake(self, std::move(socket)));
}

// Who has said nothing for longest goes first.
void listener::make_room() {
    if (silent_.size() < limits_.silent || silent_.empty())
        return;
    ++count_->silent_displaced;
    silent_.front()->give_up();
}

// Waits for a whole ClientHello, which TLS then reads. False: none came in time, or others needed the place.
asio::awaitable<bool> listener::greeted(asio::ip::tcp::socket& socket) {
    const silent_place place(silent_, socket);
    bool timed_out = false;
    asio::steady_timer deadline(io_);
    const auto expire = [&](std::chrono::milliseconds after) {
        deadline.expires_after(after);
        deadline.async_wait([&timed_out, &socket, open = std::weak_ptr(place.alive)](std::error_code cancelled) {
            std::error_code ignored;
            if (cancelled || open.expired())
                return;
            timed_out = true;
            socket.close(ignored);
        });
    };
    expire(limits_.first_byte);
    for (std::size_t before = 0;;) {
        std::error_code error;
        co_await socket.async_wait(asio::ip::tcp::socket::wait_read, with(error));
        if (error || !socket.is_open()) {
            count_->silent_closed += timed_out ? 1 : 0;
            co_return false;
        }
        const auto seen = look_for_hello(socket.native_handle());
        if (seen.there == 0)
            co_return false;
        const bool whole = seen.there >= seen.needed || seen.there == before; // the same again: the peer has closed
        socket.set_option(receive_low_water(whole ? 1 : static_cast<int>(seen.needed)), error);
        if (whole)
            co_return true;
        if (before == 0)
            expire(limits_.handshake);
        before = seen.there;
    }
}

asio::awaitable<void> listener::handshake([[maybe_unused]] std::shared_ptr<listener> self,
                                          asio::ip::tcp::socket socket) {
    std::error_code error;
    const auto remote = socket.remote_endpoint(error);
    if (error)
        co_return; // gone already
    if (!co_await greeted(socket) || stopped_)
        co_return;
    std::optional<handshake_queue::ticket> half_open(std::in_place, half_open_, remote.address());
    if (!co_await half_open->turn(limits_.handshake)) {
        ++count_->half_open_refused;
        co_return;
    }
    if (stopped_ || !is_room())
        co_return;
    auto stream = std::make_unique<tls_stream>(std::move(socket), context_);
    bool timed_out = false;
    asio::steady_timer deadline(io_, limits_.handshake);
    auto expired = std::make_shared<tls_stream*>(stream.get()); // cleared when the handshake is over
    deadline.async_wait([expired, &timed_out](std::error_code cancelled) {
        if (cancelled || *expired == nullptr)
            return;
        timed_out = true;
        std::error_code ignored;
        (*expired)->lowest_layer().close(ignored);
    });
    bool displaced = false;
    half_open->on_displaced([&displaced, &stream] {
        displaced = true;
        std::error_code ignored;
        stream->lowest_layer().close(ignored);
    });
    co_await stream->async_handshake(asio::ssl::stream_base::server, with(error));
    *expired = nullptr;
    deadline.cancel();
    half_open->on_displaced({});
    count_->half_open_displaced += displaced ? 1 : 0;
    if (stopped_ || displaced)
        co_return;
    if (error || timed_out) {
        failed(stream->native_handle(), remote, error, timed_out);
        co_return;
    }
    auto peer = protocol::authenticated_peer(stream->native_handle());
    if (!peer || !admitted_(*peer)) {
        ++count_->unauthenticated;
        audit(fmt::format("authentication failed: '{}' from {}: no unit of this id code that may come by {}",
                          peer ? peer->id_code : "(no id code)", text(remote),
                          peer && peer->by == protocol::credential::certificate ? "this certificate" : "this key"));
        co_return;
    }
    ++count_->handshakes;
    half_open->proven();
    half_open.reset();
    auto ready = std::make_shared<connection>(std::move(stream), std::move(*peer), remote, count_, limits_.queue_bytes);
    connections_.push_back(ready);
    ready_(std::move(ready));
}

void listener::failed(SSL* ssl, const asio::ip::tcp::endpoint& remote, const std::error_code& error, bool timed_out) {
    ++(timed_out ? count_->handshakes_timed_out : count_->handshakes_failed);
    const auto offered = protocol::offered_peer(ssl);
    const bool spoke_tls = error.category() == asio::error::get_ssl_category();
    if (offered)
        audit(fmt::format("authentication failed: '{}' from {}: {}", offered->id_code, text(remote),
                          timed_out        ? "handshake timed out"
                          : !spoke_tls     ? "connection lost in the handshake: " + error.message()
                          : offered->known ? "wrong PSK (" + error.message() + ")"
                                           : "unknown id code"));
    else if (spoke_tls)
        audit(fmt::format("authentication failed: no id code, from {}: {}", text(remote), error.message()));
    else
        spdlog::debug("tunnel: {} left during the handshake: {}", text(remote), error.message());
}

void listener::audit(const std::string& line) {
    const auto now = std::chrono::steady_clock::now();
    if (now - audit_second_ >= std::chrono::seconds(1)) {
        if (audit_suppressed_ > 0)
            spdlog::warn("audit: {} more authentication failures in that second", audit_suppressed_);
        audit_second_ = now;
        audit_lines_ = audit_suppressed_ = 0;
    }
    if (audit_lines_ < audit_lines_per_second) {
        ++audit_lines_;
        spdlog::warn("audit: {}", line);
    } else {
        ++audit_suppressed_;
    }
}

} // namespace tandem::tunnel
