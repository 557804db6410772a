// SPDX-License-Identifier: Apache-2.0
// What a row of the verbs' table says of arguments, and names that are near (verb_table.hpp).
#include "controlplane/app/verb_table.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <vector>

namespace tandem::control {

using nlohmann::json;

namespace {

struct argument {
    std::string_view name, type;
};

std::vector<argument> arguments_of(const verb_row& row) {
    std::vector<argument> all;
    for (auto rest = row.arguments; !rest.empty();) {
        const auto word = rest.substr(0, rest.find(' '));
        rest.remove_prefix(std::min(rest.size(), word.size() + 1));
        const auto colon = word.find(':');
        all.push_back({word.substr(0, colon), colon == word.npos ? "text" : word.substr(colon + 1)});
    }
    return all;
}

bool is_of(const json& value, std::string_view type) {
    if (type == "text")
        return value.is_string();
    if (type == "number") // or its digits
        return value.is_number_unsigned() || (value.is_number_integer() && value.get<std::int64_t>() >= 0) ||
               (value.is_string() && !value.get_ref<const std::string&>().empty() &&
                std::ranges::all_of(value.get_ref<const std::string&>(), [](char c) { return c >= '0' && c <= '9'; }));
    if (type == "flag")
        return value.is_boolean();
    if (type == "list")
        return value.is_array();
    return type == "object" ? value.is_object() : true;
}

} // namespace

json to_json(const verb_row& row) {
    json arguments = json::array();
    for (const auto& one : arguments_of(row))
        arguments.push_back({{"name", one.name}, {"type", one.type}});
    return {{"verb", row.name}, {"arguments", std::move(arguments)}, {"help", row.help}};
}

std::optional<std::string> wrong_argument(const verb_row& row, const json& args) {
    const auto known = arguments_of(row);
    for (const auto& [name, value] : args.items()) {
        const auto one = std::ranges::find(known, std::string_view(name), &argument::name);
        if (one == known.end()) {
            std::string takes;
            for (const auto& k : known)
                takes += (takes.empty() ? "" : ", ") + std::string(k.name);
            return fmt::format("{} takes no argument \"{}\"; it takes {}", row.name, name,
                               takes.empty() ? "none" : takes);
        }
        if (!value.is_null() && !is_of(value, one->type))
            return fmt::format("{}: \"{}\" must be a {}", row.name, name, one->type);
    }
    return std::nullopt;
}

} // namespace tandem::control
