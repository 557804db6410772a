// SPDX-License-Identifier: Apache-2.0
// SQL of rules and profiles. Many rows travel as one JSON parameter (json_to_recordset), so that a statement takes
// thousands of them; everything is read by COPY. Owner thread: the link's.
#include "controlplane/store/shared/rules.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "controlplane/protocol/address_name.hpp"
#include "controlplane/store/record_text.hpp"

namespace tandem::store {

using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::system_clock;

namespace {

constexpr std::size_t rows_a_statement = 20'000;

policy::rule rule_of(std::string address, std::string level, std::string_view keygen, std::string_view path,
                     std::string comment) {
    return {std::move(address), std::move(level), policy::key_source_of(keygen), policy::path_choice_of(path),
            std::move(comment)};
}

json row_of(const policy::rule& rule) {
    json row{{"address", clean_text(rule.address)},
             {"level", clean_text(rule.level)},
             {"comment", clean_text(rule.comment)}};
    if (rule.keys)
        row["keygen"] = name_of(*rule.keys);
    if (rule.path)
        row["path"] = name_of(*rule.path);
    return row;
}

protocol::profile profile_of(std::string a, std::string b, std::string_view body) {
    protocol::profile one;
    if (!profile_from_json(body, one))
        one = {};
    one.a = std::move(a);
    one.b = std::move(b);
    return one;
}

} // namespace

std::string clean_text(std::string_view text, std::size_t longest) {
    std::string kept(text.substr(0, longest));
    std::erase(kept, '\0');
    // nlohmann's writer replaces what is not UTF-8, its reader undoes the quoting
    return json::parse(dump(json(kept))).get<std::string>();
}

std::string name_key(std::string_view name) {
    auto known = protocol::parse_address_name(name);
    return known ? std::move(known->text) : clean_text(name);
}

std::string what_is_wrong(const std::vector<policy::rule_edit>& edits) {
    for (std::size_t i = 0; i < edits.size(); ++i) {
        const auto& row = edits[i].row;
        const auto name = protocol::parse_address_name(row.address);
        if (!name || name->text != row.address)
            return fmt::format("row {}: {}; nothing is changed", i + 1,
                               name ? row.address + " is not written as " + name->text : name.error());
        if (!edits[i].removed && row.level.empty())
            return fmt::format("row {}: {} has no level; nothing is changed", i + 1, row.address);
    }
    return {};
}

std::string identity_of(pg_link& link) {
    const auto found = link.run("SELECT value FROM tandem.fact WHERE name = 'identity'");
    return found.rows() == 0 ? std::string() : found.text(0, 0);
}

std::uint64_t last_rule_number(pg_link& link) {
    const auto found = link.run("SELECT value FROM tandem.counter WHERE name = 'rule'");
    return found.rows() == 0 ? 0 : static_cast<std::uint64_t>(found.number(0, 0));
}

everything load_all(pg_link& link, bool with_rules) {
    return in_transaction(link, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", [&] {
        everything all;
        all.identity = identity_of(link);
        if (with_rules) {
            all.number = last_rule_number(link);
            link.copy_out("COPY (SELECT address, level, coalesce(keygen, ''), coalesce(path, ''), comment FROM "
                          "tandem.rule) TO STDOUT",
                          [&](pg_link::copy_row& row) {
                              if (row.size() == 5)
                                  all.rules.push_back(
                                      rule_of(std::move(row[0]), std::move(row[1]), row[2], row[3], std::move(row[4])));
                          });
        }
        link.copy_out("COPY (SELECT a, b, body FROM tandem.profile) TO STDOUT", [&](pg_link::copy_row& row) {
            if (row.size() == 3)
                all.profiles.push_back(profile_of(std::move(row[0]), std::move(row[1]), row[2]));
        });
        return all;
    });
}

rule_news rules_since(pg_link& link, std::uint64_t number, std::size_t limit) {
    const auto found =
        link.run("SELECT number, removed, address, level, coalesce(keygen, ''), coalesce(path, ''), "
                 "comment FROM tandem.rule_log WHERE number > $1::bigint ORDER BY number LIMIT $2::bigint",
                 {std::to_string(number), std::to_string(limit)});
    rule_news news;
    news.number = number;
    for (int i = 0; i < found.rows(); ++i) {
        news.number = static_cast<std::uint64_t>(found.number(i, 0));
        news.edits.push_back(
            {rule_of(found.text(i, 2), found.text(i, 3), found.text(i, 4), found.text(i, 5), found.text(i, 6)),
             found.text(i, 1) == "t"});
    }
    return news;
}

