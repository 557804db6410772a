// SPDX-License-Identifier: Apache-2.0
// policy::store over the local database: rules, their change log, profiles. Changes by other programs (the sqlite3
// shell) are seen within half a second: `PRAGMA data_version` tells that there was one, the change log's number which
// rows. A profile that was removed is told as one without calls. Owner thread: io_context.
#pragma once

#include <asio/io_context.hpp>
#include <memory>

#include "controlplane/policy/store.hpp"
#include "controlplane/store/local/database.hpp"

namespace tandem::store {

// The database must live longer.
[[nodiscard]] std::unique_ptr<policy::store> make_rule_store(asio::io_context& io, database& in);

} // namespace tandem::store
