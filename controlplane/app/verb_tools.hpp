// SPDX-License-Identifier: Apache-2.0
// What the files of verbs share: refusals, arguments, texts. Pure.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "controlplane/app/ops_verbs.hpp"

namespace tandem::control {

[[nodiscard]] inline tl::unexpected<verb_error> usage(std::string text) {
    return tl::unexpected(verb_error{true, std::move(text)});
}
[[nodiscard]] inline tl::unexpected<verb_error> failed(std::string text) {
    return tl::unexpected(verb_error{false, std::move(text)});
}

// The argument's text; empty where it is absent or something else.
[[nodiscard]] std::string text_arg(const nlohmann::json& args, const char* name);
// A number, or its digits as text; nothing where it is absent or something else.
[[nodiscard]] std::optional<std::uint64_t> number_arg(const nlohmann::json& args, const char* name);
// "2026-11-21", "2026-11-21T18:00[:05[.250]][Z]" (UTC), or milliseconds since 1970; nothing where it is something else.
[[nodiscard]] std::optional<std::chrono::system_clock::time_point> time_arg(const nlohmann::json& args,
                                                                            const char* name);

// ops_json.cpp
[[nodiscard]] std::string time_text(std::chrono::system_clock::time_point when);       // ISO 8601, UTC, seconds
[[nodiscard]] std::string exact_time_text(std::chrono::system_clock::time_point when); // with milliseconds
[[nodiscard]] std::string tsid_text(session::tsid id);
[[nodiscard]] nlohmann::json to_json(const session::session_info& session);
[[nodiscard]] nlohmann::json to_json(const media::media_info& media);
[[nodiscard]] nlohmann::json record_json(const store::call_record& record);
[[nodiscard]] nlohmann::json to_json(const policy::rule& rule);
[[nodiscard]] nlohmann::json to_json(const policy::level& level, const std::string& default_level);
[[nodiscard]] nlohmann::json why_json(const std::vector<policy::step>& steps);
[[nodiscard]] nlohmann::json alarms_json(const alarm_board& board);
[[nodiscard]] std::string to_text(const media::endpoint& where);

} // namespace tandem::control