std::vector<protocol::profile> profiles_of(pg_link& link,
                                           const std::vector<std::pair<std::string, std::string>>& pairs) {
    json wanted = json::array();
    for (const auto& [a, b] : pairs)
        wanted.push_back({{"a", a}, {"b", b}});
    const auto found = link.run("SELECT w.a, w.b, coalesce(p.body::text, '') FROM json_to_recordset($1::json) AS w(a "
                                "text, b text) LEFT JOIN tandem.profile p ON p.a = w.a AND p.b = w.b",
                                {dump(wanted)});
    std::vector<protocol::profile> profiles;
    for (int i = 0; i < found.rows(); ++i)
        profiles.push_back(profile_of(found.text(i, 0), found.text(i, 1), found.text(i, 2)));
    return profiles;
}

applied apply_rules(pg_link& link, const std::vector<policy::rule_edit>& edits, const std::string& who) {
    // Of several edits of one address the last stands: a statement may touch a row once.
    std::unordered_map<std::string_view, std::size_t> last;
    for (std::size_t i = 0; i < edits.size(); ++i)
        last[edits[i].row.address] = i;
    return in_transaction(link, "BEGIN", [&] {
        link.run("SELECT set_config('tandem.who', $1, true)", {clean_text(who)});
        // The log's lock first: two gateways that import never wait for each other crosswise.
        link.run("SELECT 1 FROM tandem.counter WHERE name = 'rule' FOR UPDATE");
        applied done;
        json set = json::array(), gone = json::array();
        const auto flush = [&](std::size_t least) {
            if (gone.size() >= least && !gone.empty()) {
                done.changed +=
                    link.run("DELETE FROM tandem.rule WHERE address IN (SELECT json_array_elements_text($1::json))",
                             {dump(gone)})
                        .affected();
                gone = json::array();
            }
            if (set.size() >= least && !set.empty()) {
                done.changed +=
                    link.run("INSERT INTO tandem.rule AS r (address, level, keygen, path, comment) SELECT e.address, "
                             "e.level, e.keygen, e.path, e.comment FROM json_to_recordset($1::json) AS e(address text, "
                             "level text, keygen text, path text, comment text) ON CONFLICT (address) DO UPDATE SET "
                             "level = excluded.level, keygen = excluded.keygen, path = excluded.path, comment = "
                             "excluded.comment WHERE (r.level, r.keygen, r.path, r.comment) IS DISTINCT FROM "
                             "(excluded.level, excluded.keygen, excluded.path, excluded.comment)",
                             {dump(set)})
                        .affected();
                set = json::array();
            }
        };
        for (std::size_t i = 0; i < edits.size(); ++i) {
            if (last[edits[i].row.address] != i)
                continue;
            if (edits[i].removed)
                gone.push_back(clean_text(edits[i].row.address));
            else
                set.push_back(row_of(edits[i].row));
            flush(rows_a_statement);
        }
        flush(0);
        done.number = last_rule_number(link);
        return done;
    });
}

std::vector<policy::rule_change> rule_history(pg_link& link, std::size_t limit) {
    const auto found = link.run(
        "SELECT number, (extract(epoch FROM at) * 1000)::bigint, who, removed, address, level, coalesce(keygen, ''), "
        "coalesce(path, ''), comment FROM tandem.rule_log ORDER BY number DESC LIMIT $1::bigint",
        {std::to_string(std::min<std::size_t>(limit, 1'000'000))});
    std::vector<policy::rule_change> changes;
    for (int i = found.rows() - 1; i >= 0; --i)
        changes.push_back(
            {static_cast<std::uint64_t>(found.number(i, 0)),
             system_clock::time_point(milliseconds(found.number(i, 1))),
             found.text(i, 2),
             {rule_of(found.text(i, 4), found.text(i, 5), found.text(i, 6), found.text(i, 7), found.text(i, 8)),
              found.text(i, 3) == "t"}});
    return changes;
}

std::size_t forget_profiles(pg_link& link, const std::string& a, const std::string& b) {
    if (a.empty() && b.empty())
        return link.run("DELETE FROM tandem.profile").affected();
    if (a.empty() || b.empty()) { // all of one
        const auto& one = clean_text(a.empty() ? b : a);
        return link.run("DELETE FROM tandem.profile WHERE a = $1 OR b = $1", {one}).affected();
    }
    const auto pair = protocol::pair_of(clean_text(a), clean_text(b));
    return link.run("DELETE FROM tandem.profile WHERE a = $1 AND b = $2", {pair.first, pair.second}).affected();
}

} // namespace tandem::store
