// SPDX-License-Identifier: Apache-2.0
// A row of the security database, its change, and the audit's line. Values without asio, so that what reads them from
// text can be fuzzed with any clang. Pure; any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "controlplane/policy/levels.hpp"

namespace tandem::policy {

// What a row may say instead of a level: there is no such call. Its comment is the reason, told to whoever asks for
// one. No level has this name.
inline constexpr std::string_view deny = "deny";

// A row of the security database. `address` is canonical text (protocol/address_name.hpp): "+46701234567" or a prefix
// of numbers such as "+4670", "sip:alice@example.com", "@example.com" (a domain), or an id code such as "alice".
struct rule {
    std::string address;
    std::string level; // a name, or `deny`; one that no level has is skipped in decisions, said and counted
    std::optional<key_source> keys;  // where absent: the level's
    std::optional<path_choice> path; // likewise
    std::string comment;
    friend bool operator==(const rule&, const rule&) = default;
};

// Sets `row`, or removes row.address.
struct rule_edit {
    rule row;
    bool removed = false;
};

// One line of the audit: kept for ever, oldest first.
struct rule_change {
    std::uint64_t number = 0;
    std::chrono::system_clock::time_point when;
    std::string who; // "root (uid 0) by tandemctl", "gw-2", or "directly" where another program wrote
    rule_edit edit;
};

} // namespace tandem::policy
