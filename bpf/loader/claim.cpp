// SPDX-License-Identifier: Apache-2.0
// One Tandem per interface: a bound abstract UNIX socket. It belongs to the network namespace, as the interface does,
// and the kernel drops it with the process, so there is no lock file to be left behind.
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bpf/loader/edge.hpp"

namespace tandem::bpf {

tl::expected<interface_claim, std::string> interface_claim::take(unsigned ifindex, std::string_view name) {
    int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return tl::unexpected(fmt::format("cannot make a UNIX socket: {}", std::strerror(errno)));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::string text = fmt::format("tandem-if-{}", ifindex);
    std::memcpy(address.sun_path + 1, text.data(), text.size()); // leading NUL: abstract
    auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
    if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), length) != 0) {
        int code = errno;
        ::close(fd);
        if (code == EADDRINUSE)
            return tl::unexpected(fmt::format(
                "another Tandem data plane already uses {}: stop it first, or give this one another interface", name));
        return tl::unexpected(fmt::format("cannot claim {}: {}", name, std::strerror(code)));
    }
    return interface_claim(fd);
}

interface_claim::interface_claim(interface_claim&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

interface_claim& interface_claim::operator=(interface_claim&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
}

interface_claim::~interface_claim() {
    if (fd_ >= 0)
        ::close(fd_);
}

} // namespace tandem::bpf
