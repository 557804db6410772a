// SPDX-License-Identifier: Apache-2.0
// See alarm_rules.hpp. Each sentence: what is wrong, what follows, what to do.
#include "controlplane/app/alarm_rules.hpp"

#include <algorithm>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace tandem::control {

namespace {

constexpr unsigned raised_above = 80, over_below = 75; // percent
constexpr std::size_t many_restarts = 3;
constexpr std::chrono::hours certificate_days{30 * 24};
constexpr std::uint64_t mebibyte = 1 << 20;

bool scarce(std::size_t used, std::size_t total, bool stood) {
    return total != 0 && used * 100 > total * (stood ? over_below : raised_above);
}

// A twentieth of the file system, but at least 64 MiB where it is not small, and a gigabyte is always enough.
std::uint64_t least_free(std::uint64_t total) {
    return std::clamp(total / 20, std::min(64 * mebibyte, total / 10), 1024 * mebibyte);
}

std::string ports_text(const media::manager::port_room& room) {
    return fmt::format("\"{}\" ({}): {} of {} pairs are in use", room.name, room.ip.to_string(), room.total - room.free,
                       room.total);
}

std::string disk_text(const disk_reading& disk) {
    return fmt::format("{} has {} MiB of {} MiB left", disk.directory, disk.free / mebibyte, disk.total / mebibyte);
}

std::string certificate_text(const certificate_reading& c, std::chrono::system_clock::time_point now) {
    const auto left = std::chrono::duration_cast<std::chrono::hours>(c.until - now).count();
    const auto day = fmt::format("{:%Y-%m-%d}", fmt::gmtime(std::chrono::system_clock::to_time_t(c.until)));
    const auto when = c.until <= now ? fmt::format("has ended ({}): nobody who checks it can connect any more", day)
                                     : fmt::format("ends in {} days ({})", left / 24, day);
    return fmt::format("{} {}: {}restart tandem-controlplane (calls go on)", c.file, when,
                       c.renewed ? "the file is renewed already, " : "renew it and ");
}

// The entries of `list` for which `text` says something, as one sentence.
template <class List, class Says>
std::string joined(const List& list, const Says& text) {
    std::vector<std::string> said;
    for (const auto& one : list)
        if (auto words = text(one); !words.empty())
            said.push_back(std::move(words));
    return fmt::format("{}", fmt::join(said, "; "));
}

} // namespace

std::map<std::string, std::string> judge(const readings& seen, const std::function<bool(const char*)>& stood) {
    std::map<std::string, std::string> out;
    const auto add = [&](const char* name, std::string text, std::string_view remedy = {}) {
        if (!text.empty())
            out.emplace(name, fmt::format("{}{}", text, remedy));
    };
    if (!seen.dataplane.empty())
        add(alarms::dataplane, seen.dataplane,
            "; meanwhile `ping` is not answered with pong and new calls are left to other gateways");
    if (seen.restarts >= many_restarts)
        add(alarms::restarts, fmt::format("the data plane was started {} times within {} minutes: its log says why",
                                          seen.restarts, restarts_within.count()));
    add(alarms::carrier, fmt::format("{}", fmt::join(seen.carrier, "; ")));
    add(alarms::ports,
        joined(seen.ports,
               [&](const auto& room) {
                   return scarce(room.total - room.free, room.total, stood(alarms::ports)) ? ports_text(room)
                                                                                           : std::string();
               }),
        "; media ports run out: widen [media] ports, or add another [[address]] of that name");
    if (!seen.unknown_names.empty())
        add(alarms::addresses,
            fmt::format("[media] names \"{}\", which the data plane does not have: calls that need such an address are "
                        "refused; give an [[address]] of dataplane.toml that name, or correct controlplane.toml",
                        fmt::join(seen.unknown_names, "\", \"")));
    if (scarce(seen.flows.reserved, seen.flows.total, stood(alarms::flows)))
        add(alarms::flows, fmt::format("{} of {} places in the data plane's flow table are taken or promised: raise "
                                       "max_flows in dataplane.toml and restart the data plane",
                                       seen.flows.reserved, seen.flows.total));
    add(alarms::disk,
        joined(seen.disks,
               [](const auto& disk) {
                   return disk.total != 0 && disk.free < least_free(disk.total) ? disk_text(disk) : std::string();
               }),
        ": make room, or calls and their records cannot be kept");
    add(alarms::certificate, joined(seen.certificates, [&](const auto& c) {
            return c.until - seen.now < certificate_days ? certificate_text(c, seen.now) : std::string();
        }));
    return out;
}

} // namespace tandem::control
