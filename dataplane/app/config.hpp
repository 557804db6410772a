// SPDX-License-Identifier: Apache-2.0
// dataplane.toml. An unknown key is an error that names file, line and remedy. Read once, at start, on the main thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <tl/expected.hpp>

namespace tandem::app {

struct config {
    struct address {
        std::string name;
        std::string text;                  // as written
        std::array<std::uint8_t, 16> ip{}; // IPv4 as ::ffff:a.b.c.d
    };
    enum class hugepages { automatic, never, require };
    enum class engine { automatic, ipsecmb, openssl };
    enum class idle { adaptive, poll, interrupt };
    enum class host_peers { where_possible, yes, no };

    std::string instance = "main";
    std::string run_dir = "/run/tandem";
    std::uint32_t workers = 1;
    hugepages memory = hugepages::automatic;
    std::uint32_t max_flows = 4096;
    engine crypto = engine::automatic;
    idle when_idle = idle::adaptive;
    std::uint32_t idle_poll_us = 100;
    std::vector<unsigned> cpus; // of the workers, in their order; empty = chosen
    std::optional<std::uint32_t> controller_uid;
    std::vector<address> addresses;
    std::vector<std::string> ports;                   // interfaces
    std::vector<std::string> checked_ports;           // of them: verify_checksum
    host_peers own_host = host_peers::where_possible; // calls with programs at addresses of this host's kernel: by lo
    std::vector<std::uint16_t> tunnel_tcp;
    std::uint32_t handshakes_per_second = 100;
    std::uint32_t handshake_burst = 200;
    std::uint32_t total_handshakes_per_second = 20'000; // of all sources that no unit has come from
    std::uint32_t total_handshake_burst = 20'000;

    [[nodiscard]] std::string socket_path() const { return run_dir + "/dataplane.sock"; }
    [[nodiscard]] std::string perimeter_path() const { return run_dir + "/perimeter"; }
    [[nodiscard]] std::string audit_path() const { return run_dir + "/audit.log"; }
    [[nodiscard]] std::string lock_path() const { return run_dir + "/dataplane.lock"; }
    [[nodiscard]] std::string stats_path() const { return "/dev/shm/tandem-" + instance + ".stats"; }
};

// The error is one line: "file:line: what is wrong; what to do".
[[nodiscard]] tl::expected<config, std::string> load_config(const std::string& path);
[[nodiscard]] tl::expected<config, std::string> parse_config(std::string_view text, const std::string& path);
[[nodiscard]] tl::expected<config::idle, std::string> parse_idle(std::string_view word);

} // namespace tandem::app
