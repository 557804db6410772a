// SPDX-License-Identifier: Apache-2.0
// levels.toml and its tables (config_file.hpp, config_tables.hpp): read, then held against each other.
#include "controlplane/policy/config_file.hpp"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "controlplane/policy/config_tables.hpp"

namespace tandem::policy {

namespace {

// One file's tables to one config.
class policy_reader {
public:
    policy_reader(const toml_reader& r, const toml::table& root, const limits& bounds)
        : r_(r), root_(root), bounds_(bounds) {}

    // `default_key`: "default" in levels.toml, "default_level" in controlplane.toml.
    config read(std::string_view default_key);

private:
    struct named_table {
        const toml::key* key;
        const toml::table* table;
    };

    void read_levels();
    [[nodiscard]] level read_level(std::string_view name, const toml::table& table) const;
    void read_suite(const toml::table& table, level& row) const;
    void read_words(const toml::table& table, level& row) const;
    void check_level(const level& row, const toml::table& table) const;
    void check_order(const level& weaker, const level& stronger, const toml::table& table) const;
    [[nodiscard]] int rank(std::string_view name) const;
    void level_name(const toml::table& table, std::string_view key, std::string& to) const;
    void read_bounds(std::string_view default_key);
    void read_wish();
    void read_keygen();
    void read_profiles();
    // [[profiles.NAME]]; value_key is at_least_s or at_least. visit(threshold, level)
    template <class Visitor>
    void read_steps(const toml::table& profiles, std::string_view name, std::string_view value_key,
                    Visitor&& visit) const;

