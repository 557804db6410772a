// SPDX-License-Identifier: Apache-2.0
// The command line of level, policy and record.
#include "tools/tandemctl/arguments.hpp"

namespace tandem::ctl {
namespace {

// Those that are given.
json given(std::initializer_list<std::pair<const char*, const std::string*>> values) {
    json out = json::object();
    for (const auto& [key, value] : values)
        if (!value->empty())
            out[key] = *value;
    return out;
}

void policy_changes(CLI::App& policy, arguments& a) {
    auto* set = policy.add_subcommand("set", "gives an address a level, from the next call on");
    set->add_option("ADDRESS", a.id,
                    "+4670 (a number or the beginning of numbers), sip:alice@example.com, @example.com or alice")
        ->required();
    set->add_option("LEVEL", a.level, "see `tandemctl level list`; deny: there is no such call")->required();
    set->add_option("--keygen", a.keygen, "who makes the keys")->check(CLI::IsMember({"gateway", "device", "both"}));
    set->add_option("--path", a.path, "the device's radio")->check(CLI::IsMember({"wlan", "wwan", "either"}));
    set->add_option("--comment", a.comment,
                    "for people; with deny the reason, which whoever asks for the call is told");
    set->callback([&a] {
        a.chosen = [&a] {
            return show(a.common, "policy set",
                        given({{"address", &a.id},
                               {"level", &a.level},
                               {"keygen", &a.keygen},
                               {"path", &a.path},
                               {"comment", &a.comment}}));
        };
    });
    auto* unset = policy.add_subcommand("unset", "removes an address's row");
    unset->add_option("ADDRESS", a.id, "as in `policy list`")->required();
    unset->callback([&a] { a.chosen = [&a] { return show(a.common, "policy unset", {{"address", a.id}}); }; });
    auto* import = policy.add_subcommand("import", "sets the rows of a CSV file: all, or none where one is wrong");
    import->add_option("FILE", a.file, "address,level,keygen,path,comment; the header line is needed")->required();
    import->callback([&a] { a.chosen = [&a] { return policy_import(a.common, a.file);
};
} // namespace
);
auto* forget = policy.add_subcommand("forget", "forgets a pair's call profile");
forget->add_option("A", a.caller, "one party");
forget->add_option("B", a.callee, "the other");
forget->add_flag("--all", a.all, "all profiles");
forget->callback([&a] {
    a.chosen = [&a]() -> result<void> {
        if (a.all != a.callee.empty() || a.all != a.caller.empty())
            return tl::unexpected(error{failure::usage, "name both parties, or give --all"});
        return show(a.common, "policy forget", a.all ? json{{"all", true}} : json{{"a", a.caller}, {"b", a.callee}});
    };
});
} // namespace tandem::ctl

void policy_questions(CLI::App& policy, arguments& a) {
    auto* list = policy.add_subcommand("list", "rules in the order of their addresses");
    list->add_option("PREFIX", a.prefix, "only addresses that begin so");
    list->add_option("--limit", a.limit, "at most so many (100)");
    list->callback([&a] {
        a.chosen = [&a] {
            auto what = given({{"prefix", &a.prefix}});
            if (a.limit != 0)
                what["limit"] = a.limit;
            return show(a.common, "policy list", what);
        };
    });
    auto* one = policy.add_subcommand("show", "one address's row");
    one->add_option("ADDRESS", a.id, "as in `policy list`")->required();
    one->callback([&a] { a.chosen = [&a] { return show(a.common, "policy show", {{"address", a.id}}); }; });
    auto* out = policy.add_subcommand("export", "all rows as CSV");
    out->add_option("FILE", a.file, "stdout where none is named");
    out->callback([&a] { a.chosen = [&a] { return policy_export(a.common, a.file.empty() ? "-" : a.file); }; });
    auto* explain = watchable(
        policy.add_subcommand("explain", "every rule for a call of these two: what it says, which decides"), a);
    explain->add_option("A", a.caller, "the caller: id code, number or sip:alice@example.com")->required();
    explain->add_option("B", a.callee, "the callee")->required();
    explain->add_option("--wish", a.wish, "a level that the caller asks for");
    explain->add_option("--dialled", a.dialled, "what the caller dials, with its prefix");
    explain->callback([&a] {
        a.chosen = [&a] {
            return show(
                a.common, "policy explain",
                given({{"caller", &a.caller}, {"callee", &a.callee}, {"wish", &a.wish}, {"dialled", &a.dialled}}));
        };
    });
    auto* log =
        watchable(policy.add_subcommand("log", "who changed which row when; also changes by other programs"), a);
    log->add_option("--limit", a.limit, "the newest so many (100)");
    log->callback([&a] {
        a.chosen = [&a] {
            return show(a.common, "policy log", a.limit == 0 ? json::object() : json{{"limit", a.limit}});
        };
    });
    auto* watch = policy.add_subcommand("watch", "changes as they come, until interrupted");
    watch->add_option("--count", a.common.rounds, "end after so many");
    watch->callback([&a] { a.chosen = [&a] { return policy_watch(a.common); }; });
    auto* profile = watchable(policy.add_subcommand("profile", "what is known of the calls between two"), a);
    profile->add_option("A", a.caller, "one party")->required();
    profile->add_option("B", a.callee, "the other")->required();
    profile->callback([&a] {
        a.chosen = [&a] { return show(a.common, "policy profile", {{"a", a.caller}, {"b", a.callee}}); };
    });
}

} // namespace

void level_verbs(CLI::App& app, arguments& a) {
    auto* level = app.add_subcommand("level", "security levels: suite, seed, interval")->require_subcommand(1);
    level->add_subcommand("list", "the levels in force, weakest first")->callback([&a] {
        a.chosen = [&a] { return show(a.common, "level list", json::object()); };
    });
    level->add_subcommand("reload", "reads the levels' file again; new calls take what it says")->callback([&a] {
        a.chosen = [&a] { return show(a.common, "level reload", json::object()); };
    });
    auto* check = level->add_subcommand("check", "what `reload` would say of a file");
    check->add_option("FILE", a.file, "a levels.toml")->required();
    check->callback([&a] { a.chosen = [&a] { return level_check(a.common, a.file); }; });
    auto* set = level->add_subcommand("set", "writes values into the levels' file and reloads it");
    set->add_option("NAME", a.name, "the level")->required();
    set->add_option("KEY=VALUE", a.assignments, "such as rekey_s=5 seed_bytes=32")->required();
    set->callback([&a] { a.chosen = [&a] { return level_set(a.common, a.name, a.assignments); }; });
}

void policy_verbs(CLI::App& app, arguments& a) {
    auto* policy = app.add_subcommand("policy", "which address gets which level, and why")->require_subcommand(1);
    policy_changes(*policy, a);
    policy_questions(*policy, a);
}

void record_verbs(CLI::App& app, arguments& a) {
    auto* record = app.add_subcommand("record", "records of ended calls")->require_subcommand(1);
    auto& o = a.record;
    const auto filters = [&o](CLI::App* of) {
        of->add_option("--since", o.since, "ended at or after, UTC: 2026-11-21 or 2026-11-21T18:00:00");
        of->add_option("--until", o.until, "ended at or before");
        of->add_option("--party", o.party, "of this caller or callee");
        of->add_option("--call-id", o.call_id, "of this call");
        of->add_option("--limit", o.limit, "at most so many");
        of->add_flag("--csv", o.csv, "as CSV");
    };
    auto* list = record->add_subcommand("list", "newest first, 100 of them");
    filters(list);
    list->callback([&a] { a.chosen = [&a] { return record_list(a.common, a.record); }; });
    auto* one = record->add_subcommand("show", "one record with its media and why it had its level");
    one->add_option("ID", o.id, "as in `record list`")->required();
    one->callback([&a] { a.chosen = [&a] { return show(a.common, "record show", {{"id", a.record.id}}); }; });
    auto* out = record->add_subcommand("export", "all of them, newest first: --csv or --json");
    filters(out);
    out->add_option("FILE", o.file, "stdout where none is named");
    out->callback([&a] {
        a.chosen = [&a]() -> result<void> {
            if (a.record.csv == a.common.as_json)
                return tl::unexpected(error{failure::usage, "say what to write: --csv or --json"});
            if (a.record.file.empty())
                a.record.file = "-";
            return record_export(a.common, a.record);
        };
    });
}

} // namespace tandem::ctl
