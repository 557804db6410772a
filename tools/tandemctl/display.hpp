// SPDX-License-Identifier: Apache-2.0
// The one display layer: a result is JSON; columns say how a person sees it. `--json` prints the result itself.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "tools/tandemctl/ops_client.hpp"

namespace tandem::ctl {

enum class form {
    text,
    number,   // right-aligned
    bytes,    // 1.2 MB
    duration, // seconds -> 1h 02m, 3m 04s, 5.2 s
    yes_no,
    time, // milliseconds since 1970 -> 2026-11-21 18:00:05, UTC; 0: never
};

// `path` is a JSON pointer without the leading slash: "legs/0/suite". What is missing or null shows as "-".
struct column {
    std::string_view title;
    std::string_view path;
    form how = form::text;
};

// A row per element, aligned; `empty` is said where there is none.
[[nodiscard]] std::string table(const json& rows, std::span<const column> columns, std::string_view empty);
// "title   value" a line.
[[nodiscard]] std::string fields(const json& object, std::span<const column> columns);
[[nodiscard]] std::string cell(const json& value, form how);

} // namespace tandem::ctl
