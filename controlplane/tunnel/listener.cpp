// SPDX-License-Identifier: Apache-2.0
// Accepting and handshakes. See listener.hpp.
#include "controlplane/tunnel/listener.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <optional>
#include <spdlog/spdlog.h>
#include <sys/resource.h>

#include "controlplane/link/error.hpp"
#include "controlplane/link/with.hpp"
#include "controlplane/protocol/spawn.hpp"

namespace tandem::tunnel {
namespace {

constexpr unsigned audit_lines_per_second = 20; // a flood of bad handshakes must not fill the disk
constexpr unsigned most_accepted = 64;          // in one turn: else a flood fills the kernel's queue of connections
constexpr auto no_descriptors_pause = std::chrono::milliseconds(100);

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

} // namespace

// One connection among those that have said nothing yet, until it has, or its place is needed.
struct listener::silent_place {
    silent_place(std::list<silent_place*>& all, link::tls_tcp& connection)
        : connection_(connection), all_(all), at_(all.insert(all.end(), this)) {}
    ~silent_place() {
        if (listed_)
            all_.erase(at_);
    }
    silent_place(const silent_place&) = delete;
    silent_place& operator=(const silent_place&) = delete;
    void give_up() {
        all_.erase(at_);
        listed_ = false;
        connection_.close();
    }
    std::shared_ptr<int> alive = std::make_shared<int>(0);

private:
    link::tls_tcp& connection_;
    std::list<silent_place*>& all_;
    std::list<silent_place*>::iterator at_;
    bool listed_ = true;
};

listener::listener(asio::io_context& io, protocol::ssl_context context, limits l, std::shared_ptr<counters> count,
                   admission admitted, ready_handler ready)
    : io_(io), context_(std::move(context)), limits_(l), count_(std::move(count)), admitted_(std::move(admitted)),
      ready_(std::move(ready)), half_open_(io, l.half_open) {}

tl::expected<void, std::string> listener::start(const std::vector<link::endpoint>& endpoints) {
    limits_.silent = raise_descriptor_limit(limits_.connections, limits_.silent);
    for (const auto& endpoint : endpoints) {
        auto& acceptor = acceptors_.emplace_back(io_);
        if (const auto error = acceptor.open(endpoint); error) {
            stop();
            return tl::unexpected(fmt::format(
                "cannot listen for tunnels on {}: {}; {}", text_of(endpoint), error.message(),
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
    for (auto& acceptor : acceptors_)
        acceptor.close();
}

std::vector<link::endpoint> listener::endpoints() const {
    std::vector<link::endpoint> all;
    for (const auto& acceptor : acceptors_)
        if (acceptor.is_open())
            all.push_back(acceptor.local());
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

asio::awaitable<void> listener::accept_loop(std::shared_ptr<listener> self, link::tcp_acceptor& acceptor) {
    while (!stopped_) {
        std::error_code error;
        auto arrived = co_await acceptor.accept(error);
        if (stopped_)
            break;
        if (error) {
            if (error == std::errc::too_many_files_open || error == std::errc::too_many_files_open_in_system)
                spdlog::error("tunnel: cannot accept: {}; raise LimitNOFILE", error.message());
            asio::steady_timer pause(io_, no_descriptors_pause);
            co_await pause.async_wait(link::with(error));
            continue;
        }
        for (unsigned taken = 0; arrived; ++taken) {
            take(self, std::move(arrived));
            if (taken == most_accepted)
                break;
            arrived = acceptor.accept_waiting();
        }
    }
}

void listener::take(const std::shared_ptr<listener>& self, arrival arrived) {
    ++count_->connections;
    const auto from = arrived->remote();
    if (from == link::endpoint{} || half_open_.is_hopeless(from.address)) { // gone already, or it need not come
        ++count_->half_open_refused;
        return;
    }
    make_room();
    protocol::spawn_contained(io_, "handshake", handshake(self, std::move(arrived)));
}

// Who has said nothing for longest goes first.
void listener::make_room() {
    if (silent_.size() < limits_.silent || silent_.empty())
        return;
    ++count_->silent_displaced;
    silent_.front()->give_up();
}

// Waits for a whole ClientHello, which TLS then reads. False: none came in time, or others needed the place.
asio::awaitable<bool> listener::greeted(link::tls_tcp& arrived) {
    const silent_place place(silent_, arrived);
    bool timed_out = false;
    asio::steady_timer deadline(io_);
    const auto expire = [&](std::chrono::milliseconds after) {
        deadline.expires_after(after);
        deadline.async_wait([&timed_out, &arrived, open = std::weak_ptr(place.alive)](std::error_code cancelled) {
            if (cancelled || open.expired())
                return;
            timed_out = true;
            arrived.close();
        });
    };
    expire(limits_.first_byte);
    const bool whole = co_await arrived.greeted([&] { expire(limits_.handshake); });
    count_->silent_closed += timed_out ? 1 : 0;
    co_return whole;
}

asio::awaitable<void> listener::handshake([[maybe_unused]] std::shared_ptr<listener> self, arrival arrived) {
    if (!co_await greeted(*arrived) || stopped_)
        co_return;
    std::optional<handshake_queue::ticket> half_open(std::in_place, half_open_, arrived->remote().address);
    if (!co_await half_open->turn(limits_.handshake)) {
        ++count_->half_open_refused;
        co_return;
    }
    if (stopped_ || !is_room())
        co_return;
    bool timed_out = false;
    asio::steady_timer deadline(io_, limits_.handshake);
    auto expired = std::make_shared<link::tls_tcp*>(arrived.get()); // cleared when the handshake is over
    deadline.async_wait([expired, &timed_out](std::error_code cancelled) {
        if (cancelled || *expired == nullptr)
            return;
        timed_out = true;
        (*expired)->close();
    });
    bool displaced = false;
    half_open->on_displaced([&displaced, &arrived] {
        displaced = true;
        arrived->close();
    });
    std::error_code error;
    co_await arrived->handshake(context_.get(), link::side::server, error);
    *expired = nullptr;
    deadline.cancel();
    half_open->on_displaced({});
    count_->half_open_displaced += displaced ? 1 : 0;
    if (stopped_ || displaced)
        co_return;
    if (error || timed_out) {
        failed(*arrived, error, timed_out);
        co_return;
    }
    if (const auto peer = proven_unit(*arrived)) {
        half_open->proven();
        half_open.reset();
        auto ready = std::make_shared<connection>(std::move(arrived), *peer, count_, limits_.queue_bytes);
        connections_.push_back(ready);
        ready_(std::move(ready));
    }
}

// Who it has proved to be, where that is a unit that may come so.
std::optional<protocol::peer_identity> listener::proven_unit(const link::tls_tcp& arrived) {
    auto peer = arrived.peer();
    if (!peer || !admitted_(*peer)) {
        ++count_->unauthenticated;
        audit(fmt::format("authentication failed: '{}' from {}: no unit of this id code that may come by {}",
                          peer ? peer->id_code : "(no id code)", text_of(arrived.remote()),
                          peer && peer->by == protocol::credential::certificate ? "this certificate" : "this key"));
        return std::nullopt;
    }
    ++count_->handshakes;
    return peer;
}

void listener::failed(const link::tls_tcp& arrived, const std::error_code& error, bool timed_out) {
    ++(timed_out ? count_->handshakes_timed_out : count_->handshakes_failed);
    const auto offered = arrived.offered();
    const auto remote = text_of(arrived.remote());
    const bool spoke_tls = link::is_tls(error);
    if (offered)
        audit(fmt::format("authentication failed: '{}' from {}: {}", offered->id_code, remote,
                          timed_out        ? "handshake timed out"
                          : !spoke_tls     ? "connection lost in the handshake: " + error.message()
                          : offered->known ? "wrong PSK (" + error.message() + ")"
                                           : "unknown id code"));
    else if (spoke_tls)
        audit(fmt::format("authentication failed: no id code, from {}: {}", remote, error.message()));
    else
        spdlog::debug("tunnel: {} left during the handshake: {}", remote, error.message());
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
