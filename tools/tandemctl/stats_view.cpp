// SPDX-License-Identifier: Apache-2.0
// Reads the stats segment (dataplane/api/stats.hpp). Counters are single-writer 64-bit words: read by relaxed atomic
// loads.
#include "tools/tandemctl/stats_view.hpp"

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <filesystem>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "dataplane/api/edge_maps.h"
#include "dataplane/api/stats.hpp"

namespace tandem::ctl {
namespace {

struct counter_info {
    std::string_view name, unit, text;
};
constexpr counter_info counter_table[] = {
#define X(name, unit, text) {#name, unit, text},
#include "dataplane/api/counters.def"
#undef X
};

std::uint64_t load(const std::uint64_t& value) {
    return __atomic_load_n(&value, __ATOMIC_RELAXED);
}

const api::stats_header& header(const void* memory) {
    return *static_cast<const api::stats_header*>(memory);
}

const api::worker_stats& worker(const void* memory, std::size_t index) {
    const auto* first = static_cast<const char*>(memory) + header(memory).worker_offset;
    return reinterpret_cast<const api::worker_stats*>(first)[index];
}

std::string_view verdict_name(std::size_t verdict) {
    switch (verdict) {
    case TANDEM_EDGE_TO_WORKER:
        return "to_worker";
    case TANDEM_EDGE_TO_KERNEL:
        return "to_kernel";
    case TANDEM_EDGE_HANDSHAKE:
        return "handshake";
    default:
        return verdict < api::drop_count ? api::drop_table[verdict].name : "";
    }
}

// The instances that there are, where `path` is of none.
std::string others(const std::string& path) {
    const auto at = path.rfind('/');
    const std::string_view before = "tandem-", behind = ".stats";
    std::string found;
    std::error_code none;
    for (const auto& entry : std::filesystem::directory_iterator(path.substr(0, at + 1), none)) {
        const auto name = entry.path().filename().string();
        if (!name.starts_with(before) || !name.ends_with(behind) || name.size() <= before.size() + behind.size())
            continue;
        const auto instance = name.substr(before.size(), name.size() - before.size() - behind.size());
        if (std::ranges::all_of(instance, [](unsigned char c) { return std::isalnum(c) != 0 || c == '-' || c == '_'; }))
            found += " " + instance;
    }
    return found.empty() ? found : " There is:" + found;
}

} // namespace

result<stats_view> stats_view::open(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        const auto what =
            errno == ENOENT
                ? "no such stats segment; is tandem-dataplane running, and is --instance its instance?" + others(path)
                : std::string("cannot be read; run tandemctl as root or as the data plane's user");
        return tl::unexpected(error{failure::unreachable, fmt::format("{}: {}", path, what)});
    }
    struct stat about {};
    const bool known = fstat(fd, &about) == 0;
    const auto size = static_cast<std::size_t>(known ? about.st_size : 0);
    void* memory = size >= sizeof(api::stats_header) ? mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    close(fd);
    const auto bad = [&path](const char* text) {
        return tl::unexpected(error{failure::failed, fmt::format("{}: {}", path, text)});
    };
    if (memory == MAP_FAILED)
        return bad("is not a stats segment (too short)");
    stats_view view(memory, size);
    const auto& h = header(memory);
    if (h.magic != api::stats_magic)
        return bad("is not a stats segment, or the data plane is just starting; try again");
    if (h.version != api::stats_version)
        return bad("has another version; use the tandemctl that came with the data plane");
    if (h.worker_offset % 64 != 0 || h.worker_offset > size ||
        (size - h.worker_offset) / sizeof(api::worker_stats) < h.workers)
        return bad("says it is longer than it is; restart the data plane");
    return view;
}

stats_view::stats_view(stats_view&& other) noexcept
    : memory_(std::exchange(other.memory_, nullptr)), size_(other.size_) {}

stats_view::~stats_view() {
    if (memory_ != nullptr)
        munmap(const_cast<void*>(memory_), size_);
}

json stats_view::counters() const {
    const std::size_t workers = header(memory_).workers;
    json list = json::array();
    for (std::size_t i = 0; i < std::size(counter_table); ++i) {
        json each = json::array();
        std::uint64_t total = 0;
        for (std::size_t w = 0; w < workers; ++w) {
            const auto value = load(worker(memory_, w).counters[i]);
            total += value;
            each.push_back(value);
        }
        list.push_back({{"name", counter_table[i].name},
                        {"unit", counter_table[i].unit},
                        {"text", counter_table[i].text},
                        {"total", total},
                        {"per_worker", each}});
    }
    return {{"workers", workers}, {"heartbeat_age_s", silence()}, {"counters", list}};
}

json stats_view::drops() const {
    json reasons = json::array(), edge = json::array();
    for (std::size_t i = 1; i < api::drop_count; ++i) {
        if (i == static_cast<std::size_t>(api::drop::edge_end))
            continue;
        std::uint64_t packets = api::by_edge(static_cast<api::drop>(i)) ? load(header(memory_).edge[i]) : 0;
        for (std::size_t w = 0; w < header(memory_).workers; ++w)
            packets += load(worker(memory_, w).drops[i]);
        reasons.push_back(
            {{"reason", api::drop_table[i].name}, {"text", api::drop_table[i].text}, {"packets", packets}});
    }
    for (std::size_t i = 0; i < std::size(header(memory_).edge); ++i)
        if (i >= TANDEM_EDGE_VERDICT_BASE && !verdict_name(i).empty())
            edge.push_back({{"verdict", verdict_name(i)}, {"packets", load(header(memory_).edge[i])}});
    return {{"drops", reasons}, {"edge", edge}};
}

json stats_view::workers() const {
    json list = json::array();
    const auto row = [](const std::uint64_t* from, std::size_t n) {
        json out = json::array();
        for (std::size_t i = 0; i < n; ++i)
            out.push_back(load(from[i]));
        return out;
    };
    for (std::size_t w = 0; w < header(memory_).workers; ++w) {
        const api::worker_stats& stats = worker(memory_, w);
        const api::worker_sight& s = stats.sight;
        const auto counted = [&](api::counter which) { return load(stats.counters[static_cast<std::size_t>(which)]); };
        list.push_back({{"lcore", s.lcore},
                        {"cpu", s.cpu},
                        {"started_tsc", load(s.started_tsc)},
                        {"busy_tsc", load(s.busy_tsc)},
                        {"longest_gap_tsc", load(s.longest_gap_tsc)},
                        {"longest_gap_second_tsc", load(s.longest_gap_second_tsc)},
                        {"stage_tsc", row(s.stage_tsc, api::stage_count)},
                        {"stage_packets", row(s.stage_packets, api::stage_count)},
                        {"burst_sizes", row(s.burst_sizes, api::burst_classes)},
                        {"sleeps", counted(api::counter::sleeps)},
                        {"wakeups", counted(api::counter::wakeups)},
                        {"handed_over", counted(api::counter::handed_over)}});
    }
    return {{"tsc", __builtin_ia32_rdtsc()},
            {"tsc_hz", load(header(memory_).tsc_hz)},
            {"heartbeat_age_s", silence()},
            {"workers", list}};
}

double stats_view::silence() const {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    const auto ns = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
    const auto beat = load(header(memory_).heartbeat_ns);
    return ns > beat ? static_cast<double>(ns - beat) / 1e9 : 0.0;
}

} // namespace tandem::ctl