    const toml_reader& r_;
    const toml::table& root_;
    const limits& bounds_;
    config to_;
};

std::string names_of(const level_table& levels) {
    std::vector<std::string_view> names;
    for (const auto& row : levels.rows())
        names.push_back(row.name);
    return fmt::format("{}", fmt::join(names, ", "));
}

void policy_reader::read_suite(const toml::table& table, level& row) const {
    std::string suite;
    r_.text(table, "suite", suite);
    if (const auto* node = table.get("suite")) {
        const auto* found = api::find_suite(std::string_view(suite));
        if (found == nullptr || found->key_length == 0) {
            std::vector<std::string_view> names;
            for (const auto& s : api::suite_table)
                if (s.key_length > 0)
                    names.push_back(s.name);
            r_.fail(*node, fmt::format("suite \"{}\" is not known; known: {}", suite, fmt::join(names, ", ")));
        }
        row.suite = found->id;
    }
    if (const auto* node = table.get("tag_bits")) {
        const auto& used = api::info(row.suite);
        const auto bits = std::int64_t{used.rtp_tag_length} * 8;
        if (!node->is_integer() || node->as_integer()->get() != bits)
            r_.fail(*node,
                    fmt::format("tag_bits must be {}, the tag's length of {}; write {}, another suite, or leave it out",
                                bits, used.name, bits));
    }
}

void policy_reader::read_words(const toml::table& table, level& row) const {
    std::string word;
    r_.text(table, "keygen", word);
    if (const auto* node = table.get("keygen")) {
        const auto keys = key_source_of(word);
        if (!keys)
            r_.fail(*node, fmt::format("keygen \"{}\" is not known; known: gateway, device, both", word));
        row.keys = *keys;
    }
    word.clear();
    r_.text(table, "path", word);
    if (const auto* node = table.get("path")) {
        const auto path = path_choice_of(word);
        if (!path)
            r_.fail(*node, fmt::format("path \"{}\" is not known; known: either, wlan, wwan", word));
        row.path = *path;
    }
}

level policy_reader::read_level(std::string_view name, const toml::table& table) const {
    r_.only(table, fmt::format(" in [levels.{}]", name),
            {"suite", "seed_bytes", "rekey_s", "overlap_s", "tag_bits", "seed_is_key", "keygen", "path"});
    const auto built_in = level_table::built_in();
    const auto* known = built_in.find(name);
    level row = known != nullptr ? *known : level{};
    row.name = name;
    read_suite(table, row);
    r_.number(table, "seed_bytes", 0, 1000, row.seed_bytes); // check() has the real bounds
    r_.seconds(table, "rekey_s", row.rekey);
    if (!table.contains("overlap_s") && row.overlap >= row.rekey)
        row.overlap = row.rekey / 4;
    r_.seconds(table, "overlap_s", row.overlap);
    r_.flag(table, "seed_is_key", row.seed_is_key);
    read_words(table, row);
    check_level(row, table);
    return row;
}

// The sentence begins with the level's name and mostly with the key at fault: that key's place is the fault's.
void policy_reader::check_level(const level& row, const toml::table& table) const {
    const auto fine = check(row, bounds_);
    if (fine)
        return;
    for (const auto* key : {"suite", "seed_bytes", "rekey_s", "overlap_s"})
        if (const auto* node = table.get(key);
            node != nullptr && fine.error().find(fmt::format(": {} ", key)) != std::string::npos)
            r_.fail(*node, fine.error());
    r_.fail(table, fine.error());
}

// RIM-17: what is stronger never has a longer interval, a shorter seed or a shorter key.
void policy_reader::check_order(const level& weaker, const level& stronger, const toml::table& table) const {
    const auto seconds = [](const level& row) { return static_cast<double>(row.rekey.count()) / 1000.0; };
    const auto fail = [&](std::string_view key, std::string_view what) {
        const auto* node = table.get(key);
        r_.fail(node != nullptr ? *node : table,
                fmt::format("level {}: {}; levels stand weakest first: change the value, or the levels' order",
                            stronger.name, what));
    };
    if (stronger.rekey > weaker.rekey)
        fail("rekey_s", fmt::format("rekey_s = {:g} is longer than {:g} of {}, which is weaker", seconds(stronger),
                                    seconds(weaker), weaker.name));
    if (stronger.seed_length() < weaker.seed_length())
        fail("seed_bytes", fmt::format("a seed of {} bytes is shorter than the {} of {}, which is weaker",
                                       stronger.seed_length(), weaker.seed_length(), weaker.name));
    const auto bits = [](const level& row) { return api::info(row.suite).key_length * 8; };
    if (bits(stronger) < bits(weaker))
        fail("suite", fmt::format("a key of {} bits is shorter than the {} of {}, which is weaker", bits(stronger),
                                  bits(weaker), weaker.name));
}

void policy_reader::read_levels() {
    const auto* levels = r_.table(root_, "levels");
    if (levels == nullptr || levels->empty())
        return;
    std::vector<named_table> written;
    for (const auto& [key, node] : *levels) {
        if (!node.is_table())
            r_.fail(key.source().begin, fmt::format("a level is a table: [levels.{}]", key.str()));
        written.push_back({&key, node.as_table()});
    }
    if (written.size() > 64)
        r_.fail(*levels, fmt::format("{} levels are too many: 64 at most", written.size()));
    std::sort(written.begin(), written.end(), [](const auto& x, const auto& y) {
        const auto& a = x.key->source().begin;
        const auto& b = y.key->source().begin;
        return a.line != b.line ? a.line < b.line : a.column < b.column;
    });
    to_.levels = level_table();
    for (const auto& [key, table] : written) {
        if (key->str().empty() || !std::all_of(key->str().begin(), key->str().end(), [](char c) {
                return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_';
            }))
            r_.fail(key->source().begin,
                    fmt::format("a level's name has letters, digits, - and _ only; \"{}\" has others", key->str()));
        auto row = read_level(key->str(), *table);
        if (!to_.levels.rows().empty())
            check_order(to_.levels.rows().back(), row, *table);
        to_.levels.set(std::move(row));
    }
}

int policy_reader::rank(std::string_view name) const {
    const auto& rows = to_.levels.rows();
    const auto found = std::find_if(rows.begin(), rows.end(), [&](const level& row) { return row.name == name; });
    return found == rows.end() ? -1 : static_cast<int>(found - rows.begin());
}

void policy_reader::level_name(const toml::table& table, std::string_view key, std::string& to) const {
    r_.text(table, key, to);
    if (const auto* node = table.get(key); node != nullptr && rank(to) < 0)
        r_.fail(*node, fmt::format("{} = \"{}\" names no level; levels: {}", key, to, names_of(to_.levels)));
}

void policy_reader::read_bounds(std::string_view default_key) {
    level_name(root_, default_key, to_.default_level);
    if (rank(to_.default_level) < 0)
        r_.fail(fmt::format("no {} is named and there is no level \"{}\"; write {} = \"{}\"", default_key,
                            to_.default_level, default_key, to_.levels.rows().front().name));
    level_name(root_, "floor", to_.floor);
    level_name(root_, "ceiling", to_.ceiling);
    if (!to_.floor.empty() && !to_.ceiling.empty() && rank(to_.floor) > rank(to_.ceiling))
        r_.fail(*root_.get("floor"),
                fmt::format("floor = \"{}\" is above ceiling = \"{}\"; lower it or raise the ceiling", to_.floor,
                            to_.ceiling));
}

void policy_reader::read_wish() {
    const auto* wish = r_.table(root_, "wish");
    if (wish == nullptr)
        return;
    r_.only(*wish, " in [wish]", {"prefixes"});
    const auto* prefixes = r_.table(*wish, "prefixes");
    if (prefixes == nullptr)
        return;
    if (prefixes->size() > 256)
        r_.fail(*prefixes, "more than 256 dialled prefixes are too many");
    for (const auto& [key, node] : *prefixes) {
        const auto prefix = key.str();
        if (prefix.empty() || prefix.size() > 16 || prefix.find_first_not_of("0123456789*#+") != std::string_view::npos)
            r_.fail(key.source().begin,
                    fmt::format("\"{}\" is no dialled prefix: 1 to 16 of 0-9 * # +, such as \"*77\"", prefix));
        std::string level;
        level_name(*prefixes, prefix, level);
        to_.prefixes.emplace_back(prefix, std::move(level));
    }
}

void policy_reader::read_keygen() {
    const auto* keygen = r_.table(root_, "keygen");
    if (keygen == nullptr)
        return;
    r_.only(*keygen, " in [keygen]", {"devices_may"});
    const auto* may = keygen->get("devices_may");
    if (may == nullptr)
        return;
    if (may->is_boolean()) {
        to_.any_unit_may_make_keys = may->as_boolean()->get();
        return;
    }
    if (!may->is_array())
        r_.fail(*may, "devices_may must be true, false or a list of id codes: [\"alice\"]");
    for (const auto& unit : *may->as_array()) {
        if (!unit.is_string() || unit.as_string()->get().empty() || unit.as_string()->get().size() > 64)
            r_.fail(unit, "devices_may holds id codes in quotes, of 1 to 64 letters");
        to_.units_may_make_keys.insert(unit.as_string()->get());
    }
}

template <class Visitor>
void policy_reader::read_steps(const toml::table& profiles, std::string_view name, std::string_view value_key,
                               Visitor&& visit) const {
    const auto* list = r_.list(profiles, name);
    if (list == nullptr)
        return;
    if (list->size() > 64)
        r_.fail(*list, fmt::format("more than 64 thresholds in profiles.{} are too many", name));
    std::int64_t last = -1;
    int last_rank = -1;
    for (const auto& node : *list) {
        if (!node.is_table())
            r_.fail(node, fmt::format("a threshold is a table: [[profiles.{}]]", name));
        const auto& step = *node.as_table();
        r_.only(step, fmt::format(" in [[profiles.{}]]", name), {value_key, "level"});
        for (const auto key : {value_key, std::string_view("level")})
            if (!step.contains(key))
                r_.fail(step, fmt::format("[[profiles.{}]] needs {}", name, key));
        const auto value = r_.in_range(*step.get(value_key), value_key, 1, 1'000'000);
        std::string level;
        level_name(step, "level", level);
        if (value <= last)
            r_.fail(*step.get(value_key),
                    fmt::format("{} = {} is not above the threshold before it, {}: thresholds rise", value_key, value,
                                last));
        if (rank(level) < last_rank)
            r_.fail(*step.get("level"),
                    fmt::format("level \"{}\" is below that of the threshold before it: levels rise with thresholds",
                                level));
        last = value;
        last_rank = rank(level);
        visit(value, level);
    }
}

void policy_reader::read_profiles() {
    // Of the built-in thresholds those whose levels exist, where the file has none of its own.
    std::erase_if(to_.duration, [&](const duration_step& step) { return rank(step.level) < 0; });
    const auto* profiles = r_.table(root_, "profiles");
    if (profiles == nullptr)
        return;
    r_.only(*profiles, " in [profiles]", {"of", "least_calls", "age_days", "most", "duration", "calls", "failures"});
    r_.text(*profiles, "of", to_.duration_of);
    if (to_.duration_of != "median" && to_.duration_of != "mean" && to_.duration_of != "last")
        r_.fail(*profiles->get("of"),
                fmt::format("of = \"{}\" is not known; known: median, mean, last", to_.duration_of));
    r_.number(*profiles, "least_calls", 1, 64, to_.least_calls);
    r_.number(*profiles, "most", 0, 10'000'000, to_.most_profiles);
    if (const auto* age = profiles->get("age_days"))
        to_.age = std::chrono::hours(24 * r_.in_range(*age, "age_days", 1, 3650));
    if (profiles->contains("duration"))
        to_.duration.clear();
    read_steps(*profiles, "duration", "at_least_s", [&](std::int64_t value, const std::string& level) {
        to_.duration.push_back({std::chrono::seconds(value), level});
    });
    read_steps(*profiles, "calls", "at_least", [&](std::int64_t value, const std::string& level) {
        to_.calls.push_back({static_cast<std::size_t>(value), level});
    });
    read_steps(*profiles, "failures", "at_least", [&](std::int64_t value, const std::string& level) {
        to_.failures.push_back({static_cast<std::size_t>(value), level});
    });
}

config policy_reader::read(std::string_view default_key) {
    read_levels();
    if (root_.get("levels") == nullptr || to_.levels.rows().empty() || root_.get("levels")->as_table()->empty()) {
        to_.levels = level_table::built_in();
        for (const auto& row : to_.levels.rows())
            if (const auto fine = check(row, bounds_); !fine)
                r_.fail(fine.error());
    }
    read_bounds(default_key);
    read_wish();
    read_keygen();
    read_profiles();
    return std::move(to_);
}

} // namespace

tl::expected<config, std::string> parse_config(std::string_view text, const std::string& file, const limits& bounds) {
    try {
        const toml_reader r(file);
        const auto root = r.parse(text);
        r.only(root, "", {"version", "default", "floor", "ceiling", "levels", "wish", "keygen", "profiles"});
        const auto* version = root.get("version");
        if (version == nullptr)
            r.fail("no version; the first line must be: version = 1");
        static_cast<void>(r.in_range(*version, "version", 1, 1));
        return policy_reader(r, root, bounds).read("default");
    } catch (const toml_fault& fault) {
        return tl::unexpected(fault.text);
    }
}

tl::expected<tables, std::string> read_tables(const toml::table& root, const toml_reader& r, const limits& bounds) {
    try {
        tables made;
        const auto* levels = root.get("levels");
        if (levels == nullptr || !levels->is_string()) {
            made.values = policy_reader(r, root, bounds).read("default_level");
            return made;
        }
        made.file = levels->as_string()->get();
        if (made.file.empty())
            r.fail(*levels, "levels must name a file, such as \"/etc/tandem/levels.toml\"");
        for (const auto key : main_file_keys)
            if (const auto* node = root.get(key); node != nullptr && key != "levels")
                r.fail(*node,
                       fmt::format("{} and levels = \"{}\" are both here: write it in that file", key, made.file));
        return made;
    } catch (const toml_fault& fault) {
        return tl::unexpected(fault.text);
    }
}

tl::expected<config, std::string> load_config(const std::string& path, const limits& bounds) {
    std::ifstream file(path);
    if (!file || (file.peek(), file.bad())) // a directory opens, and cannot be read
        return tl::unexpected(fmt::format("{}: cannot be read: {}; write it, or take levels = \"...\" out of "
                                          "controlplane.toml",
                                          path, std::strerror(errno)));
    std::stringstream text;
    text << file.rdbuf();
    return parse_config(text.str(), path, bounds);
}

} // namespace tandem::policy
