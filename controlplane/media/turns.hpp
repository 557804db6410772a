// SPDX-License-Identifier: Apache-2.0
// Whose turn it is at one media. Whoever changes a leg's keys, or tells its unit of them, has the leg's turn; whoever
// changes the media has both. First come, first served; a media that is over gives no turn, and who had one when it
// ended finds over() after whatever it awaited, and gives up. One io_context thread; not for threads.
#pragma once

#include <array>
#include <optional>
#include <utility>

#include "controlplane/media/async_lock.hpp"

namespace tandem::media {

class turn {
public:
    [[nodiscard]] explicit operator bool() const noexcept { return legs_[0] || legs_[1]; }
    void end() noexcept {
        for (auto& one : legs_)
            one.reset();
    }

private:
    friend class turns;
    std::array<std::optional<async_lock::guard>, 2> legs_;
};

class turns {
public:
    explicit turns(asio::io_context& io) : legs_{async_lock(io), async_lock(io)} {}

    // False where the media ended meanwhile.
    asio::awaitable<turn> of(std::size_t leg) {
        turn mine;
        co_await take(mine, leg);
        if (over_)
            mine.end();
        co_return mine;
    }
    asio::awaitable<turn> whole() {
        turn mine;
        for (std::size_t leg = 0; leg < 2; ++leg) // in this order, whoever asks
            co_await take(mine, leg);
        if (over_)
            mine.end();
        co_return mine;
    }
    void close() noexcept { over_ = true; }
    [[nodiscard]] bool over() const noexcept { return over_; }

private:
    asio::awaitable<void> take(turn& mine, std::size_t leg) { mine.legs_[leg].emplace(co_await legs_[leg].acquire()); }

    std::array<async_lock, 2> legs_;
    bool over_ = false;
};

} // namespace tandem::media
