// SPDX-License-Identifier: Apache-2.0
// What an operator must know now: raised and cleared by name, each with a sentence. The log has a line at each change;
// `alarm list` and `status` show those that stand. Owner thread: io_context.
#pragma once

#include <chrono>
#include <map>
#include <string>

namespace tandem::control {

struct alarm {
    std::chrono::system_clock::time_point since;
    std::string text; // what is wrong, what still works, what to do
};

class alarm_board {
public:
    // Again under the same name: the text is renewed, `since` stays, the log gets no further line.
    void raise(const std::string& name, const std::string& text);
    void clear(const std::string& name);
    void set(const std::string& name, bool stands, const std::string& text) {
        stands ? raise(name, text) : clear(name);
    }
    [[nodiscard]] const std::map<std::string, alarm>& standing() const noexcept { return standing_; }

private:
    std::map<std::string, alarm> standing_;
};

// Names; README.md says what each means.
namespace alarms {
inline constexpr const char* store = "store";
inline constexpr const char* records_waiting = "records-waiting";
inline constexpr const char* database = "database";
inline constexpr const char* memory = "memory";
inline constexpr const char* clock = "clock";
inline constexpr const char* levels = "levels";
inline constexpr const char* seeds = "seeds";
inline constexpr const char* dataplane = "dataplane";
inline constexpr const char* restarts = "dataplane-restarts";
inline constexpr const char* carrier = "carrier";
inline constexpr const char* ports = "ports";
inline constexpr const char* addresses = "addresses";
inline constexpr const char* flows = "flow-table";
inline constexpr const char* disk = "disk";
inline constexpr const char* revocation = "revocation";
inline constexpr const char* perimeter = "perimeter";
inline constexpr const char* certificate = "certificate";
inline constexpr const char* sip_names = "sip-names";
} // namespace alarms

} // namespace tandem::control
