// SPDX-License-Identifier: Apache-2.0
// Mutual exclusion between coroutines of one io_context thread, first come first served. Whoever holds it or waits for
// it may end by an exception or be destroyed: the next one gets it. Not for threads.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <list>
#include <memory>
#include <utility>

namespace tandem::media {

class async_lock {
    struct waiter {
        explicit waiter(asio::io_context& io) : wake(io, asio::steady_timer::time_point::max()) {}
        asio::steady_timer wake;
        bool chosen = false; // the lock was handed over: it stays held meanwhile
    };
    struct shared {
        bool held = false;
        std::list<waiter> waiters;
        void release() {
            for (auto& next : waiters)
                if (!next.chosen) {
                    next.chosen = true;
                    next.wake.cancel();
                    return;
                }
            held = false;
        }
    };

public:
    class guard {
    public:
        explicit guard(std::shared_ptr<shared> lock) noexcept : lock_(std::move(lock)) {}
        guard(guard&&) noexcept = default;
        guard& operator=(guard&&) = delete;
        ~guard() { release(); }
        void release() {
            if (lock_)
                std::exchange(lock_, nullptr)->release();
        }

    private:
        std::shared_ptr<shared> lock_;
    };

    explicit async_lock(asio::io_context& io) : io_(io), shared_(std::make_shared<shared>()) {}

    asio::awaitable<guard> acquire() {
        const auto lock = shared_;
        if (!lock->held) {
            lock->held = true;
            co_return guard(lock);
        }
        place in_line(lock, io_);
        asio::error_code ignored;
        co_await in_line.at->wake.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        co_return in_line.take();
    }

private:
    // A waiter's place in the line; what was handed over to one that never took it goes to the next.
    struct place {
        place(std::shared_ptr<shared> to, asio::io_context& io)
            : lock(std::move(to)), at(lock->waiters.emplace(lock->waiters.end(), io)) {}
        place(const place&) = delete;
        place& operator=(const place&) = delete;
        ~place() {
            if (!lock)
                return;
            const bool chosen = at->chosen;
            lock->waiters.erase(at);
            if (chosen)
                lock->release();
        }
        guard take() {
            lock->waiters.erase(at);
            return guard(std::exchange(lock, nullptr));
        }
        std::shared_ptr<shared> lock;
        std::list<waiter>::iterator at;
    };

    asio::io_context& io_;
    std::shared_ptr<shared> shared_;
};

} // namespace tandem::media
