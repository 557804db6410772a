// SPDX-License-Identifier: Apache-2.0
// Verbs that count: the data plane's statistics and this program's own. Owner thread: io_context.
#include <cstring>
#include <fmt/format.h>

#include "controlplane/app/verb_tools.hpp"
#include "dataplane/api/edge_maps.h"

namespace tandem::control {

using nlohmann::json;

verb_result verbs::counters() const {
    if (!rooms_.stats.is_open())
        return failed(rooms_.dataplane.connected()
                          ? "the data plane's statistics segment could not be mapped: see the log"
                          : rooms_.dataplane.trouble());
    json rows = json::array();
    std::size_t at = 0;
    const auto add = [&](const char* name, const char* unit, const char* text) {
        json per_worker = json::array();
        for (std::size_t w = 0; w < rooms_.stats.workers(); ++w)
            per_worker.push_back(rooms_.stats.worker(w)->counters[at]);
        rows.push_back({{"name", name},
                        {"unit", unit},
                        {"text", text},
                        {"total", rooms_.stats.counter(static_cast<api::counter>(at))},
                        {"per_worker", per_worker}});
        ++at;
    };
#define X(name, unit, text) add(#name, unit, text);
#include "dataplane/api/counters.def"
#undef X
    return json{{"workers", rooms_.stats.workers()}, {"counters", rows}, {"control", own_counters()}};
}

// This program's own; a name that ends in _refused or _ignored counts what somebody asked and did not get.
json verbs::own_counters() const {
    json control = json::array();
    const auto count = [&](const char* name, std::uint64_t value) {
        control.push_back({{"name", name}, {"total", value}});
    };
    const auto& media = rooms_.relay.count();
    count("media_opened", media.opened);
    const auto& tally = rooms_.tally;
    count("media_installed", tally.begun());
    count("media_up", tally.up());
    count("media_seconds", static_cast<std::uint64_t>(tally.carried().seconds));
    count("media_packets", tally.carried().packets);
    count("media_bytes", tally.carried().bytes);
    count("media_lost", tally.carried().lost);
    count("media_ended", media.ended);
    count("media_timeouts", media.timeouts);
    count("media_open_failures", media.open_failures);
    count("media_opens", media.media_opens);
    count("media_open_refused", media.media_open_failures);
    count("seeds_sent", media.seeds_sent);
    count("rekeys", media.rekeys);
    count("rekey_failures", media.rekey_failures);
    count("seeds_made", media.seeds_made);
    count("seeds_from_units", media.seeds_from_units);
    count("unit_seeds_refused", media.unit_seeds_refused);
    count("unit_seeds_missing", media.unit_seeds_missing);
    count("contacts_asked", media.contacts_asked);
    count("contacts_answered", media.contacts_answered);
    count("media_taken_over", media.taken_over);
    count("media_reinstalled", media.reinstalled);
    count("foreign_flows", media.foreign_flows);
    const auto& ng = rooms_.calls.count();
    count("ng_datagrams", ng.datagrams);
    count("ng_strangers", ng.strangers);
    count("ng_queue_full", ng.queue_full);
    count("ng_malformed", ng.malformed);
    count("ng_replies_limited", ng.replies_limited);
    count("ng_retransmissions", ng.retransmissions);
    count("ng_errors", ng.errors);
    count("calls_created", ng.calls_created);
    count("calls_ended", ng.calls_ended);
    count("calls_refused", ng.calls_refused);
    count("pings_refused", ng.pings_refused);
    count("calls_recovered", ng.calls_recovered);
    count("metadata_ignored", ng.metadata_ignored);
    for (const auto& [name, times] : rooms_.calls.ignored().each())
        count(("ng_ignored " + name).c_str(), times);
    count("ng_ignored others", rooms_.calls.ignored().others());
    count("foreign_names", ng.foreign_names);
    const auto records = rooms_.store.count();
    count("database_failures", records.failures);
    count("database_retried", records.retried);
    count("database_lost", records.lost);
    count("records_written", records.records);
    count("records_expired", records.expired);
    count("clock_jumps", records.jumps);
    count("records_waiting", rooms_.archive.waiting());
    rooms_.policy.count().for_each([&](std::string_view name, std::string_view text, std::uint64_t value) {
        control.push_back({{"name", fmt::format("policy_{}", name)}, {"text", text}, {"total", value}});
    });
    rooms_.sessions.count().for_each([&](std::string_view name, std::string_view text, std::uint64_t value) {
        control.push_back({{"name", name}, {"text", text}, {"total", value}});
    });
    return control;
}

verb_result verbs::drops() const {
    if (!rooms_.stats.is_open())
        return failed(rooms_.dataplane.connected()
                          ? "the data plane's statistics segment could not be mapped: see the log"
                          : rooms_.dataplane.trouble());
    json rows = json::array();
    for (std::size_t i = 1; i < api::drop_count; ++i)
        if (const auto reason = static_cast<api::drop>(i); reason != api::drop::edge_end)
            rows.push_back({{"reason", api::info(reason).name},
                            {"text", api::info(reason).text},
                            {"packets", rooms_.stats.drops(reason)}});
    const auto& edge = rooms_.stats.header()->edge;
    return json{{"drops", rows},
                {"edge",
                 {{{"verdict", "to_worker"}, {"packets", edge[TANDEM_EDGE_TO_WORKER]}},
                  {{"verdict", "to_kernel"}, {"packets", edge[TANDEM_EDGE_TO_KERNEL]}},
                  {{"verdict", "handshake"}, {"packets", edge[TANDEM_EDGE_HANDSHAKE]}}}}};
}

asio::awaitable<verb_result> verbs::port() {
    const auto ports = co_await rooms_.dataplane.port_list();
    if (!ports)
        co_return failed(ports.error().text);
    json rows = json::array();
    for (const auto& port : *ports)
        rows.push_back({{"name", std::string(port.name, strnlen(port.name, sizeof(port.name)))},
                        {"ifindex", port.ifindex},
                        {"mtu", port.mtu},
                        {"mac", fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", port.mac[0], port.mac[1],
                                            port.mac[2], port.mac[3], port.mac[4], port.mac[5])},
                        {"xdp_mode", std::string(port.xdp_mode, strnlen(port.xdp_mode, sizeof(port.xdp_mode)))},
                        {"queues", port.queues}});
    co_return json{{"ports", rows}};
}

} // namespace tandem::control
