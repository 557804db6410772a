// SPDX-License-Identifier: Apache-2.0
// controlplane.toml. An unknown key is an error that names file, line and remedy. Read once, at start.
#pragma once

#include <asio/ip/udp.hpp>
#include <string>
#include <string_view>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/media/manager.hpp"
#include "controlplane/policy/levels.hpp"
#include "controlplane/session/manager.hpp"

namespace tandem::control {

struct config {
    std::string instance = "main";
    std::string run_dir = "/run/tandem";
    std::string dataplane; // contract socket; default <run_dir>/dataplane.sock
    std::string database = "/var/lib/tandem/tandem.db";
    std::string master_key_file = "/var/lib/tandem/master.key";
    std::string log_level = "info";
    session::config tunnel;
    std::vector<asio::ip::udp::endpoint> ng;
    media::settings media;
    std::string default_level = "standard";
    policy::level_table levels = policy::level_table::built_in();

    [[nodiscard]] std::string ops_socket() const;
    [[nodiscard]] std::string lock_file() const { return run_dir + "/controlplane.lock"; }
};

// The error is one line: "file:line: what is wrong; what to do".
[[nodiscard]] tl::expected<config, std::string> load_config(const std::string& path);
[[nodiscard]] tl::expected<config, std::string> parse_config(std::string_view text, const std::string& path);

// "192.0.2.1:4433", "[2001:db8::1]:4433"
[[nodiscard]] tl::expected<std::pair<asio::ip::address, std::uint16_t>, std::string>
parse_address_port(std::string_view text);

} // namespace tandem::control
