// SPDX-License-Identifier: Apache-2.0
// rtnetlink over libmnl: RFC 3549's messages as Linux has them.
#include "dataplane/io/netlink.hpp"

#include <cerrno>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/time.h>

namespace tandem::io {

namespace {

constexpr std::size_t buffer_size = 32 * 1024;

int forward(const nlmsghdr* message, void* handler) {
    (*static_cast<const netlink_socket::handler*>(handler))(message);
    return MNL_CB_OK;
}

} // namespace

int attributes::keep(const nlattr* attribute, void* self) {
    auto& found = static_cast<attributes*>(self)->found_;
    std::uint16_t type = mnl_attr_get_type(attribute);
    if (type < found.size())
        found[type] = attribute;
    return MNL_CB_OK;
}

attributes::attributes(const nlmsghdr* message, std::size_t header) noexcept {
    mnl_attr_parse(message, static_cast<unsigned>(header), &attributes::keep, this);
}

attributes::attributes(const nlattr* nest) noexcept {
    if (nest != nullptr)
        mnl_attr_parse_nested(nest, &attributes::keep, this);
}

std::uint32_t attributes::u32(unsigned type, std::uint32_t missing) const noexcept {
    const nlattr* a = found_[type];
    return a != nullptr && mnl_attr_get_payload_len(a) >= 4 ? mnl_attr_get_u32(a) : missing;
}

std::uint16_t attributes::u16(unsigned type, std::uint16_t missing) const noexcept {
    const nlattr* a = found_[type];
    return a != nullptr && mnl_attr_get_payload_len(a) >= 2 ? mnl_attr_get_u16(a) : missing;
}

std::span<const std::uint8_t> attributes::bytes(unsigned type) const noexcept {
    const nlattr* a = found_[type];
    if (a == nullptr)
        return {};
    return {static_cast<const std::uint8_t*>(mnl_attr_get_payload(a)), mnl_attr_get_payload_len(a)};
}

tl::expected<netlink_socket, std::string> netlink_socket::open(std::span<const unsigned> groups) {
    auto failed = [](const char* what) {
        return tl::unexpected(fmt::format("netlink: {}: {}", what, std::strerror(errno)));
    };
    mnl_socket* opened = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | (groups.empty() ? 0 : SOCK_NONBLOCK));
    if (opened == nullptr)
        return failed("cannot open a socket");
    netlink_socket result(opened);
    if (mnl_socket_bind(opened, 0, MNL_SOCKET_AUTOPID) < 0)
        return failed("cannot bind");
    for (unsigned group : groups) {
        int number = static_cast<int>(group);
        if (mnl_socket_setsockopt(opened, NETLINK_ADD_MEMBERSHIP, &number, sizeof(number)) < 0)
            return failed("cannot listen to the kernel's news");
    }
    if (groups.empty()) { // the kernel always answers; a bound in case it does not
        timeval wait{1, 0};
        ::setsockopt(result.fd(), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    } else { // room for a burst of route changes
        int bytes = 4 * 1024 * 1024;
        if (::setsockopt(result.fd(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) != 0)
            ::setsockopt(result.fd(), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
    }
    return result;
}

netlink_socket::netlink_socket(netlink_socket&& other) noexcept
    : socket_(std::exchange(other.socket_, nullptr)), sequence_(other.sequence_) {}

netlink_socket::~netlink_socket() {
    if (socket_ != nullptr)
        mnl_socket_close(socket_);
}

int netlink_socket::request(nlmsghdr* message, const handler& each) {
    message->nlmsg_seq = ++sequence_;
    // A get of one thing is answered by that thing or an error, the rest by an acknowledgement or a dump's end.
    bool single = (message->nlmsg_flags & (NLM_F_ACK | NLM_F_DUMP)) == 0;
    if (mnl_socket_sendto(socket_, message, message->nlmsg_len) < 0)
        return errno;
    alignas(nlmsghdr) char buffer[buffer_size];
    for (;;) {
        ssize_t n = mnl_socket_recvfrom(socket_, buffer, sizeof(buffer));
        if (n < 0)
            return errno;
        auto* self = const_cast<handler*>(&each);
        // Port 0: any. A late answer to an earlier request that timed out has another sequence: skipped.
        if (static_cast<std::size_t>(n) >= sizeof(nlmsghdr) &&
            reinterpret_cast<nlmsghdr*>(buffer)->nlmsg_seq != sequence_)
            continue;
        int rc = mnl_cb_run(buffer, static_cast<std::size_t>(n), sequence_, 0, &forward, self);
        if (rc < 0)
            return errno;
        if (rc == MNL_CB_STOP || single)
            return 0;
    }
}

bool netlink_socket::drain(const handler& each) {
    bool whole = true;
    alignas(nlmsghdr) char buffer[buffer_size];
    for (;;) {
        ssize_t n = mnl_socket_recvfrom(socket_, buffer, sizeof(buffer));
        if (n < 0 && errno == ENOBUFS) {
            whole = false;
            continue;
        }
        if (n <= 0)
            return whole;
        auto* self = const_cast<handler*>(&each);
        mnl_cb_run(buffer, static_cast<std::size_t>(n), 0, 0, &forward, self);
    }
}

} // namespace tandem::io
