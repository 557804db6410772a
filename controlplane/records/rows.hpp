// SPDX-License-Identifier: Apache-2.0
// Media in progress and ended media as JSON text and back. Private to this room; no key is in them. Pure.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "controlplane/media/journal.hpp"
#include "controlplane/records/json_out.hpp"

namespace tandem::records {

[[nodiscard]] std::string to_json(const media::media_row& row);
[[nodiscard]] std::optional<media::media_row> media_row_from_json(std::string_view text); // nothing where it is not one
[[nodiscard]] std::string to_json(const media::media_record& row);
[[nodiscard]] std::optional<media::media_record> media_record_from_json(std::string_view text);

// Pieces that a call's record is made of as well (record_text.cpp). Those that read throw where it is not one.
void write(json_out& to, const std::vector<policy::step>& why);
void write(json_out& to, const media::media_record& row, bool with_reason);
[[nodiscard]] std::vector<policy::step> why_from(const nlohmann::json& value);
[[nodiscard]] media::media_record media_record_from(const nlohmann::json& value);

[[nodiscard]] inline std::int64_t in_ms(std::chrono::system_clock::time_point when) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(when.time_since_epoch()).count();
}
[[nodiscard]] inline std::chrono::system_clock::time_point from_ms(std::int64_t value) {
    return std::chrono::system_clock::time_point(std::chrono::milliseconds(value));
}

} // namespace tandem::records
