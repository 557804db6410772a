// SPDX-License-Identifier: Apache-2.0
// What readers of TOML share (toml_reader.hpp).
#include "controlplane/policy/toml_reader.hpp"

#include <algorithm>

namespace tandem::policy {

namespace {

// A quoted key may hold an escaped line's end: a sentence is one line all the same.
std::string one_line(std::string text) {
    std::replace_if(
        text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, '?');
    return text;
}

} // namespace

void toml_reader::fail(const toml::source_position& at, std::string_view what) const {
    throw toml_fault{one_line(fmt::format("{}:{}:{}: {}", file_, at.line, at.column, what))};
}

void toml_reader::fail(std::string_view what) const {
    throw toml_fault{one_line(fmt::format("{}: {}", file_, what))};
}

toml::table toml_reader::parse(std::string_view text) const {
    plain_letters_only(text);
    try {
        return toml::parse(text, file_);
    } catch (const toml::parse_error& error) {
        fail(error.source().begin, error.description());
    }
}

void toml_reader::plain_letters_only(std::string_view text) const {
    toml::source_index number = 0;
    while (!text.empty()) {
        ++number;
        const auto end = std::min(text.find('\n'), text.size());
        const auto line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        const auto column = [](std::size_t at) { return static_cast<toml::source_index>(at + 1); };
        for (const auto* quotes : {"\"\"\"", "'''"})
            if (const auto at = line.find(quotes); at != std::string_view::npos)
                fail({number, column(at)}, "strings over several lines are not used here: write it on one line");
        const auto first = line.find_first_not_of(" \t");
        if (first == std::string_view::npos || line[first] == '#')
            continue;
        const auto odd =
            std::find_if(line.begin(), line.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
        if (odd != line.end())
            fail({number, column(static_cast<std::size_t>(odd - line.begin()))},
                 "only plain (ASCII) letters are allowed outside of comments that fill their line");
    }
}

void toml_reader::only(const toml::table& table, std::string_view where,
                       std::span<const std::string_view> known) const {
    for (const auto& [key, value] : table)
        if (std::find(known.begin(), known.end(), key.str()) == known.end())
            fail(key.source().begin,
                 fmt::format("unknown key \"{}\"{}; known here: {}", key.str(), where, fmt::join(known, ", ")));
}

const toml::table* toml_reader::table(const toml::table& root, std::string_view key) const {
    const auto* node = root.get(key);
    if (node != nullptr && !node->is_table())
        fail(*node, fmt::format("{} must be a table: [{}]", key, key));
    return node == nullptr ? nullptr : node->as_table();
}

const toml::array* toml_reader::list(const toml::table& root, std::string_view key) const {
    const auto* node = root.get(key);
    if (node != nullptr && !node->is_array())
        fail(*node, fmt::format("{} must be a list in brackets", key));
    return node == nullptr ? nullptr : node->as_array();
}

void toml_reader::text(const toml::table& table, std::string_view key, std::string& to) const {
    if (const auto* node = table.get(key)) {
        if (!node->is_string())
            fail(*node, fmt::format("{} must be a string in quotes", key));
        to = node->as_string()->get();
    }
}

void toml_reader::flag(const toml::table& table, std::string_view key, bool& to) const {
    if (const auto* node = table.get(key)) {
        if (!node->is_boolean())
            fail(*node, fmt::format("{} must be true or false", key));
        to = node->as_boolean()->get();
    }
}

std::int64_t toml_reader::in_range(const toml::node& node, std::string_view key, std::int64_t low,
                                   std::int64_t high) const {
    if (!node.is_integer() || node.as_integer()->get() < low || node.as_integer()->get() > high)
        fail(node, fmt::format("{} must be a whole number from {} to {}", key, low, high));
    return node.as_integer()->get();
}

void toml_reader::seconds(const toml::table& table, std::string_view key, std::chrono::milliseconds& to) const {
    if (const auto* node = table.get(key)) {
        const auto value = node->value<double>();
        if (!value || !(*value >= 0 && *value <= 1e7)) // nor nan
            fail(*node, fmt::format("{} must be a number of seconds", key));
        to = std::chrono::milliseconds(std::llround(*value * 1000));
    }
}

} // namespace tandem::policy
