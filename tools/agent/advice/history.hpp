// SPDX-License-Identifier: Apache-2.0
// The unit's own history of its calls, a profile a peer (RIM-27), and what it expects of the next call: the longer, the
// higher the level (RIM-26). Kept in STATE_DIR/profiles.json, so that it outlives the agent; without a state_dir in
// memory only. Bounded: 1,000 peers of 64 calls, the peer longest unheard of goes first.
//
// Owner: the agent's thread. `tandem-agent profiles` works on the same file; each sees the other's changes.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/protocol/profile.hpp"
#include "tools/agent/advice/state_file.hpp"

namespace tandem::agent {

enum class expectation { median, mean, last };

struct profile_rules {
    struct threshold {
        std::chrono::seconds at_least;
        std::string level;
    };
    expectation of = expectation::median;
    std::size_t least_calls = 3; // fewer say nothing
    std::chrono::hours age{90 * 24};
    std::vector<threshold> duration; // rising
};

using profiles = std::map<std::string, protocol::profile>; // by peer

[[nodiscard]] tl::expected<profiles, std::string> parse_profiles(std::string_view text, const std::string& own,
                                                                 const std::string& file);
[[nodiscard]] std::string format_profiles(const profiles& all);

// What is expected of the next call by these rules; nothing where the history is too thin.
[[nodiscard]] std::optional<std::chrono::milliseconds> expected_length(const protocol::summary& of,
                                                                       const profile_rules& rules) noexcept;
[[nodiscard]] std::string level_for(std::chrono::milliseconds length, const profile_rules& rules); // empty: none

class history {
public:
    static constexpr std::size_t most_pairs = 1000, most_bytes = 8U << 20;
    using time_point = std::chrono::system_clock::time_point;

    history(std::string own, std::string directory, profile_rules rules);

    void refresh(); // what another program changed; what could not be written before
    void add(const std::string& peer, const protocol::past_call& call);
    // 0 or 1; every peer where it is empty. The errors are sentences.
    [[nodiscard]] tl::expected<std::size_t, std::string> forget(const std::string& peer);

    struct advice {
        std::string level; // empty: the history gives none
        std::string text;  // "12 calls with +46701234567, median 905 s"
    };
    // The first of one peer's names that has a history; nothing where none has.
    [[nodiscard]] std::optional<advice> advise(const std::vector<std::string>& peers, time_point now) const;

    [[nodiscard]] const profiles& all() const noexcept { return all_; }
    [[nodiscard]] const profile_rules& rules() const noexcept { return rules_; }
    [[nodiscard]] const std::string& error() const noexcept { return error_; }

private:
    [[nodiscard]] bool read();
    void apply(const std::string& peer, const protocol::past_call& call);
    void complain(const std::string& what);

    std::string own_, directory_, path_;
    profile_rules rules_;
    profiles all_;
    std::vector<std::pair<std::string, protocol::past_call>> unwritten_;
    std::string error_;
    file_stamp stamp_;
    bool broken_ = false;
};

} // namespace tandem::agent
