// SPDX-License-Identifier: Apache-2.0
// The tables of levels and policy out of a TOML file that is already parsed: controlplane.toml's reader (app/) calls
// this. Apart from config_file.hpp because of toml++, which few files should compile.
#pragma once

#include <string>

#include <tl/expected.hpp>

#include "controlplane/policy/config.hpp"
#include "controlplane/policy/levels.hpp"
#include "controlplane/policy/toml_reader.hpp"

namespace tandem::policy {

struct tables {
    config values;    // the built-in ones where levels_file is named
    std::string file; // levels = "FILE": what levels.toml (load_config) says stands instead; empty = none is named
};

// Of controlplane.toml's root: the keys in main_file_keys, and no others (the caller checks for unknown ones). Naming
// FILE and writing one of the other keys too is an error. The error is the whole line, with file, line and column.
[[nodiscard]] tl::expected<tables, std::string> read_tables(const toml::table& root, const toml_reader& reader,
                                                            const limits& bounds);

} // namespace tandem::policy
