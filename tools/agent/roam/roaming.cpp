// SPDX-License-Identifier: Apache-2.0
// From the kernel's words to moves of the primary. See roaming.hpp.
#include "tools/agent/roam/roaming.hpp"

#include <algorithm>

#include <net/if.h>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "tools/agent/device/text.hpp"

namespace tandem::agent {

roaming::roaming(const agent_config& config, std::unique_ptr<signal_source> signals, hooks hook)
    : poll_(config.signal_poll), signals_(std::move(signals)), hook_(std::move(hook)), choice_(config.path_classes) {}

// With news only: when a link changes, too.
void roaming::read_signals(const std::vector<net_link>& all, path_time now) {
    if (!signals_ || (read_at_ && (poll_.count() == 0 || now - *read_at_ < poll_)))
        return;
    read_at_ = now;
    dbm_.clear();
    for (const auto& one : all)
        if (one.up && order_of(one.interface))
            if (const auto dbm = signals_->read(::if_nametoindex(one.interface.c_str())))
                dbm_.emplace(one.interface, *dbm);
}

std::optional<std::size_t> roaming::order_of(const std::string& interface) const {
    const auto& classes = choice_.classes();
    const auto found = std::find_if(classes.begin(), classes.end(),
                                    [&](const auto& one) { return any_fits(one.interfaces, interface); });
    if (found == classes.end())
        return std::nullopt;
    return static_cast<std::size_t>(found - classes.begin());
}

std::vector<path_facts> roaming::look(path_time now) {
    const auto known = hook_.survey();
    read_signals(known.all, now);
    std::vector<path_facts> all;
    for (const auto& one : known.all) {
        const auto order = order_of(one.interface);
        if (!order)
            continue;
        path_facts facts{one.interface, *order, one.up, one.carrier, one.addresses, {}, {}};
        if (one.usable)
            facts.source = hook_.source(one.interface);
        auto& mine = facts.addresses; // the kernel may send from another interface's address
        if (facts.source && std::find(mine.begin(), mine.end(), *facts.source) == mine.end())
            mine.push_back(*facts.source);
        if (const auto dbm = dbm_.find(one.interface); dbm != dbm_.end())
            facts.signal_dbm = dbm->second;
        all.push_back(std::move(facts));
    }
    return all;
}

path_move roaming::note(const decision& made, path_time now) const {
    path_move one;
    one.made = made;
    one.idle = choice_.idle_for(now);
    one.wall = std::chrono::system_clock::now();
    one.at = now;
    const auto fill = [this](const std::string& interface, std::string& name, std::optional<int>& dbm) {
        if (const auto order = interface.empty() ? std::nullopt : order_of(interface))
            name = choice_.classes()[*order].name;
        if (const auto known = dbm_.find(interface); known != dbm_.end())
            dbm = known->second;
    };
    fill(made.from.interface, one.from_class, one.from_dbm);
    fill(made.to.interface, one.to_class, one.to_dbm);
    return one;
}

void roaming::decide(path_time now) {
    const auto made = choice_.decide(now);
    if (made.kind == move_kind::none)
        return;
    journal_.add(note(made, now));
    spdlog::info("path: {} to {} ({}): {}", made.from.interface.empty() ? "nothing" : made.from.interface,
                 made.to.interface.empty() ? "nothing" : made.to.interface, name_of(made.kind),
                 explain(journal_.moves().back()));
    if (hook_.move(made.to, made.kind))
        reached(made.to, true, now);
}

void roaming::check(path_time now) {
    if (!active())
        return;
    choice_.learn(look(now), now);
    decide(now);
}

void roaming::links_changed(path_time now) {
    read_at_.reset();
    check(now);
}

void roaming::signal_news(path_time now) {
    signals_->news();
    links_changed(now);
}

void roaming::saw_packet(std::span<const std::uint8_t> packet, path_time now) {
    if (active() && is_application_traffic(packet))
        choice_.traffic(now);
}

path_time roaming::next_look(path_time now) const {
    const auto second = now + std::chrono::seconds(1);
    const auto idle = choice_.idle_at();
    return idle && *idle > now ? std::min(*idle, second) : second;
}

void roaming::reached(const path_place& over, bool up, path_time now) {
    journal_.end(over, up ? move_outcome::up : move_outcome::failed, now);
    if (up)
        return choice_.answered(over.interface);
    choice_.failed(over.interface, now);
    decide(now);
}

namespace {

double seconds_of(path_time::duration time) {
    return std::chrono::duration<double>(std::chrono::duration_cast<std::chrono::milliseconds>(time)).count();
}

nlohmann::json optional_of(const std::optional<int>& value) {
    return value ? nlohmann::json(*value) : nlohmann::json();
}

nlohmann::json describe_place(const path_place& place, const std::string& its_class, const std::optional<int>& dbm) {
    if (place.interface.empty())
        return nullptr;
    return {{"interface", place.interface},
            {"address", to_text(place.source)},
            {"class", its_class},
            {"signal_dbm", optional_of(dbm)}};
}

nlohmann::json describe_move(const path_move& one) {
    const auto wall = std::chrono::duration_cast<std::chrono::milliseconds>(one.wall.time_since_epoch());
    return {{"time_ms", wall.count()},
            {"from", describe_place(one.made.from, one.from_class, one.from_dbm)},
            {"to", describe_place(one.made.to, one.to_class, one.to_dbm)},
            {"kind", name_of(one.made.kind)},
            {"reason", name_of(one.made.reason)},
            {"text", explain(one)},
            {"outcome", name_of(one.outcome)},
            {"took_ms", one.took.count()}};
}

} // namespace

nlohmann::json roaming::describe(path_time now) const {
    auto known = nlohmann::json::array();
    for (const auto& [interface, path] : choice_.paths()) {
        auto addresses = nlohmann::json::array();
        for (const auto& address : path.facts.addresses)
            addresses.push_back(to_text(address));
        nlohmann::json one{{"interface", interface},
                           {"class", choice_.classes()[path.facts.order].name},
                           {"order", path.facts.order + 1},
                           {"in_use", interface == choice_.in_use().interface},
                           {"standing", name_of(path.how)},
                           {"signal_dbm", optional_of(path.facts.signal_dbm)},
                           {"addresses", std::move(addresses)},
                           {"failures", path.failures}};
        if (works(path.how))
            one["for_s"] = seconds_of(now - (path.how == standing::good ? path.good_since : path.working_since));
        if (path.silent_until && *path.silent_until > now)
            one["silent_s"] = seconds_of(*path.silent_until - now);
        known.push_back(std::move(one));
    }
    for (std::size_t order = 0; order < choice_.classes().size(); ++order)
        if (std::ranges::none_of(choice_.paths(), [&](const auto& path) { return path.second.facts.order == order; }))
            known.push_back({{"interface", ""},
                             {"class", choice_.classes()[order].name},
                             {"order", order + 1},
                             {"in_use", false},
                             {"standing", "missing"}, // or its interface is written otherwise
                             {"signal_dbm", nullptr},
                             {"addresses", nlohmann::json::array()},
                             {"failures", 0}});
    auto moves = nlohmann::json::array();
    for (const auto& one : journal_.moves())
        moves.push_back(describe_move(one));
    const auto idle = choice_.idle_for(now);
    return {{"in_use", interface()},
            {"idle_s", idle ? nlohmann::json(seconds_of(*idle)) : nlohmann::json()},
            {"paths", std::move(known)},
            {"moves", std::move(moves)},
            {"soft", journal_.count(move_kind::soft)},
            {"hard", journal_.count(move_kind::hard)},
            {"failed", journal_.count(move_outcome::failed)}};
}

} // namespace tandem::agent
