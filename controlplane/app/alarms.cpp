// SPDX-License-Identifier: Apache-2.0
// Alarms: what stands, and its lines in the log. Owner thread: io_context.
#include "controlplane/app/alarms.hpp"

#include <spdlog/spdlog.h>

namespace tandem::control {

void alarm_board::raise(const std::string& name, const std::string& text) {
    const auto [at, fresh] = standing_.try_emplace(name, alarm{std::chrono::system_clock::now(), text});
    if (fresh)
        spdlog::warn("ALARM {}: {}", name, text);
    at->second.text = text;
}

void alarm_board::clear(const std::string& name) {
    if (standing_.erase(name) > 0)
        spdlog::info("alarm {} is over", name);
}

} // namespace tandem::control
