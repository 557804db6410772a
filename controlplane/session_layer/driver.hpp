// SPDX-License-Identifier: Apache-2.0
// Carries out what a session says: over a transport of controlplane/link with a reader and a writer of its own, or
// beside what else its owner sends there (a primary); and the session's time from one timer. What a link cannot take
// waits in the session. Owner thread: the executor's.
//
//   auto d = std::make_shared<driver>(executor, session(...), [&](const event& e) { ... });
//   const auto l = d->dial(transport, network, binding_of(*transport));  d->move(l, reason::start);
//   d->use([&](session& s) { s.write(id, octets); });
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/steady_timer.hpp>

#include "controlplane/link/rider.hpp"
#include "controlplane/link/tls_tcp.hpp"
#include "controlplane/session_layer/session.hpp"

namespace tandem::session_layer {

// What no other link has and both its ends know: the exporter of its handshake (RFC 8446 7.5). Empty where it fails.
[[nodiscard]] std::vector<std::uint8_t> binding_of(const link::transport&);
// The secret of a session that is made on this link: both ends have the same, and nobody else.
[[nodiscard]] protocol::secret new_secret_of(const link::transport&, std::uint64_t tsid);

// A link that somebody else reads and writes: frames that come go to received(), those to be sent are pulled.
struct guest {
    protocol::carrier kind;
    std::function<void()> more; // there is something to pull
};
// On a primary, of gateway or agent: asked for what there is by its rider.
template <class Connection>
[[nodiscard]] guest guest_on(Connection& primary) {
    return {protocol::carrier::stream, [weak = primary.weak_from_this()] {
                if (const auto connection = weak.lock())
                    connection->ask_rider();
            }};
}

class driver;
// What that rider does for a link of the session.
[[nodiscard]] link::rider::calls riding(std::shared_ptr<driver>, link_id);

// What one end tells of the moves of its streams.
struct moves {
    std::uint64_t count = 0, octets_again = 0;
    std::string last; // "soft, better, 12 ms"; empty: none yet
    // False where it was none: the session's first link, or one that failed.
    bool note(const handover&);
};

class driver : public std::enable_shared_from_this<driver> {
public:
    using handler = std::function<void(const event&)>; // may use() the session

    driver(asio::any_io_executor executor, session s, handler on_event)
        : executor_(std::move(executor)), session_(std::move(s)), on_event_(std::move(on_event)), timer_(executor_) {}

    // After its handshake. The driver keeps it until one end closes it.
    link_id dial(std::shared_ptr<link::transport>, std::uint32_t group, std::span<const std::uint8_t> binding);
    link_id accept(std::shared_ptr<link::transport>, std::span<const std::uint8_t> binding);
    link_id dial(guest, std::uint32_t group, std::span<const std::uint8_t> binding);
    link_id accept(guest, std::span<const std::uint8_t> binding);
    void received(link_id, std::span<const std::uint8_t> frame);
    // The next frame for that link, appended; false where there is none now.
    bool pull(link_id, std::vector<std::uint8_t>& frame);
    void move(link_id, reason);
    void drop(link_id); // closes it; a guest's owner says so, too, when it is gone
    void stop();        // all of them; no event follows
    // The application's calls; what they leave to be sent goes out.
    template <class Calls>
    auto use(Calls calls) {
        const after later{*this};
        return calls(session_);
    }
    [[nodiscard]] const session& state() const noexcept { return session_; }
    [[nodiscard]] std::size_t links() const noexcept { return links_.size(); }

private:
    using clock = std::chrono::steady_clock;
    struct carried {
        carried(link_id l, std::shared_ptr<link::transport> t)
            : id(l), by(std::move(t)), wake(by->executor(), clock::time_point::max()) {}
        link_id id;
        std::shared_ptr<link::transport> by;
        asio::steady_timer wake; // cancelled when there may be something to send
    };
    struct ways { // of one link
        std::function<void()> more, close;
    };
    struct after {
        driver& of;
        ~after() { of.act(); }
    };

    link_id carry(link_id, std::shared_ptr<link::transport>);
    asio::awaitable<void> read(std::shared_ptr<carried>);
    asio::awaitable<void> write(std::shared_ptr<carried>);
    void act();
    void arm();

    asio::any_io_executor executor_;
    session session_;
    handler on_event_;
    asio::steady_timer timer_;
    std::optional<instant> armed_;
    std::map<link_id, ways> links_;
    bool acting_ = false, stopped_ = false;
};

} // namespace tandem::session_layer
