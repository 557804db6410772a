// SPDX-License-Identifier: Apache-2.0
// Reads what alarm_rules.hpp judges, and keeps the board: the data plane's health, ports, flow table, disks,
// certificates. Owner thread: io_context.
#pragma once

#include <chrono>
#include <deque>
#include <string>
#include <vector>

#include "controlplane/app/alarm_rules.hpp"
#include "controlplane/app/config.hpp"
#include "controlplane/dataplane_client/health.hpp"

namespace tandem::control {

class alarm_watch {
public:
    alarm_watch(const config& settings, dataplane_client::client& dataplane,
                const dataplane_client::health_watch& health, media::manager& relay, alarm_board& board);
    void look(); // twice a second

private:
    [[nodiscard]] readings read();
    void count_restarts();
    void read_disks();
    void read_certificates();

    const config& settings_;
    dataplane_client::client& dataplane_;
    const dataplane_client::health_watch& health_;
    media::manager& relay_;
    alarm_board& board_;
    std::chrono::steady_clock::time_point born_ = std::chrono::steady_clock::now();
    std::chrono::steady_clock::time_point next_slow_{}; // disks and certificates are asked for more rarely
    std::uint64_t dataplane_started_ns_ = 0;
    std::deque<std::chrono::steady_clock::time_point> restarts_;
    std::vector<disk_reading> disks_;
    std::vector<certificate_reading> certificates_;
};

// The first of a PEM file's certificates to end; nothing where there is none.
[[nodiscard]] std::optional<std::chrono::system_clock::time_point> certificates_end(const std::string& file);

} // namespace tandem::control
