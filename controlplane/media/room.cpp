// SPDX-License-Identifier: Apache-2.0
// Room for a call is found or missed at its offer, when the SIP proxy can still take another gateway; at the answer
// nobody would hear. Ports: legs.cpp. Owner thread: io_context.
#include "controlplane/media/room.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <iterator>
#include <ranges>

#include "controlplane/media/state.hpp"

namespace tandem::media {

result<void> manager::check_room(const media_request& request) const {
    const std::size_t most = dataplane_.hello()->reply.max_flows;
    const std::size_t needed = flows_for(request.legs[0].kind, request.legs[1].kind);
    const std::size_t spare = request.running ? 0 : spare_flows(most);
    const auto kept = static_cast<std::size_t>(options_.unit_reserve * static_cast<double>(most));
    if (reserved_flows_ + needed + spare + kept <= most)
        return {};
    const bool with_unit =
        request.running || std::ranges::any_of(request.legs, [](const auto& l) { return l.kind == leg_kind::unit; });
    if (reserved_flows_ + needed + spare <= most && (with_unit || sessions_.all().empty()))
        return {};
    return tl::unexpected(
        error{fmt::format("no room in the data plane's flow table ({} of {} are taken or promised): raise max_flows in "
                          "dataplane.toml and restart the data plane",
                          reserved_flows_, most),
              shortage::flows});
}

manager::flow_room manager::flow_rooms() const {
    flow_room room;
    room.reserved = reserved_flows_;
    if (const auto& hello = dataplane_.hello())
        room.total = hello->reply.max_flows - spare_flows(hello->reply.max_flows);
    return room;
}

std::size_t manager::free_ports() {
    // Of every address that calls may take some of, whether one has or not.
    if (const auto& hello = dataplane_.hello())
        for (const auto& local : hello->addresses)
            ports_->open(local.ip);
    return ports_->free_now();
}

std::vector<manager::port_room> manager::port_rooms() {
    std::vector<port_room> rooms;
    ports_->each_pool([&](const asio::ip::address& ip, std::size_t total, std::size_t free) {
        std::string name;
        if (const auto& hello = dataplane_.hello())
            for (const auto& local : hello->addresses)
                if (local.ip == ip)
                    name = local.name;
        rooms.push_back({std::move(name), ip, total, free});
    });
    return rooms;
}

std::vector<std::string> manager::unknown_names() const {
    std::vector<std::string> names{options_.access, options_.core};
    std::ranges::copy(std::views::keys(options_.learning_of), std::back_inserter(names));
    const auto& hello = dataplane_.hello();
    std::erase_if(names, [&](const std::string& name) {
        return !hello || std::ranges::any_of(hello->addresses, [&](const auto& local) { return local.name == name; });
    });
    std::ranges::sort(names);
    names.erase(std::ranges::unique(names).begin(), names.end());
    return names;
}

} // namespace tandem::media
