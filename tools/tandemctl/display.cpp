// SPDX-License-Identifier: Apache-2.0
// Tables and field lists out of JSON.
#include "tools/tandemctl/display.hpp"

#include <algorithm>
#include <ctime>
#include <fmt/core.h>
#include <vector>

namespace tandem::ctl {
namespace {

const json& at(const json& object, std::string_view path) {
    static const json nothing;
    const json::json_pointer pointer("/" + std::string(path));
    return object.is_structured() && object.contains(pointer) ? object.at(pointer) : nothing;
}

// Columns of UTF-8 text as a terminal counts them, near enough: continuation bytes take none.
std::size_t width(std::string_view text) {
    return static_cast<std::size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::string padded(std::string_view text, std::size_t to, bool right) {
    const std::string space(to > width(text) ? to - width(text) : 0, ' ');
    return right ? space + std::string(text) : std::string(text) + space;
}

std::string bytes(double value) {
    static constexpr std::string_view units[] = {"B", "kB", "MB", "GB", "TB"};
    std::size_t unit = 0;
    for (; value >= 1000 && unit + 1 < std::size(units); ++unit)
        value /= 1000;
    return unit == 0 ? fmt::format("{:.0f} B", value) : fmt::format("{:.1f} {}", value, units[unit]);
}

std::string duration(double seconds) {
    if (seconds < 0)
        return "-";
    if (seconds < 60)
        return fmt::format("{:.1f} s", seconds);
    const auto whole = static_cast<long>(seconds);
    if (whole < 3600)
        return fmt::format("{}m {:02}s", whole / 60, whole % 60);
    if (whole < 86400)
        return fmt::format("{}h {:02}m", whole / 3600, whole % 3600 / 60);
    return fmt::format("{}d {:02}h", whole / 86400, whole % 86400 / 3600);
}

std::string time_text(std::int64_t ms) {
    if (ms <= 0)
        return "-";
    const auto seconds = static_cast<std::time_t>(ms / 1000);
    std::tm when{};
    char text[32];
    gmtime_r(&seconds, &when);
    return std::string(text, std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &when));
}

// What comes from outside may hold control characters: they do not reach the terminal.
std::string printable(std::string text) {
    std::replace_if(
        text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, '?');
    return text;
}

} // namespace

std::string cell(const json& value, form how) {
    if (value.is_null())
        return "-";
    if (value.is_boolean() || how == form::yes_no)
        return value.is_boolean() && value.get<bool>() ? "yes" : "no";
    if (value.is_array()) {
        std::string out;
        for (const auto& item : value)
            out += (out.empty() ? "" : " ") + cell(item, how);
        return out.empty() ? "-" : out;
    }
    if (value.is_number() && how == form::bytes)
        return bytes(value.get<double>());
    if (value.is_number() && how == form::duration)
        return duration(value.get<double>());
    if (value.is_number() && how == form::time)
        return time_text(value.get<std::int64_t>());
    if (value.is_number_float())
        return fmt::format("{:.1f}", value.get<double>());
    if (value.is_string())
        return value.get<std::string>().empty() ? "-" : printable(value.get<std::string>());
    return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string table(const json& rows, std::span<const column> columns, std::string_view empty) {
    if (!rows.is_array() || rows.empty())
        return std::string(empty) + "\n";
    std::vector<std::vector<std::string>> lines;
    std::vector<std::size_t> widths;
    for (const auto& c : columns)
        widths.push_back(width(c.title));
    for (const auto& row : rows) {
        auto& line = lines.emplace_back();
        for (std::size_t i = 0; i < columns.size(); ++i) {
            line.push_back(cell(at(row, columns[i].path), columns[i].how));
            widths[i] = std::max(widths[i], width(line.back()));
        }
    }
    std::string out;
    const auto put = [&](std::size_t i, std::string_view text) {
        const bool right =
            columns[i].how != form::text && columns[i].how != form::yes_no && columns[i].how != form::time;
        const bool last = i + 1 == columns.size();
        out += last && !right ? std::string(text) + "\n" : padded(text, widths[i], right) + (last ? "\n" : "  ");
    };
    for (std::size_t i = 0; i < columns.size(); ++i)
        put(i, columns[i].title);
    for (const auto& line : lines)
        for (std::size_t i = 0; i < columns.size(); ++i)
            put(i, line[i]);
    return out;
}

std::string fields(const json& object, std::span<const column> columns) {
    std::size_t widest = 0;
    for (const auto& c : columns)
        widest = std::max(widest, width(c.title));
    std::string out;
    for (const auto& c : columns)
        out += fmt::format("{}  {}\n", padded(c.title, widest, false), cell(at(object, c.path), c.how));
    return out;
}

} // namespace tandem::ctl
