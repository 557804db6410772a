// SPDX-License-Identifier: Apache-2.0
// Verbs that read or write files, or ask more than once: levels, import and export, watch, records.
#include "tools/tandemctl/policy_commands.hpp"

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fmt/core.h>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include "tools/tandemctl/display.hpp"

namespace tandem::ctl {
namespace {

constexpr std::chrono::seconds patient{300}; // a million rules are taken in one transaction
constexpr std::chrono::milliseconds watch_interval{500};
constexpr unsigned page = 1000;

result<std::string> text_of(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    if (file)
        text << file.rdbuf();
    if (!file || text.fail())
        return tl::unexpected(
            error{failure::failed, fmt::format("{}: cannot be read: {}", path, std::strerror(errno))});
    return text.str();
}

// A file, or stdout ("-").
class sink {
public:
    [[nodiscard]] result<void> open(const std::string& path) {
        path_ = path;
        file_ = path == "-" ? stdout : std::fopen(path.c_str(), "we");
        return file_ != nullptr ? result<void>() : wrong();
    }
    void put(const std::string& text) { std::fwrite(text.data(), 1, text.size(), file_); }
    [[nodiscard]] result<void> close() {
        const bool bad = std::ferror(file_) != 0;
        if ((path_ == "-" ? std::fflush(file_) : std::fclose(file_)) != 0 || bad)
            return wrong();
        return {};
    }

private:
    [[nodiscard]] result<void> wrong() const {
        return tl::unexpected(
            error{failure::failed, fmt::format("{}: cannot be written: {}", path_, std::strerror(errno))});
    }
    std::string path_;
    std::FILE* file_ = nullptr;
};

json query_of(const record_options& o) {
    json out = json::object();
    for (const auto& [key, value] :
         {std::pair{"since", &o.since}, {"until", &o.until}, {"party", &o.party}, {"call_id", &o.call_id}})
        if (!value->empty())
            out[key] = *value;
    return out;
}

} // namespace

result<void> level_check(const settings& s, const std::string& file) {
    const auto text = text_of(file);
    if (!text)
        return tl::unexpected(text.error());
    return show(s, "level check", {{"text", *text}, {"file", file}});
}

result<void> level_set(const settings& s, const std::string& name, const std::vector<std::string>& assignments) {
    json values = json::object();
    for (const auto& one : assignments) {
        const auto equals = one.find('=');
        if (equals == std::string::npos || equals == 0 || equals + 1 == one.size())
            return tl::unexpected(
                error{failure::usage, fmt::format("\"{}\" is not KEY=VALUE, such as rekey_s=5", one)});
        values[one.substr(0, equals)] = one.substr(equals + 1);
    }
    return show(s, "level set", {{"name", name}, {"values", values}});
}

result<void> policy_import(const settings& s, const std::string& file) {
    const auto text = text_of(file);
    if (!text)
        return tl::unexpected(text.error());
    auto slow = s;
    slow.patience = patient;
    return show(slow, "policy import", {{"csv", *text}, {"file", file}});
}

result<void> policy_export(const settings& s, const std::string& file) {
    const ops_client gateway(s.run_dir, patient);
    sink out;
    std::string after;
    std::uint64_t rules = 0;
    for (bool first = true;; first = false) {
        const auto answer = gateway.request("policy export", {{"after", after}});
        if (!answer)
            return tl::unexpected(answer.error());
        if (first) {
            if (auto opened = out.open(file); !opened)
                return opened;
            out.put(answer->value("header", ""));
        }
        out.put(answer->value("csv", ""));
        rules += answer->value("rows", 0U);
        const auto next = answer->value("next", json());
        if (!next.is_string())
            break;
        after = next.get<std::string>();
    }
    if (auto closed = out.close(); !closed)
        return closed;
    if (file != "-")
        fmt::print("{}\n", s.as_json ? json{{"exported", rules}, {"file", file}}.dump()
                                     : fmt::format("{} rules exported to {}", rules, file));
    return {};
}

result<void> policy_watch(const settings& s) {
    const ops_client gateway(s.run_dir);
    std::uint64_t last = 0;
    unsigned shown = 0;
    for (bool first = true;; first = false) {
        const auto answer = gateway.request("policy log", {{"limit", first ? 1 : 1000}});
        if (!answer)
            return tl::unexpected(answer.error());
        for (const auto& change : answer->value("changes", json::array())) {
            const auto number = change.value("number", std::uint64_t{0});
            if (number <= last && !first)
                continue;
            last = number;
            if (first) // what was before we looked
                continue;
            if (s.as_json)
                fmt::print("{}\n", change.dump(-1, ' ', false, json::error_handler_t::replace));
            else
                fmt::print("{}  {} {}  ({})\n", change.value("when", ""), cell(change["address"], form::text),
                           change.value("removed", false) ? "removed"
                                                          : "-> " + cell(change.value("level", json()), form::text),
                           cell(change["who"], form::text));
            std::fflush(stdout);
            if (++shown == s.rounds)
                return {};
        }
        std::this_thread::sleep_for(watch_interval);
    }
}

result<void> record_list(const settings& s, const record_options& o) {
    auto query = query_of(o);
    if (o.limit != 0)
        query["limit"] = o.limit;
    if (!o.csv)
        return show(s, "record list", query);
    auto all = o;
    all.file = "-";
    all.limit = o.limit == 0 ? 100 : o.limit;
    return record_export(s, all);
}

// Page by page, newest first, each from the end of the one before; two pages may share a millisecond.
result<void> record_export(const settings& s, const record_options& o) {
    const ops_client gateway(s.run_dir, patient);
    sink out;
    auto query = query_of(o);
    query["format"] = o.csv ? "csv" : "json";
    std::set<std::string> seen;
    std::uint64_t written = 0;
    for (bool first = true, more = true; more; first = false) {
        query["limit"] = page;
        const auto answer = gateway.request("record export", query);
        if (!answer)
            return tl::unexpected(answer.error());
        if (first) {
            if (auto opened = out.open(o.file); !opened)
                return opened;
            out.put(o.csv ? answer->value("header", "") + "\r\n" : "[");
        }
        const auto records = answer->value("records", json::array());
        more = false;
        for (const auto& record : records) {
            if (!seen.insert(record.value("id", "")).second || (o.limit != 0 && written >= o.limit))
                continue;
            more = records.size() == page;
            out.put(o.csv
                        ? record.value("line", "") + "\r\n"
                        : (written == 0 ? "\n" : ",\n") + record.dump(-1, ' ', false, json::error_handler_t::replace));
            ++written;
            query["until"] = record.value("ended", std::int64_t{0});
        }
    }
    if (!o.csv)
        out.put("\n]\n");
    if (auto closed = out.close(); !closed)
        return closed;
    if (o.file != "-")
        fmt::print("{}\n", s.as_json ? json{{"exported", written}, {"file", o.file}}.dump()
                                     : fmt::format("{} records exported to {}", written, o.file));
    return {};
}

} // namespace tandem::ctl
