// SPDX-License-Identifier: Apache-2.0
// See observer_link.hpp.
#include "tools/tandemctl/observer_link.hpp"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fmt/core.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <utility>

namespace tandem::ctl {
namespace {

constexpr int answer_ms = 5000;
volatile std::sig_atomic_t ended = 0;

} // namespace

void end_by_signal() {
    struct sigaction action {};
    action.sa_handler = [](int) { ended = 1; }; // no SA_RESTART: a wait ends
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
}

bool signalled() noexcept {
    return ended != 0;
}

observer_link::~observer_link() {
    explicit_bzero(buffer_.data(), buffer_.size()); // a capture's packets
}

result<observer_link> observer_link::open(const std::string& run_dir) {
    const std::string path = run_dir + "/dataplane.sock";
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path)
        return tl::unexpected(error{
            failure::usage, fmt::format("{}: the path is too long for a UNIX socket; give a shorter --run-dir", path)});
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    observer_link link(descriptor(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)), path);
    if (link.fd_ && connect(link.fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
        return link;
    if (errno == EACCES || errno == EPERM)
        return unreachable(fmt::format("{}: no permission; run tandemctl as root or as the data plane's user", path));
    if (errno == ENOENT || errno == ECONNREFUSED)
        return unreachable(
            fmt::format("{}: nobody answers; is tandem-dataplane running, and is --run-dir its run_dir?", path));
    return unreachable(fmt::format("{}: {}", path, std::strerror(errno)));
}

result<observer_link> observer_link::start(const std::string& run_dir, const api::trace_request& what) {
    auto link = open(run_dir);
    if (link)
        if (auto asked = link->ask(api::message_type::trace_start, std::as_bytes(std::span(&what, 1))); !asked)
            return tl::unexpected(asked.error());
    return link;
}

result<observer_link> observer_link::start(const std::string& run_dir, const api::capture_request& what) {
    auto link = open(run_dir);
    if (link)
        if (auto asked = link->ask(api::message_type::capture_start, std::as_bytes(std::span(&what, 1))); !asked)
            return tl::unexpected(asked.error());
    return link;
}

result<void> observer_link::ask(api::message_type type, std::span<const std::byte> item) {
    api::contract_header header{api::contract_magic, api::contract_version, type, 1, 1, 0};
    iovec parts[2] = {{&header, sizeof header}, {const_cast<std::byte*>(item.data()), item.size()}};
    msghdr packed{};
    packed.msg_iov = parts;
    packed.msg_iovlen = 2;
    if (sendmsg(fd_.get(), &packed, MSG_NOSIGNAL) < 0)
        return unreachable(fmt::format("{}: {}", path_, std::strerror(errno)));
    const auto answer = receive(answer_ms);
    if (!answer)
        return tl::unexpected(answer.error());
    if (!*answer)
        return unreachable(fmt::format("{}: no answer within {} s; see the data plane's log", path_, answer_ms / 1000));
    const auto& got = **answer;
    if (got.type == api::message_type::error_reply && got.body.size() == sizeof(api::contract_error)) {
        api::contract_error refused;
        std::memcpy(&refused, got.body.data(), sizeof refused);
        refused.text[sizeof refused.text - 1] = '\0';
        return tl::unexpected(error{failure::failed, fmt::format("the data plane refuses: {}", refused.text)});
    }
    const std::size_t ports = got.count * sizeof(api::port_entry);
    if (static_cast<unsigned>(got.type) != static_cast<unsigned>(type) + 1 ||
        got.body.size() != sizeof(api::observe_reply) + ports)
        return tl::unexpected(
            error{failure::failed, "the data plane's answer is not understood; use the tandemctl that came with it"});
    ports_.resize(got.count);
    std::memcpy(ports_.data(), got.body.data() + sizeof(api::observe_reply), ports);
    return {};
}

std::string observer_link::port_name(std::size_t index) const {
    if (index >= ports_.size())
        return "?";
    return {ports_[index].name, strnlen(ports_[index].name, sizeof ports_[index].name)};
}

result<std::optional<observer_link::message>> observer_link::receive(int timeout_ms) {
    pollfd p{fd_.get(), POLLIN, 0};
    if (poll(&p, 1, timeout_ms) <= 0)
        return std::optional<message>{};
    const ssize_t got = recv(fd_.get(), buffer_.data(), buffer_.size(), 0);
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return std::optional<message>{};
    api::contract_header header{};
    if (got < static_cast<ssize_t>(sizeof header))
        return unreachable(fmt::format("{}: the data plane closed the connection; see its log", path_));
    std::memcpy(&header, buffer_.data(), sizeof header);
    return std::optional(
        message{header.type, header.count,
                std::span(buffer_).subspan(sizeof header, static_cast<std::size_t>(got) - sizeof header)});
}

} // namespace tandem::ctl
