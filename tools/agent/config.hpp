// SPDX-License-Identifier: Apache-2.0
// agent.toml (version 1): read, checked, and errors that name file, line and remedy. No secret is in it: the pre-shared
// key stands in a file of its own, read here too, which must not be readable by others.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/link/endpoint.hpp"
#include "controlplane/protocol/secret.hpp"
#include "tools/agent/advice/history.hpp"
#include "tools/agent/capture/settings.hpp"
#include "tools/agent/device/paths.hpp"
#include "tools/agent/media/seed_store.hpp"
#include "tools/agent/names/settings.hpp"
#include "tools/agent/roam/choice.hpp"

namespace tandem::agent {

struct forward { // [[forward]]
    link::endpoint listen, to;
    std::string name; // that [names] answers with listen's address; empty: none
    bool compress = false;
};

struct agent_config {
    std::string id;
    std::vector<link::endpoint> gateways; // in order of preference
    std::string psk_file;                 // or the three below
    std::string certificate, key, ca;
    std::string gateway_name; // that its certificate's subjectAltName must have; empty = any gateway of that CA
    std::string tun = "tandem0";
    std::string user = "nobody";             // dropped to after set-up; empty = stay
    bool nftables = true;                    // keep the device's other networks from the phone's inner address
    std::string run_dir;                     // status socket <run_dir>/agent.sock; empty = none
    std::optional<std::uint32_t> lifetime_s; // wished for the primary; the gateway decides
    std::string state_dir;                   // contacts.toml, profiles.json; empty = no contacts, no lasting history
    std::optional<key_source> keys;          // who is to make the seeds: a wish; the gateway decides
    profile_rules profiles;                  // [profiles]: what the history of calls asks for
    path_names paths;                        // [paths]: which interface is which radio
    std::vector<path_class> path_classes;    // [[path]] in order of preference; empty: the kernel's routes decide
    capture_settings capture;                // [capture]: which programs, and which of their connections
    std::vector<forward> forwards;           // [[forward]]
    name_settings names;                     // [names]: a name server for those that have a name
    std::chrono::seconds signal_poll{1};     // 0: a signal is read when the kernel has news only

    [[nodiscard]] bool uses_psk() const noexcept { return !psk_file.empty(); }
};

// A sentence that says what is wrong and what to do.
using config_error = std::string;

[[nodiscard]] tl::expected<agent_config, config_error> load_config(const std::string& file);
[[nodiscard]] tl::expected<agent_config, config_error> parse_config(std::string_view text, const std::string& file);

// 16..64 bytes as hex digits on one line; refused where group or others may read the file.
[[nodiscard]] tl::expected<protocol::secret, config_error> read_psk(const std::string& file);

} // namespace tandem::agent
