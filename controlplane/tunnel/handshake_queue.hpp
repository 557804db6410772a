// SPDX-License-Identifier: Apache-2.0
// Handshakes whose ClientHello is there: a few may be under way at once. The next one is of the source that has begun
// fewest in vain (source_scores), the newest of it; it takes the place of one of a source that has begun more. So
// whoever begins many and ends none waits behind everybody else, and costs little. Owner thread: the io_context's.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/address.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <utility>

#include "controlplane/tunnel/source_scores.hpp"

namespace tandem::tunnel {

class handshake_queue {
public:
    static constexpr std::size_t most_waiting = 256; // then the last in line goes
    static constexpr unsigned most_in_a_turn = 8;    // TLS takes long: other work of the io_context gets its turn

    handshake_queue(asio::io_context& io, std::size_t places) : io_(io), places_(places) {}
    static constexpr std::uint32_t hopeless = 8;

    // One handshake, from its ClientHello to its end.
    class ticket {
    public:
        ticket(handshake_queue& of, asio::ip::address from)
            : of_(of), from_(std::move(from)), source_(of.scores_.of(from_)), gate_(of.io_) {
            of_.enter(*this);
        }
        ~ticket() { of_.leave(*this); }
        ticket(const ticket&) = delete;
        ticket& operator=(const ticket&) = delete;

        // False: its turn did not come within that time, or there are too many before it.
        [[nodiscard]] asio::awaitable<bool> turn(std::chrono::milliseconds patience);
        // Called, while it is under way, when another one needs its place.
        void on_displaced(std::function<void()> then) { displaced_ = std::move(then); }
        // It led to a unit.
        void proven() {
            source_.took_back();
            of_.scores_.prove(from_);
        }

    private:
        friend handshake_queue;
        enum class is { waiting, under_way, out };
        handshake_queue& of_;
        asio::ip::address from_;
        source_scores::place& source_;
        asio::steady_timer gate_;
        std::function<void()> displaced_;
        is state_ = is::waiting;
        std::list<ticket*>::iterator at_;
    };

    [[nodiscard]] std::size_t under_way() const noexcept { return under_way_.size(); }
    // While too many wait: a source that has begun so many in vain need not be waited for at all.
    [[nodiscard]] bool is_hopeless(const asio::ip::address& from) {
        return waiting_.size() >= most_waiting && scores_.of(from).score(source_scores::clock::now()) >= hopeless;
    }

private:
    using tickets = std::list<ticket*>; // oldest first
    void enter(ticket& one);
    void leave(ticket& one);
    void give_up(ticket& one);
    void schedule();
    void go_on();
    // For the algorithms: what a ticket's source has begun in vain.
    [[nodiscard]] static auto by_score() {
        return [now = source_scores::clock::now()](const ticket* t) { return t->source_.score(now); };
    }

    asio::io_context& io_;
    std::size_t places_;
    source_scores scores_;
    tickets waiting_, under_way_;
    bool scheduled_ = false;
    std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

} // namespace tandem::tunnel
