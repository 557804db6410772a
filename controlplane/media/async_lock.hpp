// SPDX-License-Identifier: Apache-2.0
// Mutual exclusion between coroutines of one io_context thread, first come first served. Not for threads.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <deque>
#include <memory>
#include <utility>

namespace tandem::media {

class async_lock {
    struct shared {
        bool held = false;
        std::deque<std::shared_ptr<asio::steady_timer>> waiters;
    };

public:
    class guard {
    public:
        explicit guard(std::shared_ptr<shared> lock) : lock_(std::move(lock)) {}
        guard(guard&&) = default;
        guard& operator=(guard&&) = delete;
        ~guard() { release(); }
        void release() {
            if (!lock_)
                return;
            const auto lock = std::exchange(lock_, nullptr);
            if (lock->waiters.empty()) {
                lock->held = false;
                return;
            }
            const auto next = lock->waiters.front(); // stays held: handed over
            lock->waiters.pop_front();
            next->cancel();
        }

    private:
        std::shared_ptr<shared> lock_;
    };

    explicit async_lock(asio::io_context& io) : io_(io), shared_(std::make_shared<shared>()) {}

    asio::awaitable<guard> acquire() {
        const auto lock = shared_;
        if (lock->held) {
            const auto wait = std::make_shared<asio::steady_timer>(io_, asio::steady_timer::time_point::max());
            lock->waiters.push_back(wait);
            asio::error_code ignored;
            co_await wait->async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        }
        lock->held = true;
        co_return guard(lock);
    }

private:
    asio::io_context& io_;
    std::shared_ptr<shared> shared_;
};

} // namespace tandem::media
