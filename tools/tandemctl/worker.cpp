// SPDX-License-Identifier: Apache-2.0
// tandemctl worker: how each worker spends its time, out of two looks at the stats segment (api::worker_sight).
#include <array>
#include <chrono>
#include <cstdio>
#include <fmt/core.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "tools/tandemctl/display.hpp"
#include "tools/tandemctl/observer_link.hpp"
#include "tools/tandemctl/sight.hpp"
#include "tools/tandemctl/stats_view.hpp"

namespace tandem::ctl {
namespace {

constexpr double first_look_s = 0.2;
constexpr std::array<std::string_view, 7> class_names{"1", "2-3", "4-7", "8-15", "16-31", "32-63", "64"};
static_assert(class_names.size() == api::burst_classes);

std::vector<column> columns_of(const char* part) {
    const auto path = [part](std::string_view field) { return fmt::format("{}/{}", part, field); };
    static std::vector<std::string> kept; // columns hold views
    kept.reserve(256);
    std::vector<column> out{{"WORKER", "worker", form::number}, {"CPU", "cpu", form::number}};
    const auto add = [&](std::string_view title, std::string_view field, const char* of = nullptr) {
        kept.push_back(of == nullptr ? path(field) : fmt::format("{}/{}", of, field));
        out.push_back({title, kept.back(), form::number});
    };
    add("BUSY %", "busy_percent", "now");
    add("PACKETS/s", "packets_per_s", "now");
    add("TSC/PACKET", "tsc_per_packet");
    add("RECEIVE", "stages/receive");
    add("LOOKUP", "stages/lookup");
    add("UNPROTECT", "stages/unprotect");
    add("PROTECT", "stages/protect");
    add("SEND", "stages/send");
    add("BURST", "mean_burst");
    add("SLEEPS/s", "sleeps_per_s", "now");
    add("WAKES/s", "wakeups_per_s", "now");
    add("HANDED/s", "handed_over_per_s", "now");
    out.push_back({"GAP us", "longest_gap_us", form::number});
    out.push_back({"LAST s", "longest_gap_last_second_us", form::number});
    return out;
}

std::string table_of(const json& r, bool watch) {
    const char* part = watch ? "now" : "total";
    std::vector<std::string> paths;
    paths.reserve(class_names.size());
    std::vector<column> bursts{{"WORKER", "worker", form::number}};
    for (const auto name : class_names) {
        paths.push_back(fmt::format("{}/bursts/{}", part, name));
        bursts.push_back({name, paths.back(), form::number});
    }
    const auto silent = r.value("heartbeat_age_s", 0.0);
    return (silent > 3 ? fmt::format("the data plane is silent for {}\n", cell(silent, form::duration)) : "") +
           fmt::format("{}\n", watch ? fmt::format("over {}", cell(r["interval_s"], form::duration))
                                     : std::string("now: over 0.2 s; cycles and bursts: since the start")) +
           table(r["workers"], columns_of(part), "no workers") + "\nbursts of so many packets\n" +
           table(r["workers"], bursts, "no workers");
}

double number(const json& j, const char* name) {
    return j.contains(name) ? j[name].get<double>() : 0.0;
}

// What happened between two looks at one worker; `before` may be null: since its start.
json difference(const json& before, const json& now, double seconds, double hz) {
    const auto grown = [&](const char* name) { return number(now, name) - number(before, name); };
    const auto item = [&](const char* name, std::size_t i) {
        return now[name][i].get<double>() - (before.is_null() ? 0.0 : before[name][i].get<double>());
    };
    const auto each = [](double sum, double count) { return count > 0 ? json(sum / count) : json(); };
    json out{{"busy_percent", seconds > 0 ? json(100.0 * grown("busy_tsc") / (seconds * hz)) : json()}};
    const double packets = item("stage_packets", 0);
    const auto rate = [&](const char* name) {
        return seconds > 0 && now.contains(name) ? json(grown(name) / seconds) : json();
    };
    out["packets"] = static_cast<std::uint64_t>(packets);
    out["packets_per_s"] = seconds > 0 ? json(packets / seconds) : json();
    out["tsc_per_packet"] = each(grown("busy_tsc"), packets);
    for (std::size_t i = 0; i < stage_names.size(); ++i)
        out["stages"][std::string(stage_names[i])] = each(item("stage_tsc", i), item("stage_packets", i));
    double rounds = 0;
    for (std::size_t i = 0; i < class_names.size(); ++i) {
        out["bursts"][std::string(class_names[i])] = static_cast<std::uint64_t>(item("burst_sizes", i));
        rounds += item("burst_sizes", i);
    }
    out["mean_burst"] = each(packets, rounds);
    for (const auto* name : {"sleeps", "wakeups", "handed_over"})
        out[std::string(name) + "_per_s"] = rate(name);
    return out;
}

} // namespace

json worker_rates(const json& before, const json& now) {
    const double hz = now["tsc_hz"].get<double>();
    const double seconds = (now["tsc"].get<double>() - before["tsc"].get<double>()) / hz;
    json list = json::array();
    for (std::size_t i = 0; i < now["workers"].size(); ++i) {
        const json& w = now["workers"][i];
        json then = i < before["workers"].size() ? before["workers"][i] : json();
        if (!then.is_null() && then["started_tsc"] != w["started_tsc"])
            then = json(); // another life: its counts begin at nothing
        const double up = (now["tsc"].get<double>() - w["started_tsc"].get<double>()) / hz;
        json total = difference(json(), w, up, hz);
        for (const auto* name : {"sleeps_per_s", "wakeups_per_s", "handed_over_per_s"})
            total.erase(name); // those count over all lives of the data plane
        list.push_back({{"worker", i},
                        {"lcore", w["lcore"]},
                        {"cpu", w["cpu"]},
                        {"up_s", up},
                        {"longest_gap_us", w["longest_gap_tsc"].get<double>() * 1e6 / hz},
                        {"longest_gap_last_second_us", w["longest_gap_second_tsc"].get<double>() * 1e6 / hz},
                        {"now", difference(then, w, seconds, hz)},
                        {"total", total}});
    }
    return {{"interval_s", seconds},
            {"tsc_hz", now["tsc_hz"]},
            {"heartbeat_age_s", now["heartbeat_age_s"]},
            {"workers", list}};
}

result<void> worker(const settings& s, bool watch) {
    const auto segment = stats_view::open(stats_view::path_of(instance_of(s)));
    if (!segment)
        return tl::unexpected(segment.error());
    end_by_signal();
    const bool screen = watch && !s.as_json && isatty(STDOUT_FILENO) == 1;
    json before = segment->workers();
    for (unsigned round = 0; !signalled() && (s.rounds == 0 || round < s.rounds); ++round) {
        const double pause = watch ? s.interval_s : first_look_s;
        usleep(static_cast<useconds_t>(pause * 1e6)); // a signal ends it
        const json now = segment->workers();
        const json r = worker_rates(before, now);
        if (s.as_json)
            fmt::print("{}\n", r.dump());
        else
            fmt::print("{}{}", screen ? "\033[H\033[2J" : "", table_of(r, watch));
        std::fflush(stdout);
        before = now;
        if (!watch)
            break;
    }
    return {};
}

} // namespace tandem::ctl
