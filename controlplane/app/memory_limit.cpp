// SPDX-License-Identifier: Apache-2.0
// Control groups, /proc and the heap (memory_limit.hpp).
#include "controlplane/app/memory_limit.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <fstream>
#include <malloc.h>
#include <sstream>
#include <string_view>

namespace tandem::control {

namespace {

constexpr std::uint64_t bytes_of_a_call = 24U << 10; // a standing one; bench/ng measures it
constexpr std::uint64_t enough_for_a_machine = 256U << 20;
constexpr auto look_every = std::chrono::milliseconds(100), look_again = std::chrono::milliseconds(10);
constexpr auto trim_every = std::chrono::seconds(10);
constexpr std::uint64_t near =
    80; // of 100: from here on a look asks for what is dear, too: the files' share and the heap

std::string file_text(const std::string& path) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

// Nothing where the file is not there or says "max".
std::optional<std::uint64_t> number_in(const std::string& path) {
    std::ifstream file(path);
    std::uint64_t value = 0;
    if (!(file >> value) || value > (std::uint64_t{1} << 60)) // version 1 says so much where there is no limit
        return std::nullopt;
    return value;
}

// "name value" or "name: value kB"
std::uint64_t value_of(std::string_view text, std::string_view name) {
    for (std::size_t at = text.find(name); at != std::string_view::npos; at = text.find(name, at + 1)) {
        if (at != 0 && text[at - 1] != '\n')
            continue;
        const auto rest = text.substr(at + name.size());
        if (rest.empty() || (rest[0] != ' ' && rest[0] != ':'))
            continue;
        return std::strtoull(std::string(rest.substr(1, 40)).c_str(), nullptr, 10);
    }
    return 0;
}

// Where the process's group is, as /proc/self/cgroup names it: "N:controllers:path".
std::optional<std::string> path_in(const std::string& groups, bool second) {
    std::istringstream lines(groups);
    for (std::string line; std::getline(lines, line);) {
        const auto one = line.find(':'), two = line.find(':', one + 1);
        if (two == std::string::npos)
            continue;
        const auto controllers = "," + line.substr(one + 1, two - one - 1) + ",";
        if (second ? controllers == ",," : controllers.find(",memory,") != std::string::npos)
            return line.substr(two + 1);
    }
    return std::nullopt;
}

struct mount {
    std::string root, point;
};

// Of the memory controller: "ID PARENT DEV ROOT POINT OPTIONS ... - TYPE SOURCE SUPER".
std::optional<mount> mount_in(const std::string& mounts, bool second) {
    std::istringstream lines(mounts);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        std::string skip, type, source, super;
        mount found;
        words >> skip >> skip >> skip >> found.root >> found.point;
        while (words >> skip && skip != "-") {
        }
        words >> type >> source >> super;
        if (second ? type == "cgroup2" : type == "cgroup" && ("," + super + ",").find(",memory,") != std::string::npos)
            return found;
    }
    return std::nullopt;
}

std::uint64_t percent(const memory_limit::state& of, std::uint64_t share) {
    return of.limit / 100 * share;
}

} // namespace

memory_limit::memory_limit(std::string root) : root_(std::move(root)) {
    find_groups();
    last_ = look();
}

void memory_limit::find_groups() {
    const auto groups = file_text(root_ + "/proc/self/cgroup"), mounts = file_text(root_ + "/proc/self/mountinfo");
    for (const bool second : {true, false}) {
        auto path = path_in(groups, second);
        const auto where = mount_in(mounts, second);
        if (!path || !where)
            continue;
        if (where->root != "/" && path->starts_with(where->root)) // a piece of the tree is mounted
            path->erase(0, where->root.size());
        for (auto at = *path;; at.erase(at.rfind('/'))) {
            const auto here = root_ + where->point + (at == "/" ? "" : at) + "/";
            groups_.push_back(second ? group{here + "memory.max", here + "memory.high", here + "memory.current",
                                             here + "memory.stat", "inactive_file", "active_file"}
                                     : group{here + "memory.limit_in_bytes", "", here + "memory.usage_in_bytes",
                                             here + "memory.stat", "total_inactive_file", "total_active_file"});
            if (at.find('/') == std::string::npos)
                break;
        }
    }
}

