// SPDX-License-Identifier: Apache-2.0
// See ports.hpp.
#include "dataplane/app/ports.hpp"

#include <algorithm>

#include <spdlog/spdlog.h>

#include "dataplane/app/patience.hpp"

namespace tandem::app {

namespace {

using failure = tl::unexpected<std::string>;
using result = tl::expected<void, std::string>;

constexpr std::string_view host = "lo";
constexpr std::uint16_t host_descriptors = 512; // few calls are with programs on the gateway's own host
constexpr unsigned host_patience_ms = 20;       // another instance may have it for good

// Whether the configuration can do without this one.
bool may_miss(const config& settings, std::string_view name) {
    return name == host && settings.own_host == config::host_peers::where_possible;
}

void say_missed(const std::string& why) {
    spdlog::info("programs on this host cannot be peers of calls (host_peers): {}", why);
}

result plan_port(const config& settings, const std::string& name, port_plan& to) {
    io::port_config port;
    port.interface = name;
    port.media_addresses = address_list(settings);
    if (name == host)
        port.descriptors = host_descriptors;
    const auto queues = io::prepare_queues(port, settings.workers);
    if (!queues)
        return failure(queues.error());
    to.descriptors += *queues * unsigned{port.descriptors};
    to.ports.push_back(std::move(port));
    return {};
}

result start_one(io::port& port, rte_mempool* pool, const perimeter& guarded, bool held, unsigned patience) {
    if (auto claimed = patiently(
            held, [&] { return io::claim_port(port); }, patience);
        !claimed)
        return claimed;
    guarded.set_up(port); // before its first frame
    if (auto started = io::start_port(port, pool); !started)
        return started;
    for (const auto& note : port.notes)
        spdlog::info("{}: {}", port.name, note);
    return {};
}

} // namespace

tl::expected<port_plan, std::string> plan_ports(const config& settings) {
    port_plan plan;
    for (const auto& name : settings.ports)
        if (auto planned = plan_port(settings, name, plan); !planned)
            return failure(planned.error());
    if (settings.own_host == config::host_peers::no)
        return plan;
    if (auto planned = plan_port(settings, std::string(host), plan); !planned) {
        if (!may_miss(settings, host))
            return failure(planned.error());
        say_missed(planned.error());
    }
    return plan;
}

tl::expected<std::vector<io::port>, std::string> prepare_ports(const config& settings, const port_plan& plan,
                                                               rte_mempool* pool) {
    std::vector<io::port> ports;
    for (const auto& one : plan.ports) {
        auto prepared = io::prepare_port(one, pool, settings.workers);
        if (prepared)
            ports.push_back(std::move(*prepared));
        else if (may_miss(settings, one.interface))
            say_missed(prepared.error());
        else
            return failure(prepared.error());
    }
    return ports;
}

result start_ports(const config& settings, std::vector<io::port>& ports, rte_mempool* pool, const perimeter& guarded,
                   bool held) {
    for (auto port = ports.begin(); port != ports.end();) {
        const bool optional = may_miss(settings, port->name);
        const auto started = start_one(*port, pool, guarded, held, optional ? host_patience_ms : patience_ms);
        if (started) {
            ++port;
            continue;
        }
        if (!optional)
            return started;
        say_missed(started.error());
        port = ports.erase(port);
    }
    return {};
}

std::vector<flow::ip_bytes> address_list(const config& settings) {
    std::vector<flow::ip_bytes> list;
    for (const auto& a : settings.addresses)
        list.push_back(a.ip);
    return list;
}

std::vector<unsigned> ifindexes_of(const std::vector<io::port>& ports) {
    std::vector<unsigned> list;
    for (const auto& port : ports)
        list.push_back(port.ifindex);
    return list;
}

// What wakes a sleeping worker: the sockets of its queues. A port that has none (or hides one) makes it nap instead.
pipeline::idle_config idle_of_worker(const config& settings, const std::vector<io::port>& ports, unsigned worker) {
    pipeline::idle_config idle(static_cast<pipeline::idle_mode>(settings.when_idle));
    static_assert(static_cast<int>(pipeline::idle_mode::interrupt) == static_cast<int>(config::idle::interrupt) &&
                  static_cast<int>(pipeline::idle_mode::poll) == static_cast<int>(config::idle::poll));
    idle.budget_us = settings.idle_poll_us;
    idle.every_queue = true;
    for (const auto& port : ports) {
        idle.every_queue = idle.every_queue && port.sockets.size() == port.rx_queues;
        for (std::size_t queue = worker; queue < port.sockets.size(); queue += settings.workers)
            idle.descriptors.push_back(port.sockets[queue]);
    }
    return idle;
}

std::vector<int> sockets_of(const std::vector<io::port>& ports) {
    std::vector<int> all;
    for (const auto& port : ports)
        all.insert(all.end(), port.sockets.begin(), port.sockets.end());
    return all;
}

std::vector<pipeline::port_use> ports_of_worker(const config& settings, const std::vector<io::port>& ports,
                                                unsigned worker) {
    const auto& checked = settings.checked_ports;
    std::vector<pipeline::port_use> list;
    for (const auto& port : ports) {
        pipeline::port_use use;
        use.id = port.id;
        use.first_rx = static_cast<std::uint16_t>(worker);
        use.rx_step = static_cast<std::uint16_t>(settings.workers);
        use.rx_queues = port.rx_queues;
        use.tx_queue = static_cast<std::uint16_t>(worker);
        use.mtu = port.mtu;
        use.mac = port.mac;
        use.loopback = port.loopback;
        use.verify_checksum = std::find(checked.begin(), checked.end(), port.name) != checked.end();
        list.push_back(use);
    }
    return list;
}

} // namespace tandem::app
