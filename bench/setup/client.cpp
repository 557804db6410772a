// SPDX-License-Identifier: Apache-2.0
// See client.hpp.
#include "bench/setup/client.hpp"

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <fmt/format.h>

namespace tandem::bench::setup {

namespace {
constexpr unsigned most_under_way = 4;
}

client::client(const std::string& path)
    : fd_(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)), in_(api::contract_max_message) {
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    path.copy(to.sun_path, sizeof to.sun_path - 1);
    const int room = 1 << 20;
    setsockopt(fd_, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    if (connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0)
        throw std::runtime_error(fmt::format("{}: {}", path, std::strerror(errno)));
    const api::hello hello{api::contract_version, static_cast<std::uint32_t>(getpid())};
    message(api::message_type::hello, std::as_bytes(std::span(&hello, 1)), 1);
    flush();
}

client::~client() {
    close(fd_);
}

void client::message(api::message_type type, std::span<const std::byte> items, std::uint16_t count) {
    const api::contract_header header{api::contract_magic, api::contract_version, type, ++sequence_, count, 0};
    out_.resize(sizeof header + items.size());
    std::memcpy(out_.data(), &header, sizeof header);
    std::memcpy(out_.data() + sizeof header, items.data(), items.size());
    if (::send(fd_, out_.data(), out_.size(), MSG_NOSIGNAL) < 0)
        throw std::runtime_error(fmt::format("contract: {}", std::strerror(errno)));
    if (++under_way_ >= most_under_way)
        read_answer();
}

void client::flush() {
    while (under_way_ != 0)
        read_answer();
}

void client::read_answer() {
    api::contract_header header{};
    do { // events come in between
        const ssize_t got = recv(fd_, in_.data(), in_.size(), 0);
        if (got < static_cast<ssize_t>(sizeof header))
            throw std::runtime_error("contract: the connection was closed");
        std::memcpy(&header, in_.data(), sizeof header);
    } while (header.type == api::message_type::event);
    --under_way_;
    if (header.type == api::message_type::error_reply)
        throw std::runtime_error("contract: a request was refused");
    if (static_cast<unsigned>(header.type) == static_cast<unsigned>(api::message_type::hello) + 1)
        return;
    for (std::size_t i = 0; i < header.count; ++i) {
        api::item_status item{};
        std::memcpy(&item, in_.data() + sizeof header + i * sizeof item, sizeof item);
        if (item.status != api::status::ok)
            throw std::runtime_error(fmt::format("contract: type {}: item {:x}: status {}",
                                                 static_cast<unsigned>(header.type), item.id,
                                                 static_cast<unsigned>(item.status)));
    }
}

} // namespace tandem::bench::setup
