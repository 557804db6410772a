// SPDX-License-Identifier: Apache-2.0
// TUN by ioctl, addresses by rtnetlink (RFC 3549 as Linux has it).
#include "tools/agent/device/tun.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace tandem::agent {

namespace {

class descriptor {
public:
    explicit descriptor(int fd) : fd_(fd) {}
    descriptor(const descriptor&) = delete;
    descriptor& operator=(const descriptor&) = delete;
    ~descriptor() {
        if (fd_ >= 0)
            ::close(fd_);
    }
    [[nodiscard]] int get() const noexcept { return fd_; }
    [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

private:
    int fd_;
};

void name_request(ifreq& request, const std::string& name) {
    std::memset(&request, 0, sizeof request);
    name.copy(request.ifr_name, IFNAMSIZ - 1);
}

struct address_request {
    nlmsghdr header;
    ifaddrmsg address;
    std::array<std::uint8_t, 128> attributes;
};

void add_attribute(address_request& request, std::uint16_t type, const void* data, std::size_t length) {
    auto* attribute =
        reinterpret_cast<rtattr*>(reinterpret_cast<std::uint8_t*>(&request) + NLMSG_ALIGN(request.header.nlmsg_len));
    attribute->rta_type = type;
    attribute->rta_len = static_cast<std::uint16_t>(RTA_LENGTH(length));
    std::memcpy(RTA_DATA(attribute), data, length);
    request.header.nlmsg_len =
        static_cast<std::uint32_t>(NLMSG_ALIGN(request.header.nlmsg_len) + RTA_ALIGN(attribute->rta_len));
}

// 0, or the errno of the kernel's answer.
int change_address(std::uint16_t type, unsigned index, const inner_address& address) {
    const descriptor netlink(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    if (netlink.get() < 0)
        return errno;
    const bool ipv4 = is_ipv4(address.ip);
    address_request request{};
    request.header.nlmsg_len = NLMSG_LENGTH(sizeof request.address);
    request.header.nlmsg_type = type;
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    if (type == RTM_NEWADDR)
        request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    request.address.ifa_family = ipv4 ? AF_INET : AF_INET6;
    request.address.ifa_prefixlen = address.prefix;
    request.address.ifa_flags = ipv4 ? 0 : IFA_F_NODAD; // nobody else can be on a TUN
    request.address.ifa_index = index;
    const std::uint8_t* raw = address.ip.data() + (ipv4 ? 12 : 0);
    const std::size_t length = ipv4 ? 4 : 16;
    add_attribute(request, IFA_LOCAL, raw, length);
    add_attribute(request, IFA_ADDRESS, raw, length);
    if (::send(netlink.get(), &request, request.header.nlmsg_len, 0) < 0)
        return errno;
    alignas(nlmsghdr) std::array<std::uint8_t, 4096> answer{};
    const ssize_t got = ::recv(netlink.get(), answer.data(), answer.size(), 0);
    if (got < 0)
        return errno;
    const auto* header = reinterpret_cast<const nlmsghdr*>(answer.data());
    if (static_cast<std::size_t>(got) < NLMSG_LENGTH(sizeof(nlmsgerr)) || header->nlmsg_type != NLMSG_ERROR)
        return EPROTO;
    nlmsgerr result{};
    std::memcpy(&result, answer.data() + NLMSG_HDRLEN, sizeof result);
    return -result.error;
}

std::string clash(const std::string& name, int error) {
    switch (error) {
    case EBUSY:
        return fmt::format("TUN '{}' is in use by another program; stop it, or set another name with tun = in the "
                           "agent's configuration",
                           name);
    case EINVAL:
        return fmt::format("an interface '{}' that is not a TUN exists already; set another name with tun = in the "
                           "agent's configuration",
                           name);
    case EPERM:
        return fmt::format("not permitted to make TUN '{}'; start the agent as root, or with CAP_NET_ADMIN", name);
    default:
        return fmt::format("cannot make TUN '{}': {}", name, std::strerror(error));
    }
}

} // namespace

tl::expected<tun_device, std::string> tun_device::open(const std::string& name) {
    descriptor tun(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
    if (tun.get() < 0) {
        const char* remedy = errno == EACCES || errno == EPERM
                                 ? "start the agent as root, or give it access to the device"
                                 : "load the kernel's module (modprobe tun), or make the device in the container";
        return tl::unexpected(fmt::format("/dev/net/tun: {}; {}", std::strerror(errno), remedy));
    }
    ifreq request;
    name_request(request, name);
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    if (::ioctl(tun.get(), TUNSETIFF, &request) != 0)
        return tl::unexpected(clash(name, errno));
    return tun_device(tun.release(), name);
}

tun_device::tun_device(tun_device&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), name_(std::move(other.name_)), set_(std::move(other.set_)),
      guard_(std::move(other.guard_)) {}

tun_device::~tun_device() {
    if (fd_ >= 0)
        ::close(fd_);
}

int tun_device::release() noexcept {
    return std::exchange(fd_, -1);
}

tl::expected<void, std::string> tun_device::configure(const std::vector<inner_address>& addresses, std::uint16_t mtu) {
    const unsigned index = ::if_nametoindex(name_.c_str());
    const descriptor control(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const auto failed = [this](const char* what, int error) {
        return tl::unexpected(fmt::format("cannot set {} of TUN '{}': {}", what, name_, std::strerror(error)));
    };
    if (index == 0 || control.get() < 0)
        return failed("addresses", errno);
    ifreq request;
    name_request(request, name_);
    request.ifr_mtu = mtu;
    if (::ioctl(control.get(), SIOCSIFMTU, &request) != 0)
        return failed("the MTU", errno);
    name_request(request, name_);
    if (::ioctl(control.get(), SIOCGIFFLAGS, &request) != 0)
        return failed("flags", errno);
    request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
    if (::ioctl(control.get(), SIOCSIFFLAGS, &request) != 0)
        return failed("flags", errno);
    for (const inner_address& old : std::exchange(set_, {}))
        if (std::find(addresses.begin(), addresses.end(), old) == addresses.end())
            change_address(RTM_DELADDR, index, old);
    for (const inner_address& address : addresses)
        if (const int error = change_address(RTM_NEWADDR, index, address); error != 0)
            return failed(is_ipv4(address.ip) ? "the IPv4 address" : "the IPv6 address", error);
    set_ = addresses;
    return {};
}

// As wg-quick has it.
tl::expected<void, std::string> tun_device::guard(const std::vector<inner_address>& addresses) {
    using netfilter::chain, netfilter::rule, netfilter::table;
    chain entry{"entry", netfilter::hook::prerouting, netfilter::priority_raw};
    for (const inner_address& address : addresses) {
        const bool ipv4 = is_ipv4(address.ip);
        netfilter::prefix one{{}, static_cast<std::uint8_t>(ipv4 ? 32 : 128), ipv4};
        std::copy(address.ip.begin() + (ipv4 ? 12 : 0), address.ip.end(), one.ip.begin());
        entry.rules.push_back(rule().not_from_interface(name_).to(one).not_from_this_host().drop());
    }
    auto opened = table::open("tandem-agent-" + name_, table::life::own);
    if (!opened)
        return tl::unexpected(opened.error());
    if (auto done = opened->put({entry}); !done)
        return done;
    guard_ = std::make_unique<table>(std::move(*opened));
    return {};
}

} // namespace tandem::agent
