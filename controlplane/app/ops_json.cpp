// SPDX-License-Identifier: Apache-2.0
// Sessions, media, levels, rules and records as the ops socket shows them. Keys are stable: README.md. Pure.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include "controlplane/app/verb_tools.hpp"
#include "controlplane/policy/config_file.hpp"
#include "controlplane/store/record_text.hpp"

namespace tandem::control {

using nlohmann::json;

std::string time_text(std::chrono::system_clock::time_point when) {
    return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::chrono::system_clock::to_time_t(when)));
}

std::string exact_time_text(std::chrono::system_clock::time_point when) {
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(when.time_since_epoch()).count();
    const auto second = std::chrono::system_clock::to_time_t(std::chrono::floor<std::chrono::seconds>(when));
    return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(second), (ms % 1000 + 1000) % 1000);
}

std::string tsid_text(session::tsid id) {
    return fmt::format("{:016x}", id);
}

std::string to_text(const media::endpoint& where) {
    return where.address.is_v6() ? fmt::format("[{}]:{}", where.address.to_string(), where.port)
                                 : fmt::format("{}:{}", where.address.to_string(), where.port);
}

json streams_json(const session::streams_info& s) {
    return {{"links", s.links},
            {"streams", s.streams},
            {"begun", s.begun},
            {"to_unit_bytes", s.to_unit},
            {"from_unit_bytes", s.from_unit},
            {"handovers", s.handovers},
            {"sent_again_bytes", s.octets_again},
            {"last_handover", s.last_handover},
            {"compressed",
             {{"begun", s.compressed.begun},
              {"contexts", s.compressed.contexts},
              {"context_bytes", s.compressed.context_octets},
              {"plain_bytes", s.compressed.plain},
              {"link_bytes", s.compressed.on_link}}}};
}

json to_json(const session::session_info& session) {
    json inner = json::array();
    for (const auto& address : session.inner)
        inner.push_back(address.to_string());
    const auto age = std::chrono::duration<double>(protocol::between(session.since, protocol::moment::now())).count();
    return {{"tsid", tsid_text(session.id)},
            {"unit", session.unit},
            {"up", session.up},
            {"inner", inner},
            {"inner_gateway", session.inner_gateway.to_string()},
            {"inner_gateway_v6", session.inner_gateway_v6 ? json(session.inner_gateway_v6->to_string()) : json()},
            {"outer", session.outer.to_string()},
            {"outer_port", session.outer_port},
            {"transport", session.transport},
            {"cipher", session.cipher},
            {"lifetime_s", session.lifetime.count()},
            {"since", time_text(session.since.wall)},
            {"age_s", age},
            {"rx_bytes", session.rx_bytes},
            {"tx_bytes", session.tx_bytes},
            {"rx_packets", session.rx_packets},
            {"tx_packets", session.tx_packets},
            {"reconnects", session.reconnects},
            {"streams", session.streams ? streams_json(*session.streams) : json()}};
}

json to_json(const media::media_info& media) {
    json legs = json::array();
    for (const auto& leg : media.legs)
        legs.push_back({{"kind", leg.kind == media::leg_kind::unit ? "unit" : "core"},
                        {"unit", leg.unit},
                        {"local_rtp", to_text(leg.local.rtp)},
                        {"local_rtcp", to_text(leg.local.rtcp)},
                        {"outer_rtp", to_text(leg.outer.rtp)},
                        {"outer_rtcp", to_text(leg.outer.rtcp)},
                        {"remote", leg.remote ? json(to_text(*leg.remote)) : json()},
                        {"source_rule", leg.source_rule.empty() ? json() : json(leg.source_rule)},
                        {"source_seconds", leg.source_seconds < 0 ? json() : json(leg.source_seconds)},
                        {"learning", leg.learning.empty() ? json() : json(leg.learning)},
                        {"suite", leg.suite},
                        {"epoch", leg.epoch},
                        {"key_source", leg.keys ? json(policy::name_of(*leg.keys)) : json()},
                        {"received",
                         {{"packets", leg.received.packets},
                          {"bytes", leg.received.bytes},
                          {"lost", leg.received.lost},
                          {"auth_failures", leg.received.auth_failures},
                          {"replays", leg.received.replays},
                          {"drops", leg.received.drops},
                          {"wrong_source", leg.received.wrong_source},
                          {"sent_on", leg.received.sent_on},
                          {"reports", leg.received.reports},
                          {"reported_lost", leg.received.reported_lost},
                          {"jitter_ms", leg.received.jitter_ms},
                          {"max_jitter_ms", leg.received.max_jitter_ms},
                          {"seconds_since_packet", leg.received.seconds_since_packet}}}});
    return {{"id", media.id},
            {"call_id", media.call_id},
            {"index", media.index},
            {"kind", media.kind},
            {"caller", media.caller},
            {"callee", media.callee},
            {"level", media.level.name},
            {"decided_by", media.decided_by},
            {"why", why_json(media.why)},
            {"seed_bytes", media.level.seed_length()},
            {"key_source", policy::name_of(media.level.keys)},
            {"path", policy::name_of(media.level.path)},
            {"mode", media.mode},
            {"active", media.active},
            {"seconds", media.seconds},
            {"interval_s", media.interval_s()},
            {"rekeys", media.rekeys},
            {"rekey_failures", media.rekey_failures},
            {"seeds_made", media.seeds_made},
            {"seeds_from_units", media.seeds_from_units},
            {"legs", legs}};
}

json to_json(const policy::level& level, const std::string& default_level) {
    return {{"name", level.name},
            {"suite", api::info(level.suite).name},
            {"seed_bytes", level.seed_length()},
            {"rekey_s", std::chrono::duration<double>(level.rekey).count()},
            {"overlap_s", std::chrono::duration<double>(level.overlap).count()},
            {"tag_bits", api::info(level.suite).rtp_tag_length * 8},
            {"seed_is_key", level.seed_is_key},
            {"keygen", policy::name_of(level.keys)},
            {"path", policy::name_of(level.path)},
            {"default", level.name == default_level}};
}

json why_json(const std::vector<policy::step>& steps) {
    json out = json::array();
    for (const auto& step : steps)
        out.push_back({{"rule", step.rule}, {"level", step.level}, {"text", step.text}, {"decided", step.decided}});
    return out;
}

json to_json(const policy::rule& rule) {
    return {{"address", rule.address},
            {"level", rule.level},
            {"keygen", rule.keys ? json(policy::name_of(*rule.keys)) : json()},
            {"path", rule.path ? json(policy::name_of(*rule.path)) : json()},
            {"comment", rule.comment}};
}

json record_json(const store::call_record& record) {
    auto out = json::parse(store::to_json(record));
    out["seconds"] = std::chrono::duration<double>(record.duration()).count();
    const auto set = std::chrono::duration<double>(record.clock_set).count();
    out["clock"] = set == 0 ? "" : fmt::format("set by {:+.0f} s meanwhile", set);
    return out;
}

json alarms_json(const alarm_board& board) {
    json out = json::array();
    for (const auto& [name, alarm] : board.standing())
        out.push_back({{"name", name}, {"since", exact_time_text(alarm.since)}, {"text", alarm.text}});
    return out;
}

} // namespace tandem::control
