// SPDX-License-Identifier: Apache-2.0
// controlplane.toml. An unknown key is an error that names file, line and remedy. Read at start; levels and policy are
// read again on SIGHUP.
#pragma once

#include <asio/ip/udp.hpp>
#include <string>
#include <string_view>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/callcontrol/asker.hpp"
#include "controlplane/media/manager.hpp"
#include "controlplane/policy/config.hpp"
#include "controlplane/session/manager.hpp"

namespace tandem::control {

// Where policy rules, call profiles and call records live; units, sessions and calls are in `database` always.
struct store_settings {
    bool shared = false;    // PostgreSQL; else `database`
    std::string conninfo;   // libpq's, without a password
    unsigned keep_days = 0; // call records younger than this are kept; 0 = all
    unsigned log_mib = 64;  // of the log in front of `database`
};

struct config {
    std::string file; // where this was read
    std::string instance = "main";
    std::string run_dir = "/run/tandem";
    std::string dataplane; // contract socket; default <run_dir>/dataplane.sock
    std::string database = "/var/lib/tandem/tandem.db";
    std::string master_key_file = "/var/lib/tandem/master.key";
    std::string log_level = "info";
    session::config tunnel;
    std::vector<asio::ip::udp::endpoint> ng;
    std::size_t max_calls = 0; // 0 = as many as there is room for
    std::size_t max_media = 8; // m= lines of a call that take ports
    std::chrono::seconds offer_timeout{180}, cookie_lifetime{20};
    unsigned unit_reserve = 10, source_share = 50; // percent
    bool received_from_optional = false;
    std::vector<callcontrol::network> ng_from; // empty: anybody but the inner network
    media::settings media;
    store_settings store;
    bool strict_names = false; // [policy]: a party under somebody else's name is refused
    std::string sip_directory; // Kamailio's tables (controlplane/sip); empty: no SIP gateway is told names
    std::string levels_file;   // empty: the policy stands in `file`
    policy::config policy;     // as it was at start; the engine has what is in force

    [[nodiscard]] std::string ops_socket() const;
    // Where the SIP gateway may read, if there is one.
    [[nodiscard]] std::string ends_socket() const {
        return (sip_directory.empty() ? run_dir : sip_directory) + "/call-ends.sock";
    }
    [[nodiscard]] std::string lock_file() const { return run_dir + "/controlplane.lock"; }
};

// The error is one line: "file:line:column: what is wrong; what to do". load_config reads levels_file too.
[[nodiscard]] tl::expected<config, std::string> load_config(const std::string& path);
[[nodiscard]] tl::expected<config, std::string> parse_config(std::string_view text, const std::string& path);

// What settings.levels_file says now.
[[nodiscard]] tl::expected<policy::config, std::string> load_levels(const config& settings);

// "192.0.2.1:4433", "[2001:db8::1]:4433"
[[nodiscard]] tl::expected<std::pair<asio::ip::address, std::uint16_t>, std::string>
parse_address_port(std::string_view text);

} // namespace tandem::control
