// SPDX-License-Identifier: Apache-2.0
// Call records in PostgreSQL, as SQL: shipping them, once each, and reading them. Private to this room; on the thread
// of the link that is given. Everything throws pg_error.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "controlplane/store/call_record.hpp"
#include "controlplane/store/shared/link.hpp"

namespace tandem::store {

// All of them are there when it returns, whether they were already or not; a pair's profile learns only of those that
// were new, in the same transaction. How many were new.
[[nodiscard]] std::size_t ship_records(pg_link& link, const std::vector<call_record>& records);
[[nodiscard]] std::vector<call_record> find_records(pg_link& link, const record_query& what);
[[nodiscard]] std::optional<call_record> show_record(pg_link& link, const std::string& id);

} // namespace tandem::store
