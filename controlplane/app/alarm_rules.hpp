// SPDX-License-Identifier: Apache-2.0
// Which alarms stand, from what was read of the gateway at one moment. Pure: alarm_watch.hpp reads.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "controlplane/app/alarms.hpp"
#include "controlplane/media/manager.hpp"

namespace tandem::control {

struct disk_reading {
    std::string directory;
    std::uint64_t total = 0, free = 0; // bytes; total 0: it could not be read
};

struct certificate_reading {
    std::string file;
    std::chrono::system_clock::time_point until; // of the first in it to end, as it was taken at start
    bool renewed = false;                        // the file holds a later one by now
};

struct readings {
    std::chrono::system_clock::time_point now;
    std::string dataplane;            // why it does not serve calls; empty = it does
    std::size_t restarts = 0;         // of the data plane, lately
    std::vector<std::string> carrier; // sentences: ports without one
    std::vector<media::manager::port_room> ports;
    std::vector<std::string> unknown_names; // of addresses: configured here, not in the data plane
    media::manager::flow_room flows;
    std::vector<disk_reading> disks;
    std::vector<certificate_reading> certificates;
};

inline constexpr std::chrono::minutes restarts_within{10};

// Those that judge() decides; it decides on no other.
inline constexpr std::array judged_alarms{alarms::dataplane, alarms::restarts, alarms::carrier, alarms::ports,
                                          alarms::addresses, alarms::flows,    alarms::disk,    alarms::certificate};

// Name and sentence of those that stand. `stood`: whether one stood before, for what is nearly over is not over yet.
[[nodiscard]] std::map<std::string, std::string> judge(const readings& seen,
                                                       const std::function<bool(const char*)>& stood);

} // namespace tandem::control
