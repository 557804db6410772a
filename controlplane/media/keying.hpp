// SPDX-License-Identifier: Apache-2.0
// With which keys a leg runs, whoever makes them (key_kind.hpp: how it comes by them): their numbers, and the seeds
// that they are from. Owner thread: io_context.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "controlplane/media/terms.hpp"

namespace tandem::media {

// Seeds of one epoch of a secondary: one, or (seed-is-key) one per direction, unit -> gateway first. Wiped with it.
struct epoch_seeds {
    std::uint32_t epoch = 0;
    policy::key_source source{}; // who made them in the end: the gateway steps in for a unit that does not
    std::array<protocol::secret, 2> seed;
    std::array<protocol::secret, 2> half; // the gateway's, where both made them: what MEDIA_OPEN and SEED carry
    [[nodiscard]] bool known() const noexcept { return !seed[0].empty(); }
    void clear() noexcept {
        for (auto* pair : {&seed, &half})
            for (auto& one : *pair)
                one.clear();
    }
};

// Which keys of a leg that signalling keys are new after a change, and their numbers.
struct key_step {
    bool fresh_in = false, fresh_out = false;
    std::uint32_t in_epoch = 0, epoch = 0;
};

struct keying {
    std::uint32_t epoch = 0;    // in force (sending); keys of signalling are counted here too
    std::uint32_t in_epoch = 0; // of what the peer sends, where that is another
    std::uint32_t highest = 0;  // ever installed: the data plane takes no lower one again
    bool keyed = false;         // an epoch was installed in this flow's life
    bool stale = false;         // only a new start helps: the seed is lost, or the unit may be on another
    epoch_seeds current, next;  // next: sent or to be sent, not acknowledged
    bool next_installed = false;
    std::uint32_t unanswered = 0;                                                // SEED_MAKEs in a row
    std::optional<std::pair<std::uint32_t, std::array<std::uint8_t, 16>>> heard; // of the unit's last: epoch, digest
    bool replaced = false; // the unit should make the seeds and does not: the gateway does (an alarm)
    std::vector<std::uint32_t> retiring;

    // The number of an epoch that begins a secondary; an epoch number never comes back with other keys.
    std::uint32_t begin_next();
    void begin(epoch_seeds seeds);                         // a secondary is in force under these
    void begin(const leg_terms& is, const key_step& keys); // signalling's keys are, or none
    void adopt_next();                                     // the unit has taken what was next
    void forget();                                         // seeds are wiped: the media is over, or not in force
    // Of keys that change; an unchanged key keeps its epoch.
    [[nodiscard]] std::uint32_t number_after() const noexcept;
    // The unit has answered the SEED of what is in force, and none other is under way.
    [[nodiscard]] bool settled() const noexcept { return current.known() && !next.known() && !stale; }
    // An epoch that is in force, next, or of a leg whose epochs are not known for sure.
    [[nodiscard]] bool knows(std::uint32_t number) const noexcept {
        return stale || number == epoch || number == in_epoch || (next.known() && number == next.epoch);
    }
};

} // namespace tandem::media
