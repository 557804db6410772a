// SPDX-License-Identifier: Apache-2.0
// Ops socket: lines in, lines out. Owner thread: io_context.
#include "controlplane/app/ops_server.hpp"

#include <asio/buffer.hpp>
#include <asio/read_until.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>
#include <cstdlib>
#include <fmt/format.h>
#include <fstream>
#include <sys/socket.h>

#include "controlplane/app/ops_protocol.hpp"

namespace tandem::control {

namespace {

// Who is at the other end, for the audit: "root (uid 0) by tandemctl". Out of the kernel and of local files: a name
// service on the network must not hold this thread up.
std::string peer_of(local_listener::socket& socket) {
    ucred peer{};
    socklen_t size = sizeof(peer);
    if (::getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        return "unknown";
    std::string name, line, program;
    std::ifstream users("/etc/passwd"); // name:x:uid:...
    while (name.empty() && std::getline(users, line)) {
        const auto first = line.find(':'), second = line.find(':', first + 1);
        if (second != std::string::npos && std::strtoul(line.c_str() + second + 1, nullptr, 10) == peer.uid)
            name = line.substr(0, first);
    }
    std::ifstream(fmt::format("/proc/{}/comm", peer.pid)) >> program;
    for (auto& c : program) // a program's name is whatever it likes
        if (c <= ' ' || c > '~')
            c = '?';
    return fmt::format("{} (uid {}) by {}", name.empty() ? "somebody" : name, peer.uid,
                       program.empty() ? fmt::format("pid {}", peer.pid) : program);
}

} // namespace

ops_server::ops_server(asio::io_context& io, std::string path, verbs& answers)
    : verbs_(answers), listener_(io, "the ops socket", std::move(path), 0600,
                                 [this](local_listener::socket client) { return serve(std::move(client)); }) {}

asio::awaitable<void> ops_server::serve(local_listener::socket socket) {
    const auto who = peer_of(socket);
    std::string buffer;
    for (;;) {
        asio::error_code error;
        const auto length = co_await asio::async_read_until(socket, asio::dynamic_buffer(buffer, ops::max_line), '\n',
                                                            asio::redirect_error(asio::use_awaitable, error));
        if (error)
            break;
        auto request =
            nlohmann::json::parse(buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(length), nullptr, false);
        protocol::wipe(buffer.data(), length);
        buffer.erase(0, length);
        const auto reply = co_await verbs_.answer(std::move(request), who);
        const auto line = reply.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
        co_await asio::async_write(socket, asio::buffer(line), asio::redirect_error(asio::use_awaitable, error));
        if (error)
            break;
    }
}

} // namespace tandem::control
