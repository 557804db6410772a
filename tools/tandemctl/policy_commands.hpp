// SPDX-License-Identifier: Apache-2.0
// Verbs about levels, the security database, call profiles, call records and alarms.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tools/tandemctl/commands.hpp"

namespace tandem::ctl {

using view = std::function<std::string(const json&)>;
// How the answers of these verbs are shown; commands.cpp asks here for what it does not know itself.
[[nodiscard]] const std::map<std::string, view, std::less<>>& policy_views();

struct record_options {
    std::string since, until, party, call_id, id, file;
    unsigned limit = 0; // 0: list: 100; export: all
    bool csv = false;
};

[[nodiscard]] result<void> level_check(const settings&, const std::string& file);
// assignments: "rekey_s=5"
[[nodiscard]] result<void> level_set(const settings&, const std::string& name,
                                     const std::vector<std::string>& assignments);
[[nodiscard]] result<void> policy_import(const settings&, const std::string& file);
[[nodiscard]] result<void> policy_export(const settings&, const std::string& file); // "-": stdout
[[nodiscard]] result<void> policy_watch(const settings&); // until interrupted, or common.rounds changes
[[nodiscard]] result<void> record_list(const settings&, const record_options&);
[[nodiscard]] result<void> record_export(const settings&, const record_options&);

} // namespace tandem::ctl
