// SPDX-License-Identifier: Apache-2.0
// The media's outer sockets and the interfaces that they leave by (RIM-33). A media whose path goes, or whose better
// path comes, gets a new socket there (paths.hpp says why not the old one), and tells the gateway by an SRTCP packet,
// on which it latches.
#include <cstring>

#include <asio/ip/address.hpp>
#include <netinet/in.h>
#include <spdlog/spdlog.h>

#include "tools/agent/device/text.hpp"
#include "tools/agent/media/entry.hpp"
#include "tools/agent/media/table.hpp"

namespace tandem::agent {

namespace {

constexpr std::chrono::seconds left_for{1}; // a socket that was left is read on for so long

// Room for a burst, no fragments on the outer path (the sender learns EMSGSIZE instead).
void set_options(asio::ip::udp::socket& socket, bool ipv4) {
    const int value = ipv4 ? IP_PMTUDISC_DO : IPV6_PMTUDISC_DO;
    ::setsockopt(socket.native_handle(), ipv4 ? IPPROTO_IP : IPPROTO_IPV6, ipv4 ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER,
                 &value, sizeof value);
    asio::error_code ignored;
    socket.set_option(asio::socket_base::receive_buffer_size(1 << 19), ignored);
}

asio::ip::udp::endpoint to_asio(const endpoint& from) {
    const asio::ip::address_v6 wire(from.ip);
    const auto address = wire.is_v4_mapped() ? asio::ip::address(asio::ip::make_address_v4(asio::ip::v4_mapped, wire))
                                             : asio::ip::address(wire);
    return {address, from.port};
}

} // namespace

void media_table::use_paths(path_names names, link_survey survey) {
    path_names_ = std::move(names);
    survey_ = std::move(survey);
}

chosen_path media_table::choose_path(path_choice wanted, const ip_bytes& gateway, const std::string& in_use) const {
    return survey_ ? choose(wanted, survey_(gateway), path_names_, in_use) : chosen_path{};
}

// The address that the kernel would send from now, with the media socket's port: a hint for the gateway.
protocol::endpoint media_table::outer_address(const entry& item) const {
    asio::error_code error;
    const auto target = to_asio(item.tunnel->config().gateway_media);
    asio::ip::udp::socket probe(io_);
    probe.open(target.protocol(), error);
    (void)bind_to(probe.native_handle(), item.path.bind_to);
    probe.connect(target, error);
    const auto mine = probe.local_endpoint(error).address();
    const auto port = item.socket->local_endpoint(error).port();
    return {{mine.is_v4() ? asio::ip::make_address_v6(asio::ip::v4_mapped, mine.to_v4()).to_bytes()
                          : mine.to_v6().to_bytes()},
            port};
}

// Only where all went well the item has its new socket and path.
bool media_table::open_socket(entry& item, const chosen_path& path) {
    const secondary_config& config = item.tunnel->config();
    const bool ipv4 = is_ipv4(config.gateway_media.ip);
    const auto family = ipv4 ? asio::ip::udp::v4() : asio::ip::udp::v6();
    const auto fresh = std::make_shared<asio::ip::udp::socket>(io_);
    asio::error_code error;
    fresh->open(family, error);
    const int refused = error ? 0 : bind_to(fresh->native_handle(), path.bind_to);
    if (refused !=
        0) // a kernel before 5.7, or the interface went just now: by the kernel's routes rather than not at all
        spdlog::warn("media {}: cannot be bound to {}: {}", config.media, path.bind_to, std::strerror(refused));
    if (!error)
        fresh->bind({family, 0}, error);
    if (!error)
        fresh->non_blocking(true, error);
    if (error) {
        spdlog::error("media {}: no UDP socket: {}", config.media, error.message());
        return false;
    }
    set_options(*fresh, ipv4);
    item.socket = fresh;
    item.path = path;
    item.bound = refused == 0;
    item.traffic_class = 0; // the new socket's
    return true;
}

// An SRTCP packet at once: the gateway latches on it.
void media_table::greet(entry& item) {
    send(item, packet_class::rtcp, item.tunnel->keepalive(clock::now()), item.traffic_class);
}

void media_table::move_path(const entry_ptr& item, const chosen_path& path) {
    const auto before = item->socket;
    const auto from = item->path.interface;
    if (!open_socket(*item, path))
        return; // tried again within a second
    asio::error_code ignored;
    if (item->left)
        item->left->close(ignored);
    item->left = before;
    item->left_until = clock::now() + left_for;
    item->moves++;
    path_moves_++;
    path_fallbacks_ += path.fallback ? 1 : 0;
    spdlog::info("media {} moves from {} to {} (path {}{})", item->tunnel->config().media, from, path.interface,
                 name_of(item->wanted), path.fallback ? ", no such path is up" : "");
    receive(item, item->socket);
    greet(*item);
    arm(item);
}

void media_table::check_path(const entry_ptr& item, const links& now) {
    const auto path = choose(item->wanted, now, path_names_, item->path.interface);
    if (path == item->path)
        return;
    if (path.bind_to == item->path.bind_to && (path.bind_to.empty() || path.interface == item->path.interface)) {
        // The kernel's routes changed under an unbound socket, which follows them: the gateway is to know it at once.
        const bool moved = path.interface != item->path.interface;
        item->path = path;
        if (moved) {
            item->moves++;
            path_moves_++;
            greet(*item);
        }
        return;
    }
    move_path(item, path);
}

void media_table::check_paths() {
    if (!survey_)
        return;
    std::map<ip_bytes, links> surveys; // the kernel is asked once a gateway, not once a media
    for (const auto& [id, item] : media_) {
        const auto& gateway = item->tunnel->config().gateway_media.ip;
        auto found = surveys.find(gateway);
        if (found == surveys.end())
            found = surveys.emplace(gateway, survey_(gateway)).first;
        check_path(item, found->second);
    }
}

} // namespace tandem::agent
