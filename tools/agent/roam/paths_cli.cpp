// SPDX-License-Identifier: Apache-2.0
// Two tables: paths, and the last switches. The status socket has them as JSON.
#include "tools/agent/roam/paths_cli.hpp"

#include <algorithm>
#include <chrono>
#include <iterator>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "tools/agent/exit_status.hpp"
#include "tools/agent/status.hpp"

namespace tandem::agent {

using nlohmann::json;

namespace {

constexpr const char* none_configured = "no [[path]] in the agent's configuration: it goes as the kernel's routes say; "
                                        "tandem-agent.toml(5) says how to choose";

std::string dbm_of(const json& value) {
    return value.is_number() ? fmt::format("{} dBm", value.get<int>()) : "-";
}

std::string name_in(const json& place) {
    return place.is_null() ? "-" : place.value("interface", "");
}

void add_path(std::string& out, const json& one) {
    std::string addresses;
    for (const auto& address : one["addresses"])
        addresses += (addresses.empty() ? "" : " ") + address.get<std::string>();
    const auto interface = one.value("interface", "");
    const auto silent = one.value("silent_s", 0.0);
    const auto standing = one.value("standing", "") + (silent > 0 ? fmt::format(" {:.0f} s", silent) : "");
    out += fmt::format("{:1} {:<15} {:<12} {:>5} {:<12} {:>8} {:>8} {}\n", one.value("in_use", false) ? "*" : "",
                       interface.empty() ? "-" : interface, one.value("class", ""), one.value("order", 0), standing,
                       dbm_of(one["signal_dbm"]),
                       one.contains("for_s") ? fmt::format("{:.0f} s", one.value("for_s", 0.0)) : "-",
                       addresses.empty() ? "-" : addresses);
}

void add_move(std::string& out, const json& one) {
    const auto wall = std::chrono::milliseconds(one.value("time_ms", std::int64_t{0}));
    const auto second = static_cast<std::time_t>(wall.count() / 1000);
    const auto took =
        one.value("outcome", "") == "up" ? fmt::format("{} ms", one.value("took_ms", std::int64_t{0})) : "-";
    out += fmt::format("{:%Y-%m-%d %H:%M:%S}.{:03} {:<15} {:<15} {:<5} {:<8} {:<8} {:>8} {}\n", fmt::localtime(second),
                       wall.count() % 1000, name_in(one["from"]), name_in(one["to"]), one.value("kind", ""),
                       one.value("reason", ""), one.value("outcome", ""), took, one.value("text", ""));
}

tl::expected<json, std::string> ask(const std::string& run_dir) {
    const auto status = read_status(run_dir);
    if (!status)
        return tl::unexpected(status.error());
    auto parsed = json::parse(*status, nullptr, false);
    if (!parsed.is_object())
        return tl::unexpected(std::string("what answers there is no agent"));
    return parsed.contains("paths") ? parsed["paths"] : json(json::value_t::object);
}

} // namespace

std::string paths_text(const std::string& status, std::size_t moves) {
    const auto all = json::parse(status);
    if (!all.contains("paths"))
        return fmt::format("{}\n", none_configured);
    auto out = fmt::format("  {:<15} {:<12} {:>5} {:<12} {:>8} {:>8} {}\n", "INTERFACE", "CLASS", "ORDER", "STANDING",
                           "SIGNAL", "FOR", "ADDRESSES");
    for (const auto& one : all["paths"])
        add_path(out, one);
    out += fmt::format("\n{:<23} {:<15} {:<15} {:<5} {:<8} {:<8} {:>8} {}\n", "TIME", "FROM", "TO", "KIND", "REASON",
                       "OUTCOME", "TOOK", "WHY");
    const auto& made = all["moves"];
    const auto skipped = made.size() > moves ? made.size() - moves : 0;
    for (auto one = std::next(made.begin(), static_cast<std::ptrdiff_t>(skipped)); one != made.end(); ++one)
        add_move(out, *one);
    return out;
}

int show_paths(const std::string& run_dir, const paths_view& view) {
    const bool screen = view.watch && !view.json && ::isatty(STDOUT_FILENO) == 1;
    for (unsigned round = 0; round == 0 || (view.watch && (view.rounds == 0 || round < view.rounds)); round++) {
        if (round > 0)
            ::sleep(1); // a signal ends the program
        const auto paths = ask(run_dir);
        if (!paths)
            return complain(paths.error(), exit_unreachable);
        const auto text = view.json ? paths->dump(view.watch ? -1 : 2) + "\n" : paths_text(paths->dump(), view.moves);
        fmt::print("{}{}", screen ? "\033[H\033[2J" : "", text);
        std::fflush(stdout);
    }
    return exit_ok;
}

} // namespace tandem::agent