std::optional<memory_limit::state> memory_limit::look_at(const group& one) const {
    auto limit = number_in(one.limit);
    if (!one.high.empty())
        if (const auto high = number_in(one.high)) // above it the kernel slows the process down
            limit = std::min(limit.value_or(*high), *high);
    const auto used = number_in(one.usage);
    if (!limit || !used || *limit == 0)
        return std::nullopt;
    state now{*limit, *used, 0};
    if (now.used >= percent(now, near)) {
        const auto text = file_text(one.statistics);
        now.used -= std::min(now.used, value_of(text, one.inactive) + value_of(text, one.active));
    }
    return now;
}

memory_limit::state memory_limit::machine() const {
    const auto text = file_text(root_ + "/proc/meminfo");
    const auto total = value_of(text, "MemTotal") << 10, available = value_of(text, "MemAvailable") << 10;
    // All but a little: others' memory and huge pages are none of ours.
    const auto spare = std::min(enough_for_a_machine, total / 20);
    if (total == 0)
        return {};
    return {total, available <= spare ? total : std::min(total - available, total / 10 * 8), 0};
}

memory_limit::state memory_limit::look() {
    state tightest;
    for (const auto& one : groups_)
        if (const auto now = look_at(one))
            if (tightest.limit == 0 ||
                now->limit - std::min(now->used, now->limit) < tightest.limit - std::min(tightest.used, tightest.limit))
                tightest = *now;
    if (tightest.limit == 0)
        tightest = machine();
    tightest.whole = tightest.used >= percent(tightest, near);
    if (tightest.whole)
        tightest.heap_free = ::mallinfo2().fordblks;
    looked_ = std::chrono::steady_clock::now();
    if (tightest.used > percent(tightest, 85) && tightest.heap_free > percent(tightest, 15) &&
        looked_ - trimmed_ > trim_every) {
        trimmed_ = looked_;
        ::malloc_trim(0); // after a peak: whole free pages go back, and the next look sees it
    }
    if (tight(tightest, 0))
        short_ = looked_;
    begun_ = 0;
    return last_ = tightest;
}

bool memory_limit::was_short() const noexcept {
    return looked_ - short_ < std::chrono::seconds(10);
}

// Above 85 of 100 the heap's own free memory decides, of which there may be much after a peak; above 93 it must be so
// much that it is not only gaps.
bool memory_limit::tight(const state& now, std::uint64_t begun) {
    const auto used = now.used + begun * bytes_of_a_call;
    if (now.limit == 0 || used < percent(now, 85))
        return false;
    return now.heap_free < percent(now, used < percent(now, 93) ? 4 : 15) + begun * bytes_of_a_call;
}

std::optional<std::string> memory_limit::no_room() {
    const auto age = std::chrono::steady_clock::now() - looked_;
    // Not whole: those begun since led it past the mark.
    if (age > look_every || (tight(last_, begun_) && (!last_.whole || age > look_again)))
        last_ = look();
    if (!tight(last_, begun_)) {
        ++begun_;
        return std::nullopt;
    }
    short_ = std::chrono::steady_clock::now(); // those begun since the last look count, too
    return fmt::format(
        "its memory is used up but for a reserve ({} of {} MiB): raise MemoryMax, or send calls elsewhere",
        last_.used >> 20, last_.limit >> 20);
}

std::uint64_t memory_limit::calls_more() {
    const auto now = look();
    const auto until = percent(now, 85) + now.heap_free;
    return until > now.used ? (until - now.used) / bytes_of_a_call : 0;
}

} // namespace tandem::control
