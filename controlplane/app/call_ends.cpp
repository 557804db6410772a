// SPDX-License-Identifier: Apache-2.0
// See call_ends.hpp.
#include "controlplane/app/call_ends.hpp"

#include <asio/buffer.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "controlplane/protocol/message.hpp"
#include "controlplane/protocol/spawn.hpp"

namespace tandem::control {

struct call_ends::client : std::enable_shared_from_this<client> {
    explicit client(local_listener::socket s) : socket(std::move(s)), wake(socket.get_executor()) {}
    local_listener::socket socket;
    asio::steady_timer wake;
    std::deque<std::shared_ptr<const std::string>> lines;
    std::chrono::steady_clock::time_point went_on; // when it took a line, or got the first of those that wait

    void close() {
        asio::error_code ignored;
        socket.close(ignored);
        wake.cancel();
    }
    // It has nothing to say; one that closed its side for writing alone is told on.
    static asio::awaitable<void> watch(std::shared_ptr<client> self) {
        std::array<char, 256> unheard{};
        asio::error_code error;
        while (!error)
            co_await self->socket.async_read_some(asio::buffer(unheard),
                                                  asio::redirect_error(asio::use_awaitable, error));
        if (error == asio::error::eof)
            co_await self->socket.async_wait(local_listener::socket::wait_error,
                                             asio::redirect_error(asio::use_awaitable, error));
        self->close();
    }
    asio::awaitable<void> write() {
        asio::error_code error;
        while (socket.is_open()) {
            if (lines.empty()) {
                wake.expires_at(asio::steady_timer::time_point::max());
                co_await wake.async_wait(asio::redirect_error(asio::use_awaitable, error));
                continue;
            }
            const auto line = std::move(lines.front()); // shared by all who are told
            lines.pop_front();
            co_await asio::async_write(socket, asio::buffer(*line), asio::redirect_error(asio::use_awaitable, error));
            went_on = std::chrono::steady_clock::now();
            if (error)
                close();
        }
    }
};

std::string call_end_line(const callcontrol::ended_call& call) {
    const std::chrono::duration<double> lasted = protocol::between(call.started, call.ended);
    nlohmann::ordered_json line{{"event", "call ended"}, {"call_id", call.call_id},  {"from_tag", call.from_tag},
                                {"to_tag", call.to_tag}, {"caller", call.caller},    {"callee", call.callee},
                                {"cause", call.cause},   {"seconds", lasted.count()}};
    const std::span bytes(reinterpret_cast<const std::uint8_t*>(call.call_id.data()), call.call_id.size());
    if (!protocol::valid_text(bytes))
        line["call_id_hex"] = fmt::format("{:02x}", fmt::join(bytes, ""));
    return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

call_ends::call_ends(asio::io_context& io, std::string path, std::chrono::milliseconds patience)
    : io_(io), patience_(patience),
      listener_(io, "the socket of calls' ends", std::move(path), 0660,
                [this](local_listener::socket socket) { return serve(std::move(socket)); }) {}

asio::awaitable<void> call_ends::serve(local_listener::socket socket) {
    const auto one = std::make_shared<client>(std::move(socket));
    clients_.push_back(one);
    protocol::spawn_contained(io_, "reader of a client of calls' ends", client::watch(one));
    co_await one->write();
}

void call_ends::tell(const callcontrol::ended_call& call) {
    std::erase_if(clients_, [](const auto& one) { return one.expired(); });
    if (clients_.empty())
        return;
    const auto line = std::make_shared<const std::string>(call_end_line(call));
    for (const auto& weak : clients_)
        if (const auto one = weak.lock(); one && one->socket.is_open()) {
            const auto now = std::chrono::steady_clock::now();
            if (one->lines.empty())
                one->went_on = now;
            if (one->lines.size() >= most_waiting && now - one->went_on > patience_) {
                spdlog::warn("a client of calls' ends is closed: it has left {} lines unread", one->lines.size());
                one->close();
                continue;
            }
            one->lines.push_back(line);
            one->wake.cancel();
        }
}

} // namespace tandem::control
