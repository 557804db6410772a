// SPDX-License-Identifier: Apache-2.0
// What the tests of the link share: both ends over a pair of sockets of loopback in one io_context, at will with
// somebody between them. For tests only.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#include <asio/write.hpp>
#include <openssl/ssl.h>

#include "controlplane/link/buffers.hpp"
#include "controlplane/link/error.hpp"
#include "controlplane/link/tls_tcp.hpp"
#include "controlplane/link/with.hpp"

namespace tandem::link::testing {

using namespace std::chrono_literals;
using asio::ip::tcp;
using bytes = std::vector<std::uint8_t>;

inline bytes packet(std::size_t size, std::uint8_t filling = 0) {
    bytes one(size, filling);
    one[0] = 0x45;
    return one;
}
inline bytes control(std::size_t size, std::uint8_t filling) {
    bytes one(size, filling);
    one[0] = 0x10;
    return one;
}
inline protocol::secret key(std::uint8_t filling = 7) {
    return protocol::secret(bytes(32, filling));
}

class Link : public ::testing::Test {
protected:
    Link()
        : server_context_(protocol::make_server_context(
                              [](std::string_view id) -> std::optional<protocol::secret> {
                                  return id == "alice" ? std::optional(key()) : std::nullopt;
                              },
                              {})
                              .value()),
          client_context_(protocol::make_client_context("alice", key()).value()) {}

    using pair = std::array<tcp::socket, 2>;
    pair sockets(int buffer = 0) {
        tcp::acceptor door(io_, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
        if (buffer > 0)
            door.set_option(tcp::socket::receive_buffer_size(buffer)); // what it accepts has it, too
        tcp::socket from(io_);
        from.connect(door.local_endpoint());
        if (buffer > 0)
            from.set_option(tcp::socket::send_buffer_size(buffer));
        return {std::move(from), door.accept()};
    }
    // Both ends, nobody between them.
    void join(tls_options options = {}, int buffer = 0) {
        auto [a, b] = sockets(buffer);
        unit_ = std::make_unique<tls_tcp>(std::move(a), options);
        gateway_ = std::make_unique<tls_tcp>(std::move(b), options);
    }
    // Who is between them holds middle_[0] towards the unit, middle_[1] towards the gateway.
    void join_by_middle() {
        auto [a, m] = sockets();
        auto [n, b] = sockets();
        unit_ = std::make_unique<tls_tcp>(std::move(a));
        gateway_ = std::make_unique<tls_tcp>(std::move(b));
        middle_.push_back(std::move(m));
        middle_.push_back(std::move(n));
        for (const std::size_t from : {0U, 1U})
            asio::co_spawn(io_, pass_on(middle_[from], middle_[1 - from]), asio::detached);
    }
    // Octet by octet.
    asio::awaitable<void> pass_on(tcp::socket& from, tcp::socket& to) {
        std::array<std::uint8_t, 1> one{};
        std::error_code error;
        while (!error) {
            co_await from.async_read_some(asio::buffer(one), with(error));
            if (!error)
                co_await asio::async_write(to, asio::buffer(one), with(error));
        }
        to.shutdown(tcp::socket::shutdown_send, error);
    }

    void spawn(asio::awaitable<void> work) {
        ++running_;
        asio::co_spawn(io_, std::move(work), [this](const std::exception_ptr& error) {
            --running_;
            if (error)
                std::rethrow_exception(error);
        });
    }
    // Until everything that was spawned has ended, or that is true.
    void run(const std::function<bool()>& done = {}) {
        const auto end = std::chrono::steady_clock::now() + 20s;
        io_.restart();
        while ((done ? !done() : running_ > 0) && std::chrono::steady_clock::now() < end) {
            if (io_.stopped())
                io_.restart();
            io_.run_one_for(50ms);
        }
        EXPECT_TRUE(done ? done() : running_ == 0) << "not within 20 s";
    }
    asio::awaitable<void> greet(tls_tcp& end, side which, std::error_code& error) {
        co_await end.handshake(which == side::server ? server_context_.get() : client_context_.get(), which, error);
    }
    // Both handshakes; they must succeed.
    void establish() {
        const int before = running_;
        spawn(greet(*unit_, side::client, unit_error_));
        spawn(greet(*gateway_, side::server, gateway_error_));
        run([&] { return running_ == before; });
        ASSERT_FALSE(unit_error_) << unit_error_.message();
        ASSERT_FALSE(gateway_error_) << gateway_error_.message();
    }
    asio::awaitable<void> send(tls_tcp& end, std::vector<bytes> frames, std::error_code& error) {
        error.clear();
        for (const auto& frame : frames) {
            if (!end.add(frame)) {
                co_await end.flush(error);
                if (error)
                    co_return;
                EXPECT_TRUE(end.add(frame));
            }
        }
        co_await end.flush(error);
    }
    // That happens within a TLS connection from now on.
    struct seen {
        std::size_t records = 0, key_updates = 0;
    };
    static void watch(tls_tcp& end, seen& what) {
        SSL_set_msg_callback_arg(end.native(), &what);
        SSL_set_msg_callback(
            end.native(), +[](int writes, int, int type, const void* octets, std::size_t, SSL*, void* to) {
                auto& counted = *static_cast<seen*>(to);
                if (writes == 1 && type == SSL3_RT_HEADER)
                    ++counted.records;
                if (writes == 1 && type == SSL3_RT_HANDSHAKE)
                    counted.key_updates += *static_cast<const std::uint8_t*>(octets) == SSL3_MT_KEY_UPDATE ? 1 : 0;
            });
    }
    asio::awaitable<void> receive(tls_tcp& end, std::vector<bytes>& into, std::error_code& error) {
        const transport::frame_handler take = [&](const protocol::frame& f) {
            into.emplace_back(f.bytes.begin(), f.bytes.end());
        };
        for (error.clear(); !error;)
            co_await end.receive(take, error);
    }

    asio::io_context io_;
    protocol::ssl_context server_context_, client_context_;
    std::vector<tcp::socket> middle_;
    std::unique_ptr<tls_tcp> unit_, gateway_;
    std::error_code unit_error_, gateway_error_;
    int running_ = 0;
};

} // namespace tandem::link::testing
