// SPDX-License-Identifier: Apache-2.0
// Where the operator's policy stands (levels.toml, or the tables in controlplane.toml) and its way into the engine:
// read at start, read again on SIGHUP and `level reload`, changed by `level set`. Refused whole with line and column
// where it is broken; what is in force stays (RIM-15) and an alarm says so. Owner thread: io_context.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include <tl/expected.hpp>

#include "controlplane/app/alarms.hpp"
#include "controlplane/app/config.hpp"
#include "controlplane/policy/engine.hpp"

namespace tandem::control {

class level_file {
public:
    level_file(const config& settings, policy::engine& engine, alarm_board& alarms)
        : settings_(settings), engine_(engine), alarms_(alarms) {}

    // The file that holds the levels.
    [[nodiscard]] const std::string& path() const noexcept;
    // New calls take what the file says now. The error is "file:line:column: what is wrong; what to do".
    [[nodiscard]] tl::expected<void, std::string> reload(const std::string& who);
    // What `reload` would say of a levels.toml with this text, under the name `name`.
    [[nodiscard]] tl::expected<policy::config, std::string> check(std::string_view text, const std::string& name) const;
    // Writes the values into [levels.NAME] of the file, if all are fine together, and reloads.
    [[nodiscard]] tl::expected<void, std::string>
    set(const std::string& name, const std::map<std::string, std::string>& values, const std::string& who);

private:
    [[nodiscard]] tl::expected<policy::config, std::string> read() const;

    const config& settings_;
    policy::engine& engine_;
    alarm_board& alarms_;
};

} // namespace tandem::control
