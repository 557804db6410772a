// SPDX-License-Identifier: Apache-2.0
// Carries out what a channel says, for whoever has connections and an io_context: gateway, agent and the tests' ends.
// Coroutines wait for their responses here, and the channel's time comes from one timer. Owner thread: the executor's.
#pragma once

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <map>
#include <memory>

#include "controlplane/protocol/channel.hpp"

namespace tandem::protocol {

// One connection, as its channel sees it. It may call the driver from within.
class channel_link {
public:
    virtual ~channel_link() = default;
    virtual void send(wiped_bytes message, bool request) = 0;
    virtual void serve(message request) = 0;
    virtual void hang_up(ending) = 0;
    // The peer's message came to nothing: the status that says why; nothing = a response that nobody waits for.
    virtual void count(std::optional<status>) = 0;
};

class channel_driver : public std::enable_shared_from_this<channel_driver> {
public:
    struct reply {
        outcome how = outcome::failed;
        std::optional<message> response{};
    };

    channel_driver(asio::any_io_executor executor, role end, channel_limits limits = {})
        : channel_(end, limits), timer_(executor) {}

    // The channel does not keep a link alive: one that is gone without a word counts as lost.
    [[nodiscard]] link_id attach(carrier kind, const std::weak_ptr<channel_link>& to) {
        const auto id = channel_.attach(kind, clock::now());
        links_.emplace(id, to);
        return id;
    }
    // See channel::take_over().
    [[nodiscard]] link_id take_over(channel_driver& newcomer) {
        const auto id = channel_.take_over(std::move(newcomer.channel_));
        links_.emplace(id, newcomer.links_.begin()->second);
        newcomer.links_.clear();
        return id;
    }
    void receive(link_id id, std::span<const std::uint8_t> bytes) {
        act(channel_.receive(id, bytes, clock::now()), id);
    }
    void heard(link_id id) noexcept { channel_.heard(id, clock::now()); }
    void answer(link_id id, const message& response) { act(channel_.answer(id, response, clock::now()), id); }
    void tell(message request) { act(channel_.tell(std::move(request))); }
    void keepalive(std::chrono::milliseconds interval) {
        channel_.keepalive(interval, clock::now());
        act(channel_.poll(clock::now()));
    }
    void lost(link_id id) {
        links_.erase(id);
        act(channel_.lost(id, clock::now()));
    }
    asio::awaitable<reply> request(message what, std::chrono::milliseconds timeout) {
        const auto of = next_++;
        return wait(of, [this, of, timeout, m = std::move(what)]() mutable {
            return channel_.request(of, std::move(m), timeout, clock::now());
        });
    }
    asio::awaitable<reply> configure(link_id id, message config, std::chrono::milliseconds timeout) {
        const auto of = next_++;
        return wait(of, [this, id, of, timeout, m = std::move(config)]() mutable {
            return channel_.configure(id, of, std::move(m), timeout, clock::now());
        });
    }
    [[nodiscard]] const channel& state() const noexcept { return channel_; }

private:
    using clock = std::chrono::steady_clock;
    struct waiter {
        explicit waiter(const asio::any_io_executor& executor) : timer(executor, clock::time_point::max()) {}
        asio::steady_timer timer; // cancelled when the reply is there
        std::optional<reply> got;
    };

    template <class Ask>
    asio::awaitable<reply> wait(ticket of, Ask ask) {
        const auto self = shared_from_this();
        const auto w = std::make_shared<waiter>(timer_.get_executor());
        waiting_.emplace(of, w);
        act(ask());
        std::error_code error;
        while (!w->got)
            co_await w->timer.async_wait(asio::redirect_error(asio::use_awaitable, error));
        co_return std::move(*w->got);
    }
    void finish(to_finish& f) {
        const auto at = waiting_.find(f.of);
        if (at == waiting_.end())
            return;
        at->second->got = reply{f.how, std::move(f.response)};
        at->second->timer.cancel();
        waiting_.erase(at);
    }
    [[nodiscard]] std::shared_ptr<channel_link> link(link_id id) const {
        const auto at = links_.find(id);
        return at != links_.end() ? at->second.lock() : nullptr;
    }
    void act(actions todo, link_id from = 0) {
        const auto self = shared_from_this();
        for (auto& a : todo) {
            if (auto* s = std::get_if<to_send>(&a)) {
                if (const auto l = link(s->link))
                    l->send(std::move(s->bytes), s->request);
            } else if (auto* r = std::get_if<to_serve>(&a)) {
                if (const auto l = link(r->link))
                    l->serve(std::move(r->request));
            } else if (auto* f = std::get_if<to_finish>(&a)) {
                finish(*f);
            } else if (const auto* c = std::get_if<to_close>(&a)) {
                const auto l = link(c->link);
                links_.erase(c->link);
                if (l)
                    l->hang_up(c->why);
            } else if (const auto l = link(from)) {
                const auto* no = std::get_if<refused>(&a);
                l->count(no != nullptr ? std::optional(no->code) : std::nullopt);
            }
        }
        arm();
    }
    void arm() {
        const auto due = channel_.due();
        if (!due) { // a timer that waits for nothing would keep the io_context running
            timer_.cancel();
            armed_.reset();
        }
        if (!due || (armed_ && *armed_ <= *due))
            return;
        armed_ = due;
        timer_.expires_at(*due);
        timer_.async_wait([weak = weak_from_this()](std::error_code error) {
            const auto self = weak.lock();
            if (error || !self)
                return;
            self->armed_.reset();
            self->act(self->channel_.poll(clock::now()));
        });
    }

    channel channel_;
    std::map<link_id, std::weak_ptr<channel_link>> links_;
    std::map<ticket, std::shared_ptr<waiter>> waiting_;
    asio::steady_timer timer_;
    std::optional<instant> armed_; // when the timer ends
    ticket next_ = nobody + 1;
};

} // namespace tandem::protocol
