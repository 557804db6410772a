// SPDX-License-Identifier: Apache-2.0
// See host_addresses.hpp. The kernel's addresses are read (getifaddrs) once a second at most.
#include "controlplane/app/host_addresses.hpp"

#include <algorithm>
#include <cstring>
#include <ifaddrs.h>
#include <memory>
#include <net/if.h>
#include <netinet/in.h>

#include <fmt/format.h>

namespace tandem::control {

namespace {

std::optional<asio::ip::address> address_of(const sockaddr* from) {
    if (from != nullptr && from->sa_family == AF_INET) {
        sockaddr_in in{};
        std::memcpy(&in, from, sizeof in);
        return asio::ip::address_v4(ntohl(in.sin_addr.s_addr));
    }
    if (from != nullptr && from->sa_family == AF_INET6) {
        sockaddr_in6 in{};
        std::memcpy(&in, from, sizeof in);
        return asio::ip::address_v6(std::to_array(in.sin6_addr.s6_addr));
    }
    return {};
}

} // namespace

void host_addresses::look() {
    const auto now = std::chrono::steady_clock::now();
    if (looked_ != decltype(looked_){} && now - looked_ < good_for)
        return;
    looked_ = now;
    ifaddrs* list = nullptr;
    if (getifaddrs(&list) != 0)
        return;
    const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> kept(list, &freeifaddrs);
    own_.clear();
    loopbacks_.clear();
    for (const auto* one = list; one != nullptr; one = one->ifa_next) {
        if ((one->ifa_flags & IFF_LOOPBACK) != 0)
            loopbacks_.insert(one->ifa_name);
        if (const auto address = address_of(one->ifa_addr))
            own_.insert(*address);
    }
}

bool host_addresses::is_media_address(const asio::ip::address& where) const {
    const auto& hello = dataplane_.hello();
    return hello && std::any_of(hello->addresses.begin(), hello->addresses.end(),
                                [&](const auto& one) { return one.ip == where; });
}

std::string host_addresses::unreachable(const media::endpoint& where) {
    if (is_media_address(where.address)) // calls may name each other's ports; nobody else hears there
        return where.port >= first_port_ && where.port <= last_port_
                   ? std::string()
                   : fmt::format(
                         "Media cannot be sent to {} port {}: the address is for calls' media alone, use another "
                         "of this host's",
                         where.address.to_string(), where.port);
    if (has_port_)
        return {};
    look();
    if (!own_.contains(where.address))
        return {};
    return fmt::format("Media cannot be sent to {}, an address of the gateway's own host: host_peers in dataplane.toml "
                       "lets the data plane do so",
                       where.address.to_string());
}

asio::awaitable<void> host_addresses::look_at_ports() {
    const auto ports = co_await dataplane_.port_list();
    if (!ports)
        co_return; // the connection is lost: the next one asks again
    looked_ = {};
    look();
    has_port_ = std::any_of(ports->begin(), ports->end(), [&](const auto& port) {
        return loopbacks_.contains(std::string(port.name, strnlen(port.name, sizeof port.name)));
    });
}

} // namespace tandem::control
