// SPDX-License-Identifier: Apache-2.0
// SQL of call records. A record's id is unique over all gateways, so shipping it again does nothing: whatever dies
// between COMMIT and the local mark, it is there once. Owner thread: the link's.
#include "controlplane/store/shared/records.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "controlplane/store/record_text.hpp"
#include "controlplane/store/shared/rules.hpp"

namespace tandem::store {

using nlohmann::json;
using std::chrono::duration_cast;
using std::chrono::milliseconds;
using std::chrono::system_clock;

namespace {

using pair = std::pair<std::string, std::string>;

std::string ms_text(system_clock::time_point when) {
    return std::to_string(duration_cast<milliseconds>(when.time_since_epoch()).count());
}

// JSON may spell a zero byte, PostgreSQL's text may not hold one.
std::string without_zeroes(std::string text) {
    if (text.find("\\u0000") == std::string::npos)
        return text;
    std::string kept;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\\' && text.compare(i, 6, "\\u0000") == 0) {
            i += 5;
            continue;
        }
        kept += text[i];
        if (text[i] == '\\' && i + 1 < text.size())
            kept += text[++i];
    }
    return kept;
}

std::vector<std::string> insert_new(pg_link& link, const std::vector<call_record>& records) {
    std::string rows = "["; // bodies are JSON text already
    for (const auto& record : records) {
        if (rows.size() > 1)
            rows += ',';
        auto head = dump({{"id", clean_text(record.id)},
                          {"instance", clean_text(record.instance)},
                          {"call_id", clean_text(record.call_id)},
                          {"caller", name_key(record.caller)},
                          {"callee", name_key(record.callee)},
                          {"ended", ms_text(record.ended)}});
        head.pop_back();
        rows += head + ",\"body\":" + without_zeroes(to_json(record)) + "}";
    }
    rows += ']';
    const auto found = link.run(
        "INSERT INTO tandem.call_record (id, instance, call_id, caller, callee, ended, body) SELECT id, instance, "
        "call_id, caller, callee, timestamptz 'epoch' + ended * interval '1 ms', body FROM json_to_recordset($1::json) "
        "AS r(id text, instance text, call_id text, caller text, callee text, ended bigint, body json) ON CONFLICT "
        "(id) DO NOTHING RETURNING id",
        {rows});
    std::vector<std::string> ids;
    for (int i = 0; i < found.rows(); ++i)
        ids.push_back(found.text(i, 0));
    return ids;
}

// The rows are locked in the order of their names, so that gateways never wait for each other crosswise.
void teach_profiles(pg_link& link, const std::map<pair, std::vector<protocol::past_call>>& lessons) {
    json pairs = json::array();
    for (const auto& [names, calls] : lessons)
        pairs.push_back({{"a", names.first}, {"b", names.second}});
    const auto wanted = dump(pairs);
    link.run("INSERT INTO tandem.profile (a, b, body) SELECT a, b, '{\"total\":0,\"calls\":[]}' FROM "
             "json_to_recordset($1::json) AS w(a text, b text) ORDER BY a COLLATE \"C\", b COLLATE \"C\" ON CONFLICT "
             "DO NOTHING",
             {wanted});
    const auto found = link.run("SELECT p.a, p.b, p.body FROM tandem.profile p JOIN json_to_recordset($1::json) AS w(a "
                                "text, b text) ON p.a = w.a AND p.b = w.b ORDER BY p.a, p.b FOR UPDATE OF p",
                                {wanted});
    std::string rows = "[";
    for (int i = 0; i < found.rows(); ++i) {
        protocol::profile profile;
        if (!profile_from_json(found.text(i, 2), profile))
            profile = {};
        const pair names{found.text(i, 0), found.text(i, 1)};
        const auto lesson = lessons.find(names);
        if (lesson == lessons.end())
            continue;
        for (const auto& call : lesson->second)
            profile.add(call);
        auto head = dump({{"a", names.first}, {"b", names.second}});
        head.pop_back();
        rows += (rows.size() > 1 ? "," : "") + head + ",\"body\":" + to_json(profile) + "}";
    }
    rows += ']';
    link.run("UPDATE tandem.profile p SET body = w.body FROM json_to_recordset($1::json) AS w(a text, b text, body "
             "json) WHERE p.a = w.a AND p.b = w.b",
             {rows});
}

call_record unreadable(const std::string& id) {
    throw pg_error(fmt::format("record {} in the shared store cannot be read by this program", id), "XX001");
}

} // namespace

std::size_t ship_records(pg_link& link, const std::vector<call_record>& records) {
    return in_transaction(link, "BEGIN", [&] {
        std::unordered_map<std::string, const call_record*> by_id;
        for (const auto& record : records)
            by_id[clean_text(record.id)] = &record;
        const auto fresh = insert_new(link, records);
        std::map<pair, std::vector<protocol::past_call>> lessons;
        for (const auto& id : fresh) {
            const auto& record = *by_id.at(id);
            if (auto names = pair_of(record))
                lessons[{clean_text(names->first), clean_text(names->second)}].push_back(past_call_of(record));
        }
        if (!lessons.empty())
            teach_profiles(link, lessons);
        return fresh.size();
    });
}

std::vector<call_record> find_records(pg_link& link, const record_query& what) {
    std::string sql = "SELECT id, body FROM tandem.call_record WHERE true";
    std::vector<std::string> values;
    const auto with = [&](fmt::format_string<int> condition, std::string value) {
        values.push_back(std::move(value));
        sql += fmt::format(condition, static_cast<int>(values.size()));
    };
    if (what.since)
        with(" AND ended >= timestamptz 'epoch' + ${}::bigint * interval '1 ms'", ms_text(*what.since));
    if (what.until)
        with(" AND ended <= timestamptz 'epoch' + ${}::bigint * interval '1 ms'", ms_text(*what.until));
    if (!what.party.empty())
        with(" AND ${0} IN (caller, callee)", name_key(what.party));
    if (!what.call_id.empty())
        with(" AND call_id = ${}", clean_text(what.call_id));
    with(" ORDER BY ended DESC, id DESC LIMIT ${}::bigint", std::to_string(what.limit));
    const auto found = link.run(sql.c_str(), values);
    std::vector<call_record> records;
    for (int i = 0; i < found.rows(); ++i)
        if (auto record = call_record_from_json(found.text(i, 1)))
            records.push_back(std::move(*record));
    return records;
}

std::optional<call_record> show_record(pg_link& link, const std::string& id) {
    const auto found = link.run("SELECT body FROM tandem.call_record WHERE id = $1", {clean_text(id)});
    if (found.rows() == 0)
        return std::nullopt;
    if (auto record = call_record_from_json(found.text(0, 0)))
        return record;
    return unreadable(id);
}

} // namespace tandem::store
