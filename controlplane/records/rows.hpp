// SPDX-License-Identifier: Apache-2.0
// Media journal rows and records as JSON text and back. Private to this room; no key is in them. Pure.
#pragma once

#include <optional>
#include <string>

#include "controlplane/media/journal.hpp"

namespace tandem::records {

[[nodiscard]] std::string to_json(const media::media_row& row);
[[nodiscard]] std::optional<media::media_row>
media_row_from_json(const std::string& text); // nothing where it is not one
[[nodiscard]] std::string to_json(const media::media_record& row);
[[nodiscard]] std::optional<media::media_record> media_record_from_json(const std::string& text);

} // namespace tandem::records
