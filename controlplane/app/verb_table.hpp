// SPDX-License-Identifier: Apache-2.0
// The ops socket's verbs as one table: name, arguments with their types, what it does, for people. What a verb is given
// is held against it before the verb runs; `help` gives it out. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace tandem::control {

struct verb_row {
    std::string_view name;
    // "NAME" is text; "NAME:number" (or its digits), "NAME:flag", "NAME:list", "NAME:object", "NAME:any" what they say.
    std::string_view arguments;
    std::string_view help;
};

[[nodiscard]] nlohmann::json to_json(const verb_row& row);
// Nothing, or why these cannot be its arguments: one it does not take, or one of another type.
[[nodiscard]] std::optional<std::string> wrong_argument(const verb_row& row, const nlohmann::json& args);

} // namespace tandem::control
