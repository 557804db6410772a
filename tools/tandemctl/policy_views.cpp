// SPDX-License-Identifier: Apache-2.0
// How levels, rules, explanations, profiles, records and alarms look to a person.
#include <fmt/core.h>

#include "tools/tandemctl/display.hpp"
#include "tools/tandemctl/policy_commands.hpp"

namespace tandem::ctl {
namespace {

using columns = std::vector<column>;

const columns known_level_columns{{"LEVEL", "name"},
                                  {"SUITE", "suite"},
                                  {"TAG b", "tag_bits", form::number},
                                  {"SEED B", "seed_bytes", form::number},
                                  {"REKEY s", "rekey_s", form::number},
                                  {"OVERLAP s", "overlap_s", form::number},
                                  {"KEYS BY", "keygen"},
                                  {"PATH", "path"},
                                  {"DEFAULT", "default", form::yes_no}};
const columns level_fields{{"default", "default"}, {"floor", "floor"}, {"ceiling", "ceiling"}, {"file", "file"}};
const columns prefix_columns{{"DIALLED PREFIX", "prefix"}, {"LEVEL", "level"}};
const columns rule_columns{
    {"ADDRESS", "address"}, {"LEVEL", "level"}, {"KEYS BY", "keygen"}, {"PATH", "path"}, {"COMMENT", "comment"}};
const columns rule_fields{
    {"address", "address"}, {"level", "level"}, {"keys by", "keygen"}, {"path", "path"}, {"comment", "comment"}};
const columns step_columns{
    {"RULE", "rule"}, {"SAID", "level"}, {"DECIDED", "decided", form::yes_no}, {"BECAUSE", "text"}};
const columns explain_fields{{"level", "level"},
                             {"decided by", "decided_by"},
                             {"suite", "values/suite"},
                             {"seed, bytes", "values/seed_bytes"},
                             {"re-key every, s", "values/rekey_s"},
                             {"keys by", "values/keygen"},
                             {"path", "values/path"}};
const columns denied_fields{{"level", "level"}, {"decided by", "decided_by"}, {"told", "denied"}};
const columns change_columns{{"NO", "number", form::number},
                             {"WHEN", "when"},
                             {"WHO", "who"},
                             {"ADDRESS", "address"},
                             {"REMOVED", "removed", form::yes_no},
                             {"LEVEL", "level"},
                             {"KEYS BY", "keygen"},
                             {"PATH", "path"},
                             {"COMMENT", "comment"}};
const columns profile_fields{{"between", "a"},
                             {"and", "b"},
                             {"calls that count", "calls"},
                             {"  failed", "failures"},
                             {"  mean", "mean_s", form::duration},
                             {"  median", "median_s", form::duration},
                             {"  last", "last_s", form::duration},
                             {"calls ever", "total"}};
const columns past_columns{
    {"ENDED", "ended"}, {"LASTED", "duration_s", form::duration}, {"FAILED", "failed", form::yes_no}};
const columns record_columns{{"ID", "id"},
                             {"ENDED", "ended", form::time},
                             {"CALLER", "caller"},
                             {"CALLEE", "callee"},
                             {"LASTED", "seconds", form::duration},
                             {"LEVEL", "level"},
                             {"DECIDED BY", "decided_by"},
                             {"REKEYS", "media/0/rekeys", form::number},
                             {"CLOCK", "clock"},
                             {"CAUSE", "cause"}};
const columns record_fields{{"record", "id"},
                            {"gateway", "instance"},
                            {"call-id", "call_id"},
                            {"caller", "caller"},
                            {"callee", "callee"},
                            {"started", "started", form::time},
                            {"answered", "answered", form::time},
                            {"ended", "ended", form::time},
                            {"lasted", "seconds", form::duration},
                            {"level", "level"},
                            {"decided by", "decided_by"},
                            {"cause", "cause"},
                            {"clock", "clock"}};
const columns recorded_media_columns{
    {"MEDIA", "kind"},         {"SEED B", "seed_bytes", form::number}, {"REKEY s", "interval_s", form::number},
    {"KEYS BY", "key_source"}, {"REKEYS", "rekeys", form::number},     {"CAUSE", "cause"}};
const columns side_columns{{"LEG", "kind"},
                           {"UNIT", "unit"},
                           {"SUITE", "suite"},
                           {"RX", "packets", form::number},
                           {"BYTES", "bytes", form::bytes},
                           {"LOST", "lost", form::number},
                           {"AUTH FAIL", "auth_failures", form::number},
                           {"REPORTS", "reports", form::number},
                           {"LOST THERE", "reported_lost", form::number},
                           {"JITTER ms", "jitter_ms", form::number},
                           {"MOST", "max_jitter_ms", form::number}};
const columns alarm_columns{{"ALARM", "name"}, {"SINCE", "since"}, {"WHAT", "text"}};

json rows_of(const json& r, const char* key) {
    return r.value(key, json::array());
}

std::string levels(const json& r) {
    return table(rows_of(r, "levels"), known_level_columns, "no levels") + "\n" +
           table(rows_of(r, "prefixes"), prefix_columns, "no dial prefixes") + "\n" + fields(r, level_fields);
}

std::string record(const json& r) {
    auto out =
        fields(r, record_fields) + "\n" + table(rows_of(r, "why"), step_columns, "no rule was asked: no unit's leg");
    for (const auto& media : rows_of(r, "media"))
        out += "\n" + table(json::array({media}), recorded_media_columns, "") +
               table(rows_of(media, "legs"), side_columns, "no legs");
    return out;
}

} // namespace

const std::map<std::string, view, std::less<>>& policy_views() {
    static const std::map<std::string, view, std::less<>> known{
        {"level list", levels},
        {"level reload", levels},
        {"level set", levels},
        {"level check", levels},
        {"policy list",
         [](const json& r) {
             const auto rows = rows_of(r, "rules");
             return table(rows, rule_columns, "no rules; `tandemctl policy set ADDRESS LEVEL` makes one") +
                    (rows.size() < r.value("total", rows.size())
                         ? fmt::format("{} of {} rules\n", rows.size(), r.value("total", 0U))
                         : std::string());
         }},
        {"policy show", [](const json& r) { return fields(r, rule_fields); }},
        {"policy set",
         [](const json& r) {
             return fmt::format("{} has level {} from the next call on\n", cell(r.value("address", json()), form::text),
                                cell(r.value("level", json()), form::text));
         }},
        {"policy unset",
         [](const json& r) {
             return fmt::format("{} has no row of its own any more\n", cell(r.value("address", json()), form::text));
         }},
        {"policy import",
         [](const json& r) {
             return fmt::format("{} rules imported, {} are there now\n", r.value("imported", 0U), r.value("total", 0U));
         }},
        {"policy explain",
         [](const json& r) {
             return fields(r, r.contains("denied") ? denied_fields : explain_fields) + "\n" +
                    table(rows_of(r, "why"), step_columns, "-");
         }},
        {"policy log", [](const json& r) { return table(rows_of(r, "changes"), change_columns, "no changes yet"); }},
        {"policy profile",
         [](const json& r) {
             return fields(r, profile_fields) + "\n" + table(rows_of(r, "last_calls"), past_columns, "no calls");
         }},
        {"policy forget",
         [](const json& r) { return fmt::format("{} call profiles forgotten\n", r.value("forgotten", 0U)); }},
        {"record list",
         [](const json& r) {
             const auto waiting = r.value("waiting", 0U);
             return table(rows_of(r, "records"), record_columns, "no records") +
                    (waiting > 0 ? fmt::format("{} records wait for the shared store\n", waiting) : std::string()) +
                    (r.contains("note") ? r["note"].get<std::string>() + "\n" : std::string());
         }},
        {"record show", record},
        {"clock accept",
         [](const json& r) {
             return r.value("was_doubted", false) ? "the clock is trusted from now on\n"
                                                  : "the clock was trusted already\n";
         }},
        {"alarm list", [](const json& r) { return table(rows_of(r, "alarms"), alarm_columns, "no alarms"); }},
    };
    return known;
}

} // namespace tandem::ctl
