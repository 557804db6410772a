// SPDX-License-Identifier: Apache-2.0
// levels.toml, or the same tables in controlplane.toml, to a `config`: whole, or one sentence with file, line, column
// and remedy. Every check of levels and policy is made here, so that what a reload brings can be used at once. Pure but
// for load_config; any thread.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include <tl/expected.hpp>

#include "controlplane/policy/config.hpp"
#include "controlplane/policy/levels.hpp"

namespace tandem::policy {

// The keys of controlplane.toml that read_tables (config_tables.hpp) takes. The default there is default_level.
inline constexpr std::array<std::string_view, 7> main_file_keys{"default_level", "floor",  "ceiling", "levels",
                                                                "wish",          "keygen", "profiles"};

// What levels.toml says. `file` is only named in sentences.
[[nodiscard]] tl::expected<config, std::string> parse_config(std::string_view text, const std::string& file,
                                                             const limits& bounds);
[[nodiscard]] tl::expected<config, std::string> load_config(const std::string& path, const limits& bounds);

// levels.toml with one key of [levels.NAME] set: its line replaced or added, all other lines, comments and order as
// they were. `value` as a person writes it (AEAD_AES_256_GCM, 32, 2.5, true; quotes may be left out). Refused where the
// result would not be accepted whole; the sentence says why. Where the text has no level yet, all built-in ones are
// named in it first, so that none is lost.
[[nodiscard]] tl::expected<std::string, std::string> set_level_key(std::string_view text, const std::string& file,
                                                                   std::string_view name, std::string_view key,
                                                                   std::string_view value, const limits& bounds);

} // namespace tandem::policy
