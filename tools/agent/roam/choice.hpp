// SPDX-License-Identifier: Apache-2.0
// Which network the device is on: classes in order of preference, what they cost, how strong their signal must be
// (COL-09 to COL-14, COL-45). Pure: no I/O, no clock; who owns it tells what the kernel says and what time it is.
//
// A path of lower standing is never preferred to one of a higher (good, weak, silent, none). Among equals the order
// counts, but a time-billed one gives way to any other that is as good while the device is idle. A path that still
// works is left only for one that has had its standing for its class's hysteresis; one that does not work is left at
// once. Owner: the agent's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tools/agent/device/packet.hpp"

namespace tandem::agent {

using path_time = std::chrono::steady_clock::time_point;

enum class billing : std::uint8_t { flat, volume, time };

// A [[path]] of agent.toml; their order is the order of preference.
struct path_class {
    std::string name;
    std::vector<std::string> interfaces; // patterns
    billing cost = billing::flat;
    std::chrono::seconds hysteresis{5};       // a better one is moved to after it has been there for so long
    std::optional<int> threshold_dbm;         // a signal that is known must be above it
    std::optional<std::chrono::seconds> idle; // time-billed only: left for another after so long without traffic
};

// What is known of an interface of such a class. Addresses are of the gateway's family.
struct path_facts {
    std::string interface;
    std::size_t order = 0; // of its class in the configuration
    bool up = false;       // hardware is there and switched on
    bool carrier = false;
    std::vector<ip_bytes> addresses;
    std::optional<ip_bytes> source; // that the kernel would send to the gateway from; nothing: no route
    std::optional<int> signal_dbm;  // nothing: the kernel tells none
};

enum class standing : std::uint8_t {
    good,
    weak,   // works, but the signal is not above the threshold
    silent, // works as far as the kernel knows, but no gateway answered over it a short time ago
    no_route,
    no_address,
    no_carrier,
    off, // hardware missing, switched off or blocked (rfkill)
};
[[nodiscard]] const char* name_of(standing how) noexcept;
[[nodiscard]] inline bool works(standing how) noexcept {
    return how <= standing::silent;
}

enum class move_kind : std::uint8_t { none, soft, hard }; // soft: the old one is still there
enum class move_reason : std::uint8_t {
    none,
    first,   // none was in use
    lost,    // the old one does not work any more
    weak,    // its signal fell to the threshold
    silent,  // no gateway answers over it
    better,  // one that is preferred is there
    idle,    // nothing is sent: away from a time-billed one
    traffic, // something is sent again: back to the preferred one
    moved,   // the same interface, another address
    no_path, // nothing works
};
[[nodiscard]] const char* name_of(move_kind kind) noexcept;
[[nodiscard]] const char* name_of(move_reason reason) noexcept;

struct path_place {
    std::string interface; // empty: none
    ip_bytes source{};
    friend bool operator==(const path_place&, const path_place&) = default;
};

struct decision {
    move_kind kind = move_kind::none; // none: stay
    move_reason reason = move_reason::none;
    path_place from, to;          // to: empty with no_path
    standing was = standing::off; // of the old one, now
};

class path_choice_maker {
public:
    explicit path_choice_maker(std::vector<path_class> classes);

    // The whole of what is known now; an interface that is not in it is gone.
    void learn(const std::vector<path_facts>& all, path_time now);
    // A packet of an application or of media went either way.
    void traffic(path_time now) noexcept;
    // Nothing answered over it: others come first for a while, which grows from failure to failure.
    void failed(const std::string& interface, path_time now);
    void answered(const std::string& interface);

    // Where to be now; asked when something was learned, each second, and at idle_at(). A move is taken as done: the
    // next answer starts from it.
    [[nodiscard]] decision decide(path_time now);

    struct known {
        path_facts facts;
        standing how = standing::off;
        path_time good_since{}, working_since{}; // while it is so
        std::optional<path_time> silent_until;
        unsigned failures = 0;
    };
    [[nodiscard]] const std::map<std::string, known>& paths() const noexcept { return paths_; }
    [[nodiscard]] const std::vector<path_class>& classes() const noexcept { return classes_; }
    [[nodiscard]] const path_place& in_use() const noexcept { return in_use_; }
    [[nodiscard]] std::optional<std::chrono::milliseconds> idle_for(path_time now) const;
    // When the one in use will have been idle for too long, should nothing be sent; none: it never is.
    [[nodiscard]] std::optional<path_time> idle_at() const;

    static constexpr std::chrono::seconds first_silence{5}, longest_silence{300};

private:
    [[nodiscard]] const path_class& class_of(const known& path) const { return classes_[path.facts.order]; }
    [[nodiscard]] standing standing_of(const known& path, path_time now) const;
    void put(known& path, path_time now) const;
    [[nodiscard]] bool busy(std::chrono::seconds for_so_long, path_time now) const;
    [[nodiscard]] bool gives_way(const known& path, path_time now) const;
    [[nodiscard]] bool precedes(const known& a, const known& b, path_time now) const;
    [[nodiscard]] bool ripe(const known& path, path_time now) const;
    [[nodiscard]] const known* best(bool ripe_only, path_time now) const;
    [[nodiscard]] move_reason why_left(const known& old, const known& fresh, path_time now) const;
    decision go(move_kind kind, move_reason reason, const known* to, standing was);

    std::vector<path_class> classes_;
    std::map<std::string, known> paths_; // by interface
    path_place in_use_;
    std::optional<path_time> idle_since_; // the last packet, or the begin
    std::optional<path_time> busy_since_;
    std::chrono::seconds pause_{1}; // that ends being busy: the longest hysteresis of a time-billed class
};

// Whether a packet of the TUN is an application's: what the kernel itself says to its neighbours there (IGMP, ICMPv6
// neighbour and multicast listener discovery) is none.
[[nodiscard]] bool is_application_traffic(std::span<const std::uint8_t> packet) noexcept;

} // namespace tandem::agent
