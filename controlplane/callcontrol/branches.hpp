// SPDX-License-Identifier: Apache-2.0
// The branches of a call that forked: each offer under a via-branch of its own is worked out, answered and ended by
// itself, with media, keys and transport of its own. Which of them a request is about, by its via-branch and tags.
// Pure; any thread.
#pragma once

#include <optional>
#include <vector>

#include "controlplane/callcontrol/call.hpp"

namespace tandem::callcontrol {

inline constexpr std::size_t most_branches = 32; // of one call

struct offered_place {
    std::optional<std::size_t> at; // nothing: a branch that is not there yet
    side from = 0;
    bool opening = false; // the offer begins a dialogue
    bool new_tag = false; // the caller tries again under another from-tag
};
// Nothing that is there is changed by an offer of somebody else: that is refused.
[[nodiscard]] outcome<offered_place> find_offered(const std::vector<call>&, const request&);

[[nodiscard]] outcome<std::size_t> find_answered(const std::vector<call>&, const request&);

struct ended_place {
    enum class what {
        none,    // nobody is meant that we know
        nothing, // somebody who lost, and had nothing of his own
        tag,     // one of several who answered in the same branch, not the last
        branch,
        whole, // the call
    };
    what part = what::none;
    std::size_t at = 0;
};
[[nodiscard]] ended_place find_ended(const std::vector<call>&, const request&);

// Every stream of it is at one of the call's own ports: we wrote it, and it comes by once more.
[[nodiscard]] bool is_ours(const std::vector<call>&, const sdp::session&);

// The branch that the call is by now: answered last, else offered last. Not of an empty list.
[[nodiscard]] const call& chief(const std::vector<call>&);

// Who began this branch offers again, as far as can be known.
[[nodiscard]] bool same_party(const call&, const request&);

} // namespace tandem::callcontrol
