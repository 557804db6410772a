// SPDX-License-Identifier: Apache-2.0
// A coroutine that runs from now on beside its maker, and whose result may be waited for later, or never. What it
// holds must outlive it. One that ended by an exception is done, and failed. One io_context thread; not for threads.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <memory>
#include <optional>
#include <utility>

#include "controlplane/protocol/spawn.hpp"

namespace tandem::media {

template <class T>
class spawned {
public:
    explicit spawned(asio::io_context& io) : done_(io, asio::steady_timer::time_point::max()) {}

    [[nodiscard]] static std::shared_ptr<spawned> start(asio::io_context& io, asio::awaitable<T> work) {
        auto self = std::make_shared<spawned>(io);
        protocol::spawn_contained(io, "a question beside its call", run(self, std::move(work)), [self] {
            self->failed_ = true;
            self->done_.cancel();
        });
        return self;
    }
    [[nodiscard]] bool done() const noexcept { return value_.has_value() || failed_; }
    [[nodiscard]] bool failed() const noexcept { return failed_; }
    [[nodiscard]] T& value() noexcept { return *value_; } // once done, where it did not fail
    // The caller keeps a reference to *this meanwhile.
    asio::awaitable<void> wait() {
        while (!done()) {
            asio::error_code ignored;
            co_await done_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        }
    }

private:
    static asio::awaitable<void> run(std::shared_ptr<spawned> self, asio::awaitable<T> work) {
        self->value_.emplace(co_await std::move(work));
        self->done_.cancel();
    }
    asio::steady_timer done_;
    std::optional<T> value_;
    bool failed_ = false;
};

} // namespace tandem::media
