// SPDX-License-Identifier: Apache-2.0
// Interfaces, routes and sockets bound to them. rtnetlink(7), netdevice(7), socket(7).
#include "tools/agent/device/paths.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>

#include <asio/ip/udp.hpp>
#include <ifaddrs.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/descriptor.hpp"
#include "controlplane/protocol/address_asio.hpp"

namespace tandem::agent {

namespace {

bool fits(const std::string& pattern, const std::string& name) noexcept {
    if (!pattern.empty() && pattern.back() == '*')
        return name.compare(0, pattern.size() - 1, pattern, 0, pattern.size() - 1) == 0;
    return name == pattern;
}

struct route_request {
    nlmsghdr header{};
    rtmsg route{};
    std::array<std::uint8_t, 64> attributes{};

    void add(std::uint16_t type, const void* data, std::size_t length) noexcept {
        auto* at = reinterpret_cast<std::uint8_t*>(this) + NLMSG_ALIGN(header.nlmsg_len);
        const auto whole = static_cast<std::uint16_t>(RTA_LENGTH(length));
        const rtattr attribute{whole, type};
        std::memcpy(at, &attribute, sizeof attribute);
        std::memcpy(at + RTA_LENGTH(0), data, length);
        header.nlmsg_len = static_cast<std::uint32_t>(NLMSG_ALIGN(header.nlmsg_len) + RTA_ALIGN(whole));
    }
};

// The interface of the route in force towards `to`, asked through `through` (0: any); 0 where there is none.
// RTM_F_FIB_MATCH: the tables' own word; without it IPv4 says "on link" of every interface that is asked.
unsigned route_of(int netlink, const ip_bytes& to, unsigned through) noexcept {
    const bool ipv4 = is_ipv4(to);
    route_request request;
    request.header.nlmsg_len = NLMSG_LENGTH(sizeof request.route);
    request.header.nlmsg_type = RTM_GETROUTE;
    request.header.nlmsg_flags = NLM_F_REQUEST;
    request.route.rtm_family = ipv4 ? AF_INET : AF_INET6;
    request.route.rtm_dst_len = ipv4 ? 32 : 128;
    request.route.rtm_flags = RTM_F_FIB_MATCH;
    request.add(RTA_DST, to.data() + (ipv4 ? 12 : 0), ipv4 ? 4 : 16);
    if (through != 0)
        request.add(RTA_OIF, &through, sizeof through);
    alignas(nlmsghdr) std::array<std::uint8_t, 4096> answer{};
    if (::send(netlink, &request, request.header.nlmsg_len, 0) < 0)
        return 0;
    const ssize_t got = ::recv(netlink, answer.data(), answer.size(), 0);
    const auto* header = reinterpret_cast<const nlmsghdr*>(answer.data());
    if (got < static_cast<ssize_t>(NLMSG_LENGTH(sizeof(rtmsg))) || header->nlmsg_type != RTM_NEWROUTE ||
        header->nlmsg_len > static_cast<std::size_t>(got))
        return 0;
    rtmsg route{};
    std::memcpy(&route, answer.data() + NLMSG_HDRLEN, sizeof route);
    if (route.rtm_type != RTN_UNICAST && route.rtm_type != RTN_LOCAL)
        return 0; // unreachable, prohibited, a black hole
    std::size_t left = header->nlmsg_len - NLMSG_LENGTH(sizeof route);
    const auto* at = answer.data() + NLMSG_LENGTH(sizeof route);
    while (left >= sizeof(rtattr)) {
        rtattr attribute{};
        std::memcpy(&attribute, at, sizeof attribute);
        if (attribute.rta_len < sizeof attribute || attribute.rta_len > left)
            break;
        if (attribute.rta_type == RTA_OIF && attribute.rta_len >= RTA_LENGTH(sizeof(unsigned))) {
            unsigned index = 0;
            std::memcpy(&index, at + RTA_LENGTH(0), sizeof index);
            return index;
        }
        const std::size_t step = std::min<std::size_t>(RTA_ALIGN(attribute.rta_len), left);
        at += step;
        left -= step;
    }
    return through; // a multipath route names no single one
}

struct found_link {
    bool up = false, carrier = false, address = false;
    std::vector<ip_bytes> addresses;
};

std::optional<ip_bytes> lasting(const sockaddr& from) {
    const asio::ip::address address =
        from.sa_family == AF_INET ? asio::ip::address(asio::ip::make_address_v4(
                                        ntohl(reinterpret_cast<const sockaddr_in&>(from).sin_addr.s_addr)))
                                  : asio::ip::address(asio::ip::make_address_v6(
                                        std::to_array(reinterpret_cast<const sockaddr_in6&>(from).sin6_addr.s6_addr)));
    if (address.is_v6() && address.to_v6().is_link_local())
        return std::nullopt;
    return protocol::to_wire(address).bytes;
}

// Interfaces with flags, and whether they have an address of the family.
std::map<std::string, found_link> interfaces(bool ipv4, const std::string& tun) {
    std::map<std::string, found_link> found;
    ifaddrs* list = nullptr;
    if (::getifaddrs(&list) != 0)
        return found;
    for (const ifaddrs* one = list; one != nullptr; one = one->ifa_next) {
        if ((one->ifa_flags & IFF_LOOPBACK) != 0 || tun == one->ifa_name)
            continue;
        found_link& item = found[one->ifa_name];
        item.up = (one->ifa_flags & IFF_UP) != 0;
        item.carrier = (one->ifa_flags & IFF_RUNNING) != 0;
        if (one->ifa_addr == nullptr || one->ifa_addr->sa_family != (ipv4 ? AF_INET : AF_INET6))
            continue;
        item.address = true;
        if (const auto address = lasting(*one->ifa_addr))
            item.addresses.push_back(*address);
    }
    ::freeifaddrs(list);
    return found;
}

int open_netlink(std::uint32_t groups) noexcept {
    const int fd = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_groups = groups;
    if (fd >= 0 && groups != 0 && ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        ::close(fd);
        return -1;
    }
    return fd;
}

} // namespace

bool any_fits(const std::vector<std::string>& patterns, const std::string& name) noexcept {
    return std::any_of(patterns.begin(), patterns.end(), [&name](const auto& one) { return fits(one, name); });
}

const char* name_of(path_kind kind) noexcept {
    switch (kind) {
    case path_kind::wlan:
        return "wlan";
    case path_kind::wwan:
        return "wwan";
    case path_kind::other:
        break;
    }
    return "other";
}

path_kind path_names::kind_of(const std::string& interface) const noexcept {
    return any_fits(wlan, interface) ? path_kind::wlan : any_fits(wwan, interface) ? path_kind::wwan : path_kind::other;
}

chosen_path choose(path_choice wanted, const links& known, const path_names& names, const std::string& in_use) {
    const auto bound = [](const net_link& one, bool fallback) {
        return chosen_path{one.interface, one.interface, one.kind, fallback};
    };
    const auto first = [&](auto&& test) -> const net_link* {
        const net_link* found = nullptr;
        for (const auto& one : known.all)
            if (one.usable && test(one) && (found == nullptr || one.interface == in_use))
                found = &one;
        return found;
    };
    const bool named = wanted != path_choice::either;
    const auto radio = wanted == path_choice::wlan ? path_kind::wlan : path_kind::wwan;
    if (named)
        if (const auto* found = first([radio](const net_link& one) { return one.kind == radio; }))
            return bound(*found, false);
    if (!known.preferred.empty())
        if (const auto* found = first([&known](const net_link& one) { return one.interface == known.preferred; }))
            return bound(*found, named);
    const chosen_path kernels{{}, known.kernels_own, names.kind_of(known.kernels_own), named};
    if (!known.kernels_own.empty() && known.kernels_up)
        return kernels;
    if (const auto* found = first([](const net_link& one) { return one.kind != path_kind::other; }))
        return bound(*found, named);
    if (const auto* found = first([](const net_link&) { return true; }))
        return bound(*found, named);
    return kernels;
}

links survey_links(const ip_bytes& gateway, const path_names& names, const std::string& tun) {
    links known;
    const int netlink = open_netlink(0);
    if (netlink < 0)
        return known; // then the kernel decides
    const auto found = interfaces(is_ipv4(gateway), tun);
    for (const auto& [name, item] : found) {
        const unsigned index = ::if_nametoindex(name.c_str());
        const bool usable =
            item.up && item.carrier && item.address && index != 0 && route_of(netlink, gateway, index) == index;
        known.all.push_back({name, names.kind_of(name), usable, item.up, item.carrier, item.addresses});
    }
    std::array<char, IF_NAMESIZE> name{};
    if (const unsigned index = route_of(netlink, gateway, 0); index != 0 && ::if_indextoname(index, name.data())) {
        known.kernels_own = name.data();
        const auto own = found.find(known.kernels_own);
        known.kernels_up = own == found.end() || (own->second.up && own->second.carrier); // not listed: loopback
    }
    ::close(netlink);
    return known;
}

std::optional<ip_bytes> source_towards(const ip_bytes& gateway, const std::string& interface) {
    const asio::ip::udp::endpoint to(protocol::from_wire({gateway}), 9); // nothing is sent
    const descriptor probe(::socket(to.protocol().family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!probe || bind_to(probe.get(), interface) != 0 ||
        ::connect(probe.get(), to.data(), static_cast<socklen_t>(to.size())) != 0)
        return std::nullopt;
    asio::ip::udp::endpoint mine;
    auto length = static_cast<socklen_t>(mine.capacity());
    if (::getsockname(probe.get(), mine.data(), &length) != 0)
        return std::nullopt;
    mine.resize(length);
    return protocol::to_wire(mine.address()).bytes;
}

int bind_to(int socket, const std::string& interface) noexcept {
    if (interface.empty())
        return 0;
    const auto length = static_cast<socklen_t>(interface.size() + 1);
    return ::setsockopt(socket, SOL_SOCKET, SO_BINDTODEVICE, interface.c_str(), length) == 0 ? 0 : errno;
}

link_watch::link_watch(asio::io_context& io, std::function<void()> changed)
    : stream_(io), changed_(std::move(changed)) {}

void link_watch::start() {
    constexpr std::uint32_t groups =
        RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE;
    const int fd = open_netlink(groups);
    if (fd < 0)
        return;
    stream_.assign(fd);
    wait();
}

void link_watch::stop() {
    asio::error_code ignored;
    stream_.close(ignored);
}

void link_watch::wait() {
    stream_.async_wait(asio::posix::stream_descriptor::wait_read, [this](const asio::error_code& error) {
        if (error)
            return;
        std::array<std::uint8_t, 16384> news;
        for (int i = 0; i < 64; i++) { // what it says is asked for anew; ENOBUFS means that there was more
            if (::recv(stream_.native_handle(), news.data(), news.size(), 0) < 0 && errno != ENOBUFS)
                break;
        }
        changed_();
        wait();
    });
}

} // namespace tandem::agent
