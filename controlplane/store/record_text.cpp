// SPDX-License-Identifier: Apache-2.0
// Call records as JSON and CSV (record_text.hpp). Pure.
#include "controlplane/store/record_text.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/random.h>

#include "controlplane/policy/rule.hpp"
#include "controlplane/protocol/address_name.hpp"
#include "controlplane/store/json_out.hpp"
#include "controlplane/store/rows.hpp"

namespace tandem::store {

namespace {

using nlohmann::json;

// --- CSV ---

constexpr std::array columns{"id",
                             "instance",
                             "call_id",
                             "caller",
                             "callee",
                             "started",
                             "answered",
                             "ended",
                             "seconds",
                             "level",
                             "decided_by",
                             "suite",
                             "seed_bytes",
                             "interval_s",
                             "key_source",
                             "rekeys",
                             "media",
                             "caller_packets",
                             "caller_bytes",
                             "caller_lost",
                             "caller_jitter_ms",
                             "caller_max_jitter_ms",
                             "callee_packets",
                             "callee_bytes",
                             "callee_lost",
                             "callee_jitter_ms",
                             "callee_max_jitter_ms",
                             "cause",
                             "clock_set_s"};

std::string utc(std::chrono::system_clock::time_point when) {
    const auto ms = in_ms(when);
    if (ms <= 0)
        return {};
    return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(static_cast<std::time_t>(ms / 1000)), ms % 1000);
}

std::string cell(std::string_view content) {
    if (content.find_first_of(",\"\r\n") == std::string_view::npos)
        return std::string(content);
    std::string text = "\"";
    for (const char c : content) {
        if (c == '"')
            text += '"';
        text += c;
    }
    return text + '"';
}

struct direction {
    std::uint64_t packets = 0, bytes = 0, lost = 0;
    double jitter = 0, worst = 0;
};

direction sum_of(const call_record& record, std::size_t leg) {
    direction all;
    for (const auto& media : record.media) {
        const auto& one = media.legs[leg];
        all.packets += one.packets;
        all.bytes += one.bytes;
        all.lost += one.lost;
        all.jitter = std::max(all.jitter, one.jitter_ms);
        all.worst = std::max(all.worst, one.max_jitter_ms);
    }
    return all;
}

const std::string& suite_of(const media::media_record& media) {
    return media.legs[0].kind == "unit" || media.legs[1].kind != "unit" ? media.legs[0].suite : media.legs[1].suite;
}

// --- profile ---

// The text that this file writes, without building a tree: it is read once a call. False: perhaps written by others.
bool read_plain(std::string_view text, protocol::profile& into) {
    const char* at = text.data();
    const char* const end = at + text.size();
    const auto word = [&](std::string_view expected) {
        if (static_cast<std::size_t>(end - at) < expected.size() || std::string_view(at, expected.size()) != expected)
            return false;
        at += expected.size();
        return true;
    };
    const auto number = [&](auto& value) {
        const auto [next, fault] = std::from_chars(at, end, value);
        at = next;
        return fault == std::errc();
    };
    if (!word("{\"total\":") || !number(into.total) || !word(",\"calls\":["))
        return false;
    std::int64_t ended = 0, duration = 0;
    int failed = 0;
    while (word("[")) {
        if (!number(ended) || !word(",") || !number(duration) || !word(",") || !number(failed) || !word("]"))
            return false;
        into.calls.push_back({from_ms(ended), std::chrono::milliseconds(duration), failed != 0});
        (void)word(",");
    }
    return word("]}") && at == end;
}

bool is_failed(const json& value) {
    return value.is_boolean() ? value.get<bool>() : value.get<int>() != 0;
}

std::string canonical(const std::string& name) {
    const auto known = protocol::parse_address_name(name);
    return known ? known->text : std::string();
}

} // namespace

std::string to_json(const call_record& record) {
    json_out to;
    to.open('{').field("id", record.id).field("instance", record.instance).field("call_id", record.call_id);
    to.field("caller", record.caller).field("callee", record.callee).field("started", in_ms(record.started));
    to.field("answered", in_ms(record.answered)).field("ended", in_ms(record.ended));
    to.field("duration_ms", record.duration().count()).field("clock_set_ms", record.clock_set.count());
    to.field("level", record.level);
    to.field("decided_by", record.decided_by).field("cause", record.cause).key("why");
    write(to, record.why);
    to.key("media").open('[');
    for (const auto& media : record.media) // most have the call's own reason
        write(to, media,
              media.decided_by != record.decided_by || media.why != record.why ? content::public_with_reason
                                                                               : content::public_without_reason);
    to.close(']').close('}');
    return to.take();
}

