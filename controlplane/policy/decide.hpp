// SPDX-License-Identifier: Apache-2.0
// Which level a call gets, and why:
//   level = clamp(floor, max(security database by either address, device contacts, call profile, caller's wish),
//   ceiling)
// A row of the security database that denies the call has the first and last word: nothing else is asked then.
// Nothing known: the default. The caller's wish may raise, never lower. A store that fails gives the default, never a
// lost call. The interface that media/ asks; `engine` (engine.hpp) is the real one.
// Owner thread: the control plane's io_context.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/policy/levels.hpp"

namespace tandem::policy {

// One end of a call, as signalling names it.
struct party {
    std::string id;        // id code, user part of the SIP address, or telephone number
    std::string domain;    // of its SIP address; empty where it is not known
    std::string unit = {}; // whose leg it is: asked beside `id`; empty = no unit's
};

// What a unit of the call said about it (CONTACT exchange): from its own contacts and its own history. Names of levels
// are the unit's words: a level that does not exist is refused and counted.
struct advice {
    std::string unit;
    std::string contact_level;      // empty: its contacts say nothing
    std::string profile_level;      // empty: its history says nothing
    std::string text;               // for people: which contact, which history
    std::optional<key_source> keys; // who it wishes to make the seeds
};

struct question {
    party caller, callee;
    std::string wish;    // a level's name, asked for by the caller's SIP header; empty = none
    std::string dialled; // what the caller dialled: a prefix of it may name a level
    std::vector<advice> devices;
};

// One rule that was asked.
struct step {
    std::string
        rule; // "security database: caller", "contacts of alice", "call profile: duration", "caller's wish", ...
    std::string level; // what it said; empty = nothing
    std::string text;  // why, for people
    bool decided = false;
    friend bool operator==(const step&, const step&) = default;
};

struct decision {
    level chosen;           // with the call's own key source and path already in it
    std::string decided_by; // the rule of the step that decided
    std::vector<step> steps;
    // There is no such call, and why: for whoever asked for it. `chosen` is no level then, only the name `deny`.
    std::optional<std::string> denied{};
};

class decider {
public:
    virtual ~decider() = default;
    // For a call: counts what it refuses.
    [[nodiscard]] virtual decision decide(const question& call) = 0;
    // Where the call is denied, that decision, counted; nothing where it may be.
    [[nodiscard]] virtual std::optional<decision> denies(const question& call) = 0;
    [[nodiscard]] virtual bool may_deny() const { return true; } // false: no row denies anybody
    // The same decision without counting, for people.
    [[nodiscard]] virtual decision explain(const question& call) const = 0;
    // A level by its name; the default where the name is gone.
    [[nodiscard]] virtual level by_name(std::string_view name) const = 0;
};

} // namespace tandem::policy
