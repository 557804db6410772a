// SPDX-License-Identifier: Apache-2.0
// Tables of the shared store and how they are made: numbered migrations, each run once, under a lock of the server, as
// several gateways may start at once. Private to this room; runs on the watcher's thread.
#pragma once

#include <string>

#include "controlplane/store/shared/link.hpp"

namespace tandem::store {

inline constexpr int postgres_schema_version = 1;

// Thrown where a newer program has been there, or the database cannot hold our text.
struct schema_refused {
    std::string sentence;
};
// Brings the database to this program's schema.
void migrate(pg_link& link);

} // namespace tandem::store