std::optional<call_record> call_record_from_json(std::string_view text) {
    try {
        const auto value = json::parse(text);
        call_record record;
        record.id = value.at("id");
        record.instance = value.at("instance");
        record.call_id = value.at("call_id");
        record.caller = value.at("caller");
        record.callee = value.at("callee");
        record.started = from_ms(value.at("started"));
        record.answered = from_ms(value.at("answered"));
        record.ended = from_ms(value.at("ended"));
        record.clock_set = std::chrono::milliseconds(value.value("clock_set_ms", std::int64_t{0}));
        record.level = value.at("level");
        record.decided_by = value.at("decided_by");
        record.cause = value.at("cause");
        record.why = why_from(value.at("why"));
        for (const auto& media : value.at("media")) {
            auto& one = record.media.emplace_back(media_record_from(media));
            if (!media.contains("why")) {
                one.decided_by = record.decided_by;
                one.why = record.why;
            }
        }
        return record;
    } catch (const std::exception&) {
        return std::nullopt;
    }
}

std::string csv_header() {
    return fmt::format("{}", fmt::join(columns, ","));
}

std::string csv_row(const call_record& record) {
    const auto from_caller = sum_of(record, 0), from_callee = sum_of(record, 1);
    const auto* first = record.media.empty() ? nullptr : &record.media.front();
    const bool keyed = first != nullptr && first->level.seed_length() != 0;
    std::uint64_t rekeys = 0;
    for (const auto& media : record.media)
        rekeys += media.rekeys;
    const auto head =
        fmt::format("{},{},{},{},{},{},{},{},{:.3f},{},{},{}", cell(record.id), cell(record.instance),
                    cell(record.call_id), cell(record.caller), cell(record.callee), utc(record.started),
                    utc(record.answered), utc(record.ended), static_cast<double>(record.duration().count()) / 1000.0,
                    cell(record.level), cell(record.decided_by), cell(first != nullptr ? suite_of(*first) : ""));
    const auto keys =
        keyed ? fmt::format("{},{:g},{}", first->level.seed_length(), first->interval_s(), name_of(first->level.keys))
              : std::string(",,");
    const auto side = [](const direction& d) {
        return fmt::format("{},{},{},{:.2f},{:.2f}", d.packets, d.bytes, d.lost, d.jitter, d.worst);
    };
    return fmt::format("{},{},{},{},{},{},{},{:.3f}", head, keys, rekeys, record.media.size(), side(from_caller),
                       side(from_callee), cell(record.cause), static_cast<double>(record.clock_set.count()) / 1000.0);
}

std::optional<std::pair<std::string, std::string>> pair_of(const call_record& record) {
    const auto caller = canonical(record.caller), callee = canonical(record.callee);
    if (caller.empty() || callee.empty() || record.level == policy::deny) // one that was denied is no call of theirs
        return std::nullopt;
    return protocol::pair_of(caller, callee);
}

protocol::past_call past_call_of(const call_record& record) {
    // What media/ and callcontrol/ say where nobody hung up.
    static constexpr std::array faults{"media timeout", "session of unit", "its call is not known"};
    const bool fault =
        std::ranges::any_of(faults, [&](std::string_view text) { return record.cause.starts_with(text); });
    return {record.ended, record.duration(), fault || !record.was_answered()};
}

std::string dump(const nlohmann::json& value) {
    return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string to_json(const protocol::profile& profile) {
    json_out to;
    to.open('{').field("total", profile.total).key("calls").open('[');
    for (const auto& call : profile.calls)
        to.open('[').value(in_ms(call.ended)).value(call.duration.count()).value(call.failed ? 1 : 0).close(']');
    to.close(']').close('}');
    return to.take();
}

bool profile_from_json(std::string_view text, protocol::profile& into) {
    into.calls.clear();
    into.calls.reserve(protocol::profile::most_calls);
    if (read_plain(text, into))
        return true;
    into.calls.clear();
    into.total = 0;
    try {
        const auto value = json::parse(text);
        into.total = value.at("total");
        for (const auto& call : value.at("calls"))
            into.calls.push_back({from_ms(call.at(0)), std::chrono::milliseconds(call.at(1).get<std::int64_t>()),
                                  is_failed(call.at(2))});
        return true;
    } catch (const std::exception&) {
        into.calls.clear();
        into.total = 0;
        return false;
    }
}

std::string new_record_id() {
    std::array<std::uint8_t, 10> random{};
    for (std::size_t have = 0; have < random.size();)
        if (const auto got = ::getrandom(random.data() + have, random.size() - have, 0); got > 0)
            have += static_cast<std::size_t>(got);
    const auto now = static_cast<std::uint64_t>(in_ms(std::chrono::system_clock::now())) & 0xffffffffffff;
    return fmt::format("{:012x}{:02x}", now, fmt::join(random, ""));
}

} // namespace tandem::store
