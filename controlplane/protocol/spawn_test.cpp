// SPDX-License-Identifier: Apache-2.0
// An exception in a coroutine of its own is seen: in the log, and by the program or by who started it.
#include "controlplane/protocol/spawn.hpp"

#include <sstream>
#include <stdexcept>

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/use_awaitable.hpp>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>

namespace tandem::protocol {
namespace {

struct spawn_test : testing::Test {
    asio::io_context io{1};
    std::ostringstream text;
    std::shared_ptr<spdlog::logger> before = spdlog::default_logger();
    spawn_test() {
        spdlog::set_default_logger(
            std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::ostream_sink_st>(text, true)));
    }
    ~spawn_test() override { spdlog::set_default_logger(before); }
    // Fails after it was resumed once, as a reader does.
    asio::awaitable<void> fails() {
        co_await asio::post(io, asio::use_awaitable);
        throw std::runtime_error("no memory for it");
    }
    [[nodiscard]] bool logged(const char* what) const { return text.str().find(what) != std::string::npos; }
};

TEST_F(spawn_test, WhatTheProgramNeedsEndsItWithItsReason) {
    spawn(io, "reader of ng", fails());
    EXPECT_THROW(io.run(), std::runtime_error);
    EXPECT_TRUE(logged("reader of ng ended by an error inside: no memory for it")) << text.str();
}

TEST_F(spawn_test, WhatConcernsOneConnectionIsPutInOrderAndTheRestGoesOn) {
    bool after = false, other = false;
    spawn_contained(io, "handshake", fails(), [&] { after = true; });
    spawn_contained(io, "other", [&]() -> asio::awaitable<void> {
        co_await asio::post(io, asio::use_awaitable);
        co_await asio::post(io, asio::use_awaitable);
        other = true;
    });
    EXPECT_NO_THROW(io.run());
    EXPECT_TRUE(after);
    EXPECT_TRUE(other);
    EXPECT_TRUE(logged("handshake ended by an error inside: no memory for it")) << text.str();
    EXPECT_FALSE(logged("other"));
}

TEST_F(spawn_test, NothingIsSaidOfOneThatEndsWell) {
    spawn(io, "reader", []() -> asio::awaitable<void> { co_return; });
    EXPECT_NO_THROW(io.run());
    EXPECT_TRUE(text.str().empty()) << text.str();
}

} // namespace
} // namespace tandem::protocol
