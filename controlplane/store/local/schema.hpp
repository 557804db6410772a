// SPDX-License-Identifier: Apache-2.0
// The database's tables, by version. Private to this room.
#pragma once

#include <string>

#include <tl/expected.hpp>

#include "controlplane/store/local/sqlite.hpp"

namespace tandem::store {

[[nodiscard]] int schema_of(connection& db);

// Brings the file to schema_version, each step in a transaction of its own; a newer one is refused. The error is a
// sentence; `path` and `instance` are for it and for records of an earlier schema.
[[nodiscard]] tl::expected<void, std::string> bring_up(connection& db, const std::string& path,
                                                       const std::string& instance);

} // namespace tandem::store
