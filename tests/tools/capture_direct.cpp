// SPDX-License-Identifier: Apache-2.0
// capture_direct: the agent's capture, without privileges once it stands, with nothing behind it: each captured
// connection becomes one of this process's own, straight to where it was to go.
//
//   capture_direct --config FILE        the [capture] of an agent.toml
// Prints "ready", then a JSON object of counters, at USR1, and at TERM or INT when it ends.
#include <array>
#include <csignal>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

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
#include "tools/agent/device/privileges.hpp"

namespace {

using namespace tandem;
using asio::ip::tcp;
using asio::ip::udp;
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

// A program's datagram socket: one of this process's own.
class direct_way : public agent::datagram_way {
public:
    direct_way(asio::io_context& io, const udp& family, agent::datagram_return back)
        : end_(std::make_shared<end>(io, family)) {
        asio::co_spawn(io, receive(end_, std::move(back)), asio::detached);
    }
    ~direct_way() override {
        asio::error_code ignored;
        end_->over = true;
        end_->socket.close(ignored);
    }
    void send(const udp::endpoint& destination, std::span<const std::uint8_t> datagram) override {
        asio::error_code ignored; // as a wire loses
        end_->socket.send_to(asio::buffer(datagram.data(), datagram.size()), destination, 0, ignored);
    }

private:
    struct end {
        udp::socket socket;
        bool over = false;
        end(asio::io_context& io, const udp& family) : socket(io, udp::endpoint(family, 0)) {}
    };
    static asio::awaitable<void> receive(std::shared_ptr<end> on, agent::datagram_return back) {
        std::vector<std::uint8_t> datagram(65536);
        for (;;) {
            udp::endpoint from;
            asio::error_code error;
            const auto length = co_await on->socket.async_receive_from(
                asio::buffer(datagram), from, asio::redirect_error(asio::use_awaitable, error));
            if (on->over)
                co_return;
            if (!error)
                back(from, {datagram.data(), length});
        }
    }
    std::shared_ptr<end> end_;
};

class direct : public agent::taker {
public:
    explicit direct(asio::io_context& io) : io_(io) {}
    void take(tcp::socket program, const tcp::endpoint& destination) override {
        asio::co_spawn(io_, connect(std::make_shared<tcp::socket>(std::move(program)), destination), asio::detached);
    }
    std::unique_ptr<agent::datagram_way> take_datagrams(const udp& family, agent::datagram_return back) override {
        return std::make_unique<direct_way>(io_, family, std::move(back));
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

void show(const agent::program_capture& capture) {
    const auto& count = capture.count();
    const auto kernel = capture.kernel_count();
    const auto& datagrams = capture.datagrams();
    const nlohmann::json all{{"taken", count.taken},
                             {"strangers", count.strangers},
                             {"captured", kernel.connections},
                             {"elsewhere", kernel.elsewhere},
                             {"unready", kernel.unready},
                             {"up", datagrams.count().up},
                             {"down", datagrams.count().down},
                             {"lost", datagrams.count().lost},
                             {"no_room", datagrams.count().no_room},
                             {"sockets", datagrams.count().sockets},
                             {"programs", datagrams.programs()},
                             {"doors", datagrams.open_doors()}};
    fmt::print("{}\n", all.dump());
    std::fflush(stdout);
}

void await_signal(asio::io_context& io, asio::signal_set& signals, const agent::program_capture& capture) {
    signals.async_wait([&](auto, int number) {
        show(capture);
        if (number == SIGUSR1)
            await_signal(io, signals, capture);
        else
            io.stop();
    });
}

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
    for (const auto& dropped : {agent::become(config->user), agent::drop_all()}) // as the agent does
        if (!dropped) {
            fmt::print(stderr, "{}\n", dropped.error());
            return 1;
        }
    asio::signal_set signals(io, SIGTERM, SIGINT, SIGUSR1);
    await_signal(io, signals, **capture);
    fmt::print("ready\n");
    std::fflush(stdout);
    io.run();
    return 0;
}
