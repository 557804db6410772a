// SPDX-License-Identifier: Apache-2.0
// What the command line said, and the verbs that read it. main.cpp parses and runs what was chosen.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "tools/tandemctl/commands.hpp"
#include "tools/tandemctl/policy_commands.hpp"
#include "tools/tandemctl/sight.hpp"
#include "tools/tandemctl/sip_commands.hpp"

namespace tandem::ctl {

struct arguments {
    settings common;
    unit_options unit;
    trace_options trace;
    capture_options capture;
    record_options record;
    sip_options sip;
    std::string id, reason, call_id;
    // level, policy
    std::string name, file, caller, callee, level, keygen, path, comment, wish, dialled, prefix;
    std::vector<std::string> assignments;
    unsigned limit = 0;
    bool all = false;
    std::uint64_t media = 0; // its number, or a handover's
    std::function<result<void>()> chosen;
};

// policy_arguments.cpp
// A verb that shows something can show it again and again.
inline CLI::App* watchable(CLI::App* verb, arguments& a) {
    verb->add_flag("--watch", a.common.watch, "again and again, until interrupted");
    verb->add_option("--interval", a.common.interval_s, "seconds between two looks")->check(CLI::Range(0.1, 3600.0));
    verb->add_option("--count", a.common.rounds, "end after so many looks");
    return verb;
}

void level_verbs(CLI::App& app, arguments& a);
void policy_verbs(CLI::App& app, arguments& a);
void record_verbs(CLI::App& app, arguments& a);

// sip_arguments.cpp
void sip_verbs(CLI::App& app, arguments& a);

} // namespace tandem::ctl
