// SPDX-License-Identifier: Apache-2.0
// The tool's verbs. Each asks, then shows the answer: as JSON, or by the display layer's columns.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "tools/tandemctl/ops_client.hpp"

namespace tandem::ctl {

struct settings {
    std::string run_dir = "/run/tandem";
    std::string instance; // empty: the control plane's, else "main"
    bool as_json = false;
    double interval_s = 1.0;
    bool watch = false;                                            // again and again
    unsigned rounds = 0;                                           // of --watch; 0 = until interrupted
    std::chrono::milliseconds patience = std::chrono::seconds(15); // for an answer
};

// A verb of the ops socket that needs no more than its arguments; `view` names how it is shown (commands.cpp).
// Once, or with --watch again and again, until interrupted or something fails.
[[nodiscard]] result<void> repeat(const settings&, const std::function<result<void>()>& look);
[[nodiscard]] result<void> show(const settings&, const std::string& verb, const json& arguments);

struct unit_options {
    std::string id, psk_file, comment;
    bool certificate = false;
    std::string spki{}; // of that certificate, in hex
};
[[nodiscard]] result<void> unit_add(const settings&, const unit_options&);
[[nodiscard]] result<void> drops(const settings&, const std::string& reason);
[[nodiscard]] result<void> counters(const settings&);
[[nodiscard]] result<void> version(const settings&);
// The data plane's instance: given, or the control plane's, else "main".
[[nodiscard]] std::string instance_of(const settings&);

} // namespace tandem::ctl
