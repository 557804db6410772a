// SPDX-License-Identifier: Apache-2.0
// Rules and profiles in PostgreSQL, as SQL: reading all, reading what changed, changing. Private to this room; on the
// thread of the link that is given. Everything throws pg_error.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "controlplane/policy/store.hpp"
#include "controlplane/protocol/profile.hpp"
#include "controlplane/store/shared/link.hpp"

namespace tandem::store {

struct everything {
    std::vector<policy::rule> rules;
    std::vector<protocol::profile> profiles;
    std::uint64_t number = 0; // of the last change that is in `rules`
    std::string identity;     // of the database: another one has other numbers
};
// Rules are left out where the caller can catch up by their log.
[[nodiscard]] everything load_all(pg_link& link, bool with_rules);

struct rule_news {
    std::vector<policy::rule_edit> edits; // at most `limit`
    std::uint64_t number = 0;             // of the last of them
};
// What came after `number`; nothing new: the same number.
[[nodiscard]] rule_news rules_since(pg_link& link, std::uint64_t number, std::size_t limit);
[[nodiscard]] std::uint64_t last_rule_number(pg_link& link);
[[nodiscard]] std::string identity_of(pg_link& link);

// As they are now; one that is gone has no calls.
[[nodiscard]] std::vector<protocol::profile> profiles_of(pg_link& link,
                                                         const std::vector<std::pair<std::string, std::string>>& pairs);

// Empty, or a sentence: an address that is not written canonically, a rule without a level.
[[nodiscard]] std::string what_is_wrong(const std::vector<policy::rule_edit>& edits);
struct applied {
    std::size_t changed = 0;  // rows that are not as they were
    std::uint64_t number = 0; // of the last change: who has heard of it has heard of these
};
[[nodiscard]] applied apply_rules(pg_link& link, const std::vector<policy::rule_edit>& edits, const std::string& who);
[[nodiscard]] std::vector<policy::rule_change> rule_history(pg_link& link, std::size_t limit);
[[nodiscard]] std::size_t forget_profiles(pg_link& link, const std::string& a, const std::string& b);

// Text that PostgreSQL takes: UTF-8 without zero bytes, at most `longest` bytes.
[[nodiscard]] std::string clean_text(std::string_view text, std::size_t longest = 1000);

// How one end of a call is looked up: canonical where it is a name, else as it is.
[[nodiscard]] std::string name_key(std::string_view name);

// BEGIN ... COMMIT; ROLLBACK where `work` throws and the link still stands.
template <class Work>
auto in_transaction(pg_link& link, const char* begin, Work&& work) {
    link.run(begin);
    try {
        auto result = work();
        link.run("COMMIT");
        return result;
    } catch (const pg_error& error) {
        if (!error.lost() && link.open())
            link.run("ROLLBACK");
        throw;
    }
}

} // namespace tandem::store
