// SPDX-License-Identifier: Apache-2.0
// Media in progress and ended media as JSON text and back. Private to this room; no key is in them. Pure.
#pragma once

#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "controlplane/media/journal.hpp"
#include "controlplane/store/json_out.hpp"

namespace tandem::store {

[[nodiscard]] std::string to_json(const media::media_row& row);
[[nodiscard]] std::optional<media::media_row> media_row_from_json(std::string_view text); // nothing where it is not one
[[nodiscard]] std::string to_json(const media::media_record& row);
[[nodiscard]] std::optional<media::media_record> media_record_from_json(std::string_view text);

// The machine's own clock of some moments (protocol/moment.hpp), as far as they are of the same start of it. A row of
// an earlier program has none: its moments are by the wall's clock alone.
using moments = std::initializer_list<const protocol::moment*>;
void write_uptimes(json_out& to, moments of);
void read_uptimes(const nlohmann::json& row, std::initializer_list<protocol::moment*> into);

// Pieces that a call's record is made of as well (record_text.cpp). Those that read throw where it is not one.
void write(json_out& to, const std::vector<policy::step>& why);
enum class content { kept, public_with_reason, public_without_reason };
void write(json_out& to, const media::media_record& row, content what);
[[nodiscard]] std::vector<policy::step> why_from(const nlohmann::json& value);
[[nodiscard]] media::media_record media_record_from(const nlohmann::json& value);

[[nodiscard]] inline std::int64_t in_ms(std::chrono::system_clock::time_point when) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(when.time_since_epoch()).count();
}
[[nodiscard]] inline std::chrono::system_clock::time_point from_ms(std::int64_t value) {
    return std::chrono::system_clock::time_point(std::chrono::milliseconds(value));
}

} // namespace tandem::store
