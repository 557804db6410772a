// SPDX-License-Identifier: Apache-2.0
// The choice of a path. See choice.hpp; rows COL-09 to COL-14, COL-18, COL-45.
#include "tools/agent/roam/choice.hpp"

#include <algorithm>
#include <array>
#include <tuple>
#include <utility>

namespace tandem::agent {

using std::chrono::seconds;

const char* name_of(standing how) noexcept {
    constexpr std::array<const char*, 7> names{"good", "weak", "silent", "no route", "no address", "no carrier", "off"};
    return names[static_cast<std::size_t>(how)];
}
const char* name_of(move_kind kind) noexcept {
    constexpr std::array<const char*, 3> names{"none", "soft", "hard"};
    return names[static_cast<std::size_t>(kind)];
}
const char* name_of(move_reason reason) noexcept {
    constexpr std::array<const char*, 10> names{"none",   "first", "lost",    "weak",  "silent",
                                                "better", "idle",  "traffic", "moved", "no path"};
    return names[static_cast<std::size_t>(reason)];
}

path_choice_maker::path_choice_maker(std::vector<path_class> classes) : classes_(std::move(classes)) {
    for (const auto& one : classes_)
        if (one.idle)
            pause_ = std::max(pause_, one.hysteresis);
}

standing path_choice_maker::standing_of(const known& path, path_time now) const {
    const auto& facts = path.facts;
    if (!facts.up)
        return standing::off;
    if (!facts.carrier)
        return standing::no_carrier;
    if (facts.addresses.empty())
        return standing::no_address;
    if (!facts.source)
        return standing::no_route;
    if (path.silent_until && *path.silent_until > now)
        return standing::silent;
    const auto& threshold = class_of(path).threshold_dbm;
    return threshold && facts.signal_dbm && *facts.signal_dbm <= *threshold ? standing::weak : standing::good;
}

void path_choice_maker::put(known& path, path_time now) const {
    const auto before = std::exchange(path.how, standing_of(path, now));
    if (path.how == standing::good && before != standing::good)
        path.good_since = now;
    if (works(path.how) && !works(before))
        path.working_since = now;
    if (!works(path.how)) { // what comes back is another network, perhaps
        path.silent_until.reset();
        path.failures = 0;
    }
}

void path_choice_maker::learn(const std::vector<path_facts>& all, path_time now) {
    std::map<std::string, known> fresh;
    for (const auto& facts : all) {
        const auto before = paths_.find(facts.interface);
        known path = before == paths_.end() ? known{} : before->second;
        if (path.facts.source != facts.source) {
            path.silent_until.reset();
            path.failures = 0;
        }
        path.facts = facts;
        put(path, now);
        fresh.emplace(facts.interface, std::move(path));
    }
    paths_ = std::move(fresh);
    if (!idle_since_)
        idle_since_ = now;
}

void path_choice_maker::traffic(path_time now) noexcept {
    if (!busy_since_ || now - *idle_since_ >= pause_)
        busy_since_ = now;
    idle_since_ = now;
}

void path_choice_maker::failed(const std::string& interface, path_time now) {
    const auto found = paths_.find(interface);
    if (found == paths_.end() || !works(found->second.how))
        return;
    auto& path = found->second;
    path.silent_until = now + std::min(first_silence * (1U << std::min(path.failures, 10U)), longest_silence);
    path.failures++;
    put(path, now);
}

void path_choice_maker::answered(const std::string& interface) {
    const auto found = paths_.find(interface);
    if (found == paths_.end())
        return;
    found->second.failures = 0; // where it was silent, it is good again with the next decision
    found->second.silent_until.reset();
}

std::optional<std::chrono::milliseconds> path_choice_maker::idle_for(path_time now) const {
    if (!idle_since_)
        return std::nullopt;
    return std::chrono::duration_cast<std::chrono::milliseconds>(now - *idle_since_);
}

std::optional<path_time> path_choice_maker::idle_at() const {
    const auto here = paths_.find(in_use_.interface);
    if (here == paths_.end() || !idle_since_)
        return std::nullopt;
    const auto& its = class_of(here->second);
    if (its.cost != billing::time || !its.idle)
        return std::nullopt;
    return *idle_since_ + *its.idle;
}

// One packet alone is no traffic worth a circuit: it must go on, with pauses shorter than pause_.
bool path_choice_maker::busy(seconds for_so_long, path_time now) const {
    return busy_since_ && now - *idle_since_ < pause_ && now - *busy_since_ >= for_so_long;
}

bool path_choice_maker::gives_way(const known& path, path_time now) const {
    const auto& its = class_of(path);
    if (its.cost != billing::time || !its.idle)
        return false;
    if (path.facts.interface == in_use_.interface)
        return now >= idle_at().value_or(path_time::max());
    return !busy(its.hysteresis, now);
}

bool path_choice_maker::precedes(const known& a, const known& b, path_time now) const {
    const auto rank = [&](const known& path) {
        // Of two that are silent the one whose time is over first: each has its turn.
        const auto silent = path.how == standing::silent ? *path.silent_until : path_time{};
        return std::tuple(path.how, silent, gives_way(path, now), path.facts.order);
    };
    return rank(a) < rank(b);
}

bool path_choice_maker::ripe(const known& path, path_time now) const {
    const auto since = path.how == standing::good ? path.good_since : path.working_since;
    return now - since >= class_of(path).hysteresis;
}

// The one in use counts as ripe, and goes before its equals.
const path_choice_maker::known* path_choice_maker::best(bool ripe_only, path_time now) const {
    const auto old = paths_.find(in_use_.interface);
    const known* found = old != paths_.end() && works(old->second.how) ? &old->second : nullptr;
    for (const auto& [name, path] : paths_)
        if (works(path.how) && (!ripe_only || ripe(path, now)) && (found == nullptr || precedes(path, *found, now)))
            found = &path;
    return found;
}

decision path_choice_maker::go(move_kind kind, move_reason reason, const known* to, standing was) {
    decision made{kind, reason, in_use_, {}, was};
    if (to != nullptr)
        made.to = {to->facts.interface, *to->facts.source};
    in_use_ = made.to;
    return made;
}

move_reason path_choice_maker::why_left(const known& old, const known& fresh, path_time now) const {
    if (old.how == standing::weak && fresh.how == standing::good)
        return move_reason::weak;
    if (gives_way(old, now) && !gives_way(fresh, now) && fresh.facts.order > old.facts.order)
        return move_reason::idle;
    const auto& its = class_of(fresh);
    const bool waited_for_traffic = its.idle && busy_since_ && *busy_since_ > fresh.good_since;
    return waited_for_traffic ? move_reason::traffic : move_reason::better;
}

decision path_choice_maker::decide(path_time now) {
    for (auto& [name, path] : paths_)
        put(path, now); // a silence may be over
    if (in_use_.interface.empty()) {
        const auto* found = best(false, now);
        return found == nullptr ? decision{} : go(move_kind::hard, move_reason::first, found, standing::off);
    }
    const auto at = paths_.find(in_use_.interface);
    const known gone;
    const known& old = at == paths_.end() ? gone : at->second;
    const auto& mine = old.facts.addresses;
    const bool there = works(old.how) && std::find(mine.begin(), mine.end(), in_use_.source) != mine.end();
    if (!there || old.how == standing::silent) {
        const auto* found = best(false, now);
        if (found == nullptr)
            return go(move_kind::hard, move_reason::no_path, nullptr, old.how);
        if (found != &old)
            return go(move_kind::hard, there ? move_reason::silent : move_reason::lost, found, old.how);
        return there ? decision{} : go(move_kind::hard, move_reason::moved, found, old.how);
    }
    const auto* found = best(true, now);
    if (found != nullptr && found != &old)
        return go(move_kind::soft, why_left(old, *found, now), found, old.how);
    if (old.facts.source != in_use_.source)
        return go(move_kind::soft, move_reason::moved, &old, old.how);
    return {};
}

bool is_application_traffic(std::span<const std::uint8_t> packet) noexcept {
    constexpr std::uint8_t igmp = 2, icmpv6 = 58, hop_by_hop = 0;
    if (packet.size() >= 20 && packet[0] >> 4U == 4)
        return packet[9] != igmp;
    if (packet.size() < 48 || packet[0] >> 4U != 6)
        return false;
    std::size_t at = 40;
    std::uint8_t next = packet[6];
    if (next == hop_by_hop) { // of MLD: the router alert
        next = packet[40];
        at += 8 + std::size_t{packet[41]} * 8;
    }
    const bool neighbours_only =
        next == icmpv6 && at < packet.size() && ((packet[at] >= 130 && packet[at] <= 137) || packet[at] == 143);
    return !neighbours_only;
}

} // namespace tandem::agent
