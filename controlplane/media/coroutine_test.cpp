// SPDX-License-Identifier: Apache-2.0
// Locks and answers between coroutines: whoever ends by an exception, or is destroyed, leaves nobody waiting.
#include "controlplane/media/async_lock.hpp"
#include "controlplane/media/spawned.hpp"

#include <asio/co_spawn.hpp>
#include <asio/post.hpp>
#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

namespace tandem::media {
namespace {

struct coroutine_test : testing::Test {
    asio::io_context io{1};
    async_lock lock{io};
    std::vector<int> order;

    asio::awaitable<void> enter(int who, bool fails = false) {
        const auto guard = co_await lock.acquire();
        order.push_back(who);
        co_await asio::post(io, asio::use_awaitable);
        if (fails)
            throw std::runtime_error("inside");
    }
    void start(int who, bool fails = false) { protocol::spawn_contained(io, "test", enter(who, fails)); }
};

TEST_F(coroutine_test, FirstComeFirstServedWhoeverFails) {
    start(1, true);
    start(2);
    start(3, true);
    start(4);
    io.run();
    EXPECT_EQ(order, (std::vector{1, 2, 3, 4}));
}

TEST_F(coroutine_test, OneThatIsDestroyedBeforeItTookTheLockLeavesItFree) {
    auto short_lived = std::make_unique<asio::io_context>(1);
    async_lock shared(*short_lived);
    std::optional<async_lock::guard> held;
    const auto take = [&]() -> asio::awaitable<void> { held.emplace(co_await shared.acquire()); };
    protocol::spawn_contained(*short_lived, "test", take);
    short_lived->poll();
    ASSERT_TRUE(held);
    protocol::spawn_contained(*short_lived, "test", take);
    short_lived->poll();
    held.reset();        // handed to the second ...
    short_lived.reset(); // ... which never takes it
    protocol::spawn_contained(io, "test", take);
    io.poll();
    EXPECT_TRUE(held);
}

TEST_F(coroutine_test, AnAnswerThatFailsWakesWhoWaitsForIt) {
    const auto asked = spawned<int>::start(io, []() -> asio::awaitable<int> {
        throw std::runtime_error("inside");
        co_return 1;
    }());
    bool woken = false;
    protocol::spawn_contained(io, "test", [&]() -> asio::awaitable<void> {
        co_await asked->wait();
        woken = true;
    });
    io.run();
    EXPECT_TRUE(woken);
    EXPECT_TRUE(asked->failed());
}

} // namespace
} // namespace tandem::media
