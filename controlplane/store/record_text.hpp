// SPDX-License-Identifier: Apache-2.0
// A call's record as JSON and CSV, and what follows from it. One JSON shape for all: the body in SQLite, the body in
// PostgreSQL, `record show` and `record export`. Also a profile's body. Times are milliseconds since 1970. Pure; any
// thread.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "controlplane/protocol/profile.hpp"
#include "controlplane/store/call_record.hpp"

namespace tandem::store {

// One line of JSON. What is not UTF-8 is replaced, never refused.
[[nodiscard]] std::string to_json(const call_record& record);
[[nodiscard]] std::optional<call_record> call_record_from_json(std::string_view text); // nothing where it is not one

// RFC 4180; one row a call. Packets, bytes and losses are the sums of its media, jitter the worst of them; suite, seed,
// interval and key source those of its first media. caller_*: what the gateway received from the caller's side, and the
// jitter that this side reported of what it hears (RTCP); callee_* likewise. Neither has its line's end.
[[nodiscard]] std::string csv_header();
[[nodiscard]] std::string csv_row(const call_record& record);

// Whom the call's profile belongs to: canonical names, unordered. Nothing where one of them is not known.
[[nodiscard]] std::optional<std::pair<std::string, std::string>> pair_of(const call_record& record);
// What the profile learns of it. Failed: never answered, or ended by a fault (media timeout, a unit's session gone).
[[nodiscard]] protocol::past_call past_call_of(const call_record& record);

// {"total":N,"calls":[[ended_ms,duration_ms,failed],...]}; the pair itself is not in it.
[[nodiscard]] std::string to_json(const protocol::profile& profile);
[[nodiscard]] bool profile_from_json(std::string_view text, protocol::profile& into); // leaves a and b alone

// One line of it. What is not UTF-8 is replaced.
[[nodiscard]] std::string dump(const nlohmann::json& value);

// 32 hex digits: 12 of the time in ms (an index grows at its end), 20 of the kernel's random numbers.
[[nodiscard]] std::string new_record_id();

} // namespace tandem::store
