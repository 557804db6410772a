// SPDX-License-Identifier: Apache-2.0
// profiles.json: {"version": 1, "peers": [{"peer": "+4670...", "total": 12, "calls": [[ended ms, length ms, failed]]}]}
#include "tools/agent/advice/history.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "controlplane/protocol/address_name.hpp"

namespace tandem::agent {

using nlohmann::json;
using protocol::past_call;
using protocol::profile;
using std::chrono::duration_cast;
using std::chrono::milliseconds;

namespace {

constexpr std::int64_t latest_ms = 1LL << 53, longest_ms = 1LL << 40; // what no clock and no call reaches

bool in(const json& value, std::int64_t most) {
    if (value.is_number_unsigned())
        return value.get<std::uint64_t>() <= static_cast<std::uint64_t>(most);
    return value.is_number_integer() && value.get<std::int64_t>() >= 0 && value.get<std::int64_t>() <= most;
}

std::optional<past_call> read_call(const json& from) {
    if (!from.is_array() || from.size() != 3 || !in(from[0], latest_ms / 1000) || !in(from[1], longest_ms) ||
        !from[2].is_boolean())
        return std::nullopt;
    return past_call{std::chrono::system_clock::time_point(milliseconds(from[0].get<std::int64_t>())),
                     milliseconds(from[1].get<std::int64_t>()), from[2].get<bool>()};
}

std::optional<std::pair<std::string, profile>> read_pair(const json& from, const std::string& own) {
    if (!from.is_object() || !from.contains("peer") || !from["peer"].is_string() || !from.contains("calls") ||
        !from["calls"].is_array() || from["calls"].size() > profile::most_calls || !from.contains("total") ||
        !in(from["total"], latest_ms))
        return std::nullopt;
    const auto name = protocol::parse_address_name(from["peer"].get_ref<const std::string&>());
    if (!name)
        return std::nullopt;
    profile one;
    std::tie(one.a, one.b) = protocol::pair_of(own, name->text);
    for (const auto& item : from["calls"]) {
        const auto call = read_call(item);
        if (!call)
            return std::nullopt;
        one.add(*call);
    }
    one.total = from["total"].get<std::uint64_t>();
    return std::pair{name->text, std::move(one)};
}

const char* name_of(expectation of) noexcept {
    return of == expectation::median ? "median" : of == expectation::mean ? "mean" : "last";
}

} // namespace

tl::expected<profiles, std::string> parse_profiles(std::string_view text, const std::string& own,
                                                   const std::string& file) {
    const auto whole = json::parse(text, nullptr, false);
    if (!whole.is_object() || whole.value("version", json()) != json(1) || !whole.contains("peers") ||
        !whole["peers"].is_array())
        return tl::unexpected(fmt::format("{}: no history of version 1; remove it to begin anew", file));
    profiles all;
    for (const auto& item : whole["peers"]) {
        auto pair = read_pair(item, own);
        if (!pair || all.size() >= history::most_pairs)
            return tl::unexpected(
                fmt::format("{}: entry {} of peers is no history; remove it to begin anew", file, all.size() + 1));
        all.insert(std::move(*pair));
    }
    return all;
}

std::string format_profiles(const profiles& all) {
    auto peers = json::array();
    for (const auto& [peer, one] : all) {
        auto calls = json::array();
        for (const auto& call : one.calls)
            calls.push_back({duration_cast<milliseconds>(call.ended.time_since_epoch()).count(), call.duration.count(),
                             call.failed});
        peers.push_back({{"peer", peer}, {"total", one.total}, {"calls", std::move(calls)}});
    }
    return json{{"version", 1}, {"peers", std::move(peers)}}.dump(-1, ' ', true) + "\n";
}

std::optional<milliseconds> expected_length(const protocol::summary& of, const profile_rules& rules) noexcept {
    if (of.calls == 0 || of.calls < rules.least_calls)
        return std::nullopt;
    return rules.of == expectation::median ? of.median : rules.of == expectation::mean ? of.mean : of.last;
}

std::string level_for(milliseconds length, const profile_rules& rules) {
    std::string level;
    for (const auto& threshold : rules.duration)
        if (length >= threshold.at_least)
            level = threshold.level;
    return level;
}

history::history(std::string own, std::string directory, profile_rules rules)
    : own_(std::move(own)), directory_(std::move(directory)), path_(directory_ + "/profiles.json"),
      rules_(std::move(rules)) {}

void history::complain(const std::string& what) {
    if (what != error_)
        spdlog::error("profiles: {}", what);
    error_ = what;
}

// What is on disk becomes all_; false where it is of no use, and then the old stays.
bool history::read() {
    const auto now = stamp_of(path_);
    if (now == stamp_)
        return !broken_;
    stamp_ = now;
    broken_ = true; // until it is read whole
    const auto text = read_state(path_, most_bytes);
    if (!text) {
        complain(text.error());
        return false;
    }
    auto fresh = *text ? parse_profiles(**text, own_, path_) : profiles{};
    if (!fresh) {
        complain(fresh.error());
        return false;
    }
    all_ = std::move(*fresh);
    error_.clear();
    broken_ = false;
    return true;
}

void history::apply(const std::string& peer, const past_call& call) {
    if (!all_.contains(peer) && all_.size() >= most_pairs)
        all_.erase(std::min_element(all_.begin(), all_.end(), [](const auto& x, const auto& y) {
            const auto last = [](const profile& of) { return of.calls.empty() ? time_point{} : of.calls.back().ended; };
            return last(x.second) < last(y.second);
        }));
    profile& one = all_[peer];
    std::tie(one.a, one.b) = protocol::pair_of(own_, peer);
    one.add(call);
}

void history::refresh() {
    if (directory_.empty() || (unwritten_.empty() && stamp_of(path_) == stamp_))
        return;
    if (unwritten_.empty()) {
        (void)read();
        return;
    }
    const auto lock = state_lock::take(directory_, milliseconds(0));
    if (!lock)
        return complain(lock.error());       // kept in memory, tried again
    if (stamp_of(path_) != stamp_ && read()) // theirs, and then what we have not written yet
        for (const auto& [peer, call] : unwritten_)
            apply(peer, call);
    if (broken_)
        return; // a person's to mend: it is not overwritten
    if (const auto written = write_state(path_, format_profiles(all_), false); !written)
        return complain(written.error());
    unwritten_.clear();
    stamp_ = stamp_of(path_);
    error_.clear();
}

void history::add(const std::string& peer, const past_call& call) {
    refresh();
    apply(peer, call);
    if (directory_.empty())
        return;
    unwritten_.emplace_back(peer, call);
    if (unwritten_.size() > most_pairs)
        unwritten_.erase(unwritten_.begin());
    refresh();
}

tl::expected<std::size_t, std::string> history::forget(const std::string& peer) {
    const auto lock = state_lock::take(directory_, std::chrono::seconds(3));
    if (!lock)
        return tl::unexpected(lock.error());
    stamp_ = {};
    if (!read() && !peer.empty())
        return tl::unexpected(error_);
    const auto before = all_.size();
    if (peer.empty())
        all_.clear();
    else
        all_.erase(peer);
    if (const auto written = write_state(path_, format_profiles(all_), true); !written)
        return tl::unexpected(written.error());
    stamp_ = stamp_of(path_);
    broken_ = false;
    return before - all_.size();
}

std::optional<history::advice> history::advise(const std::vector<std::string>& peers, time_point now) const {
    for (const auto& peer : peers) {
        const auto found = all_.find(peer);
        if (found == all_.end())
            continue;
        const auto known = protocol::summarize(found->second, now, rules_.age);
        const auto length = expected_length(known, rules_);
        if (!length)
            return advice{{}, fmt::format("{} calls with {}: too few to tell", known.calls, peer)};
        return advice{level_for(*length, rules_),
                      fmt::format("{} calls with {}, {} {} s", known.calls, peer, name_of(rules_.of),
                                  duration_cast<std::chrono::seconds>(*length).count())};
    }
    return std::nullopt;
}

} // namespace tandem::agent
