// SPDX-License-Identifier: Apache-2.0
// See health.hpp.
#include "dataplane/app/health.hpp"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace tandem::app {

namespace {

constexpr std::uint64_t ns_per_ms = 1'000'000, probe_interval_ns = 250 * ns_per_ms;
constexpr unsigned queues_of_port = 16; // as many as DPDK's ring driver has

std::string_view words(api::health_state state) {
    using enum api::health_state;
    switch (state) {
    case ok:
        return "is well";
    case no_answer:
        return "does not come round";
    case wrong:
        return "makes something wrong of the packets that it is given";
    case no_buffer:
        return "has no packet buffer left";
    case interface_gone:
        return "is gone: its interface was removed";
    case interface_down:
        return "is down";
    case no_program:
        return "has lost its XDP program: somebody detached it";
    case foreign_program:
        return "has another's XDP program";
    case no_socket:
        return "has a queue without its AF_XDP socket";
    case no_carrier:
        return "has no carrier";
    }
    return "is in a state that has no name";
}

std::uint32_t age_ms(std::uint64_t now_ns, std::uint64_t good_ns) {
    const std::uint64_t age = now_ns > good_ns ? (now_ns - good_ns) / ns_per_ms : 0;
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(age, 0xffffffff));
}

api::health_entry entry_of(api::health_kind kind, std::size_t index, std::string_view name, api::health_state state,
                           std::uint32_t age) {
    api::health_entry e{kind, state, static_cast<std::uint16_t>(index), age, {}};
    name.copy(e.name, sizeof e.name - 1);
    return e;
}

} // namespace

health::health(std::span<pipeline::worker* const> workers, std::span<const io::port> ports, rte_mempool* buffers)
    : subjects_(workers), real_ports_(ports), buffers_(buffers) {
    const std::uint64_t now = pipeline::monotonic_ns(); // they have just been started
    for (std::size_t i = 0; i < workers.size(); ++i)
        workers_.push_back({nullptr, api::health_state::no_answer, now});
    for (std::size_t i = 0; i < ports.size(); ++i)
        ports_.push_back({nullptr, api::health_state::ok, now});
}

// At the first tick: a restart is in service before it spends time on this.
void health::make_probes() {
    auto judge = crypto::make_engine("openssl");
    if (!judge) {
        spdlog::error("health: {}", judge.error());
        return;
    }
    judge_ = std::move(*judge);
    for (std::size_t first = 0; first < subjects_.size(); first += queues_of_port) {
        io::port_config config;
        config.kind = io::port_kind::ring;
        config.interface = fmt::format("probe{}", rings_.size());
        config.queues = static_cast<std::uint16_t>(std::min<std::size_t>(queues_of_port, subjects_.size() - first));
        auto port = io::open_port(config, buffers_, config.queues);
        if (!port) {
            spdlog::error("health: {}", port.error());
            return;
        }
        rings_.push_back(std::move(*port));
    }
    for (std::size_t i = 0; i < subjects_.size(); ++i) {
        const io::port& port = rings_[i / queues_of_port];
        const auto queue = static_cast<std::uint16_t>(i % queues_of_port);
        pipeline::port_use use;
        use.id = port.id;
        use.first_rx = use.tx_queue = queue;
        use.rx_queues = static_cast<std::uint16_t>(queue + 1);
        auto probe = pipeline::probe::make(*subjects_[i], {use, port.to_worker[queue], port.from_worker[queue]},
                                           buffers_, *judge_);
        if (probe)
            workers_[i].probe = std::move(*probe);
        else
            spdlog::error("health: worker {}: {}", i, probe.error());
    }
}

void health::note(const char* kind, const std::string& name, part& of, api::health_state now, std::uint64_t now_ns) {
    if (now == api::health_state::ok || now == api::health_state::no_carrier)
        of.good_ns = now_ns;
    if (of.state == now)
        return;
    of.state = now;
    if (now == api::health_state::ok)
        spdlog::info("{} {} {}", kind, name, words(now));
    else
        spdlog::error("{} {} {}", kind, name, words(now));
}

void health::look(std::uint64_t now_ns) {
    for (std::size_t i = 0; i < workers_.size(); ++i) {
        part& w = workers_[i];
        if (!w.probe)
            continue;
        w.probe->look();
        w.good_ns = std::max(w.good_ns, w.probe->last_good_ns());
        const auto state = w.probe->state();
        // One that is late by a tick is no news.
        if (state != api::health_state::no_answer || now_ns - w.good_ns > 4 * probe_interval_ns)
            note("worker", std::to_string(i), w, state, w.good_ns);
        if (state == api::health_state::wrong && w.probe->dropped_for() != api::drop::none)
            spdlog::debug("worker {}: its probe was dropped: {}", i, api::info(w.probe->dropped_for()).name);
    }
}

void health::tick(std::uint64_t now_ns) {
    if (now_ns < next_ns_)
        return;
    if (next_ns_ == 0)
        make_probes();
    next_ns_ = now_ns + probe_interval_ns;
    for (std::size_t i = 0; i < ports_.size(); ++i)
        note("port", real_ports_[i].name, ports_[i], io::look_at(real_ports_[i]), now_ns);
    look(now_ns);
    for (part& w : workers_)
        if (w.probe)
            w.probe->turn();
}

std::vector<api::health_entry> health::report(std::uint64_t now_ns) {
    look(now_ns);
    std::vector<api::health_entry> list;
    for (std::size_t i = 0; i < workers_.size(); ++i)
        list.push_back(entry_of(api::health_kind::worker, i, fmt::format("worker {}", i), workers_[i].state,
                                age_ms(now_ns, workers_[i].good_ns)));
    for (std::size_t i = 0; i < ports_.size(); ++i)
        list.push_back(entry_of(api::health_kind::port, i, real_ports_[i].name, ports_[i].state,
                                age_ms(now_ns, ports_[i].good_ns)));
    return list;
}

std::optional<unsigned> health::hangs(std::uint64_t now_ns, std::uint64_t for_ns) const {
    for (unsigned i = 0; i < workers_.size(); ++i)
        if (const auto& probe = workers_[i].probe)
            if (const std::uint64_t since = probe->waiting_since_ns(); since != 0 && now_ns > since + for_ns)
                return i;
    return {};
}

} // namespace tandem::app
