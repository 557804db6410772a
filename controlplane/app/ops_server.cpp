// SPDX-License-Identifier: Apache-2.0
// Ops socket: accept, lines in, lines out. Owner thread: io_context.
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
#include <sys/stat.h>
#include <unistd.h>

#include "controlplane/app/ops_protocol.hpp"
#include "controlplane/protocol/spawn.hpp"

namespace tandem::control {

namespace {

constexpr std::size_t max_clients = 64;

// Who is at the other end, for the audit: "root (uid 0) by tandemctl". Out of the kernel and of local files: a name
// service on the network must not hold this thread up.
std::string peer_of(asio::local::stream_protocol::socket& socket) {
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
    : io_(io), path_(std::move(path)), verbs_(answers), acceptor_(io) {}

ops_server::~ops_server() {
    stop();
}

tl::expected<void, std::string> ops_server::start() {
    ::unlink(path_.c_str()); // ours: the lock on run_dir says that nobody else lives here
    asio::error_code error;
    acceptor_.open(asio::local::stream_protocol(), error);
    const auto before = ::umask(0177);
    if (!error)
        acceptor_.bind(asio::local::stream_protocol::endpoint(path_), error);
    ::umask(before);
    if (!error)
        acceptor_.listen(16, error);
    if (error)
        return tl::unexpected(fmt::format("ops socket {} cannot be made: {}; check run_dir", path_, error.message()));
    protocol::spawn(io_, "acceptor of the ops socket", accept());
    return {};
}

void ops_server::stop() {
    if (!acceptor_.is_open())
        return;
    asio::error_code ignored;
    acceptor_.close(ignored);
    ::unlink(path_.c_str());
}

asio::awaitable<void> ops_server::accept() {
    for (;;) {
        asio::error_code error;
        auto socket = co_await acceptor_.async_accept(asio::redirect_error(asio::use_awaitable, error));
        if (error == asio::error::operation_aborted || error == asio::error::bad_descriptor)
            co_return;
        if (error) { // out of descriptors: wait, do not spin
            asio::steady_timer pause(io_, std::chrono::milliseconds(100));
            co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
            continue;
        }
        if (clients_ < max_clients)
            protocol::spawn_contained(io_, "client of the ops socket", serve(std::move(socket)),
                                      [this] { --clients_; });
    }
}

asio::awaitable<void> ops_server::serve(asio::local::stream_protocol::socket socket) {
    ++clients_;
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
    --clients_;
}

} // namespace tandem::control
