// SPDX-License-Identifier: Apache-2.0
// capture_direct: the agent's capture with nothing behind it: each captured connection becomes one of this process's
// own, straight to where it was to go.
//
//   capture_direct --config FILE        the [capture] of an agent.toml
// Prints "ready", then at TERM or INT a JSON object of counters.
#include <array>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <asio/co_spawn.hpp>
#include <asio/connect.hpp>
#include <asio/detached.hpp>
#include <asio/redirect_error.hpp>
#include <asio/signal_set.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tools/agent/capture/program_capture.hpp"
#include "tools/agent/config.hpp"

namespace {

using namespace tandem;
using asio::ip::tcp;
using shared_socket = std::shared_ptr<tcp::socket>;

void reset(tcp::socket& socket) {
    asio::error_code ignored;
    socket.set_option(asio::socket_base::linger(true, 0), ignored);
    socket.close(ignored);
}

// One direction; its end passes on as a half-close, an error resets both.
asio::awaitable<void> pump(shared_socket from, shared_socket to) {
    std::array<char, 16384> part{};
    asio::error_code error;
    for (;;) {
        const auto got =
            co_await from->async_read_some(asio::buffer(part), asio::redirect_error(asio::use_awaitable, error));
        if (error)
            break;
        co_await asio::async_write(*to, asio::buffer(part.data(), got),
                                   asio::redirect_error(asio::use_awaitable, error));
        if (error)
            break;
    }
    if (error == asio::error::eof) {
        to->shutdown(tcp::socket::shutdown_send, error);
        co_return;
    }
    reset(*from);
    reset(*to);
}

class direct : public agent::taker {
public:
    explicit direct(asio::io_context& io) : io_(io) {}
    void take(tcp::socket program, const tcp::endpoint& destination) override {
        asio::co_spawn(io_, connect(std::make_shared<tcp::socket>(std::move(program)), destination), asio::detached);
    }

private:
    asio::awaitable<void> connect(shared_socket program, tcp::endpoint destination) {
        auto service = std::make_shared<tcp::socket>(io_);
        asio::error_code error;
        co_await service->async_connect(destination, asio::redirect_error(asio::use_awaitable, error));
        if (error) {
            reset(*program);
            co_return;
        }
        asio::co_spawn(io_, pump(program, service), asio::detached);
        co_await pump(service, program);
    }
    asio::io_context& io_;
};

} // namespace

int main(int argc, char** argv) {
    CLI::App app{"the agent's capture, straight to the destination", "capture_direct"};
    std::string file;
    app.add_option("--config", file)->required();
    CLI11_PARSE(app, argc, argv);
    const auto config = agent::load_config(file);
    if (!config) {
        fmt::print(stderr, "{}\n", config.error());
        return 2;
    }
    asio::io_context io(1);
    direct to(io);
    auto capture = agent::program_capture::start(io, config->capture, to);
    if (!capture) {
        fmt::print(stderr, "{}\n", capture.error());
        return 1;
    }
    asio::signal_set signals(io, SIGTERM, SIGINT);
    signals.async_wait([&](auto, int) { io.stop(); });
    fmt::print("ready\n");
    std::fflush(stdout);
    io.run();
    const auto& count = (*capture)->count();
    const auto kernel = (*capture)->kernel_count();
    fmt::print("{}\n", nlohmann::json{{"taken", count.taken},
                                      {"strangers", count.strangers},
                                      {"captured", kernel.connections},
                                      {"elsewhere", kernel.elsewhere},
                                      {"unready", kernel.unready}}
                           .dump());
    return 0;
}
