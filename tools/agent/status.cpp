// SPDX-License-Identifier: Apache-2.0
// Status socket, both halves.
#include "tools/agent/status.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include <asio/write.hpp>
#include <fmt/format.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

namespace tandem::agent {

namespace {

using stream = asio::local::stream_protocol;

std::string status_path(const std::string& directory) {
    return fmt::format("{}/{}", directory, status_socket_name);
}

constexpr std::size_t longest_path = sizeof(sockaddr_un::sun_path) - 1;

} // namespace

tl::expected<std::unique_ptr<status_server>, std::string>
status_server::open(asio::io_context& io, const std::string& directory, const std::string& user) {
    const std::string path = status_path(directory);
    if (path.size() > longest_path)
        return tl::unexpected(fmt::format("run_dir {}: too long for a socket's path", directory));
    if (read_status(directory))
        return tl::unexpected(fmt::format("another agent answers at {}; stop it, or set another run_dir", path));
    ::unlink(path.c_str());
    std::unique_ptr<status_server> server(new status_server(io, path));
    asio::error_code error;
    const mode_t before = ::umask(0177);
    server->acceptor_.open(stream(), error);
    if (!error)
        server->acceptor_.bind(stream::endpoint(path), error);
    ::umask(before);
    if (!error)
        server->acceptor_.listen(8, error);
    if (error) {
        server->path_.clear();
        return tl::unexpected(fmt::format("status socket {}: {}; check run_dir", path, error.message()));
    }
    if (const passwd* entry = user.empty() || ::geteuid() != 0 ? nullptr : ::getpwnam(user.c_str()); entry != nullptr)
        if (::chown(path.c_str(), entry->pw_uid, entry->pw_gid) != 0)
            return tl::unexpected(fmt::format("status socket {}: {}", path, std::strerror(errno)));
    return server;
}

status_server::~status_server() {
    close();
}

void status_server::close() {
    asio::error_code ignored;
    acceptor_.close(ignored);
    if (!path_.empty())
        ::unlink(path_.c_str()); // refused in a directory of others: the next start replaces it
    path_.clear();
}

void status_server::serve(std::function<std::string()> describe) {
    describe_ = std::move(describe);
    accept();
}

void status_server::accept() {
    acceptor_.async_accept([this](const asio::error_code& error, stream::socket peer) {
        if (error)
            return;
        const auto text = std::make_shared<std::string>(describe_() + "\n");
        const auto socket = std::make_shared<stream::socket>(std::move(peer));
        asio::async_write(*socket, asio::buffer(*text), [text, socket](const asio::error_code&, std::size_t) {});
        accept();
    });
}

tl::expected<std::string, std::string> read_status(const std::string& directory) {
    const std::string path = status_path(directory);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() > longest_path)
        return tl::unexpected(fmt::format("{}: too long for a socket's path", path));
    path.copy(address.sun_path, longest_path);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return tl::unexpected(std::string(std::strerror(errno)));
    const timeval patience{3, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    std::string text;
    int error = 0;
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        error = errno;
    } else {
        std::array<char, 4096> part{};
        ssize_t got = 0;
        while ((got = ::read(fd, part.data(), part.size())) > 0)
            text.append(part.data(), static_cast<std::size_t>(got));
        error = got < 0 ? errno : 0;
    }
    ::close(fd);
    if (error == EACCES)
        return tl::unexpected(fmt::format("{}: {}; root and the agent's own user may ask", path, std::strerror(error)));
    if (error != 0)
        return tl::unexpected(
            fmt::format("no agent answers at {} ({}); is it running with this run_dir?", path, std::strerror(error)));
    return text;
}

} // namespace tandem::agent
