// SPDX-License-Identifier: Apache-2.0
// Seeds that this unit makes (RIM-28, RIM-29): from the kernel's generator, kept for their media and epoch until that
// epoch is over, the media is, or nobody used them in time. What is asked again is answered the same. Nothing of a seed
// is ever shown. Owner: the agent's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/protocol/secret.hpp"
#include "controlplane/protocol/types.hpp"

namespace tandem::agent {

using protocol::key_source;

class seed_store {
public:
    using clock = std::chrono::steady_clock;
    static constexpr std::size_t most_media = 64, most_epochs = 4; // of one media
    static constexpr std::chrono::seconds patience{60};            // for one that is not used

    seed_store() = default;

    // SEED_MAKE. The seeds stay the store's.
    [[nodiscard]] tl::expected<const std::vector<protocol::secret>*, protocol::status>
    make(std::uint32_t media, std::uint32_t epoch, std::size_t bytes, std::size_t count, clock::time_point now);

    // The seeds of an epoch by their source: the gateway's as they are, ours, or the XOR of both.
    // `theirs` are the TLVs that the message had. bad_seed where we have none, or where they do not match.
    [[nodiscard]] tl::expected<std::vector<protocol::secret>, protocol::status>
    combine(std::uint32_t media, std::uint32_t epoch, key_source source, std::vector<protocol::secret> theirs) const;

    // The epoch is in force: older ones go, and its own, too, where the gateway made it alone. It is kept otherwise:
    // the gateway may ask again.
    void used(std::uint32_t media, std::uint32_t epoch, key_source source);
    void forget(std::uint32_t media);
    void clear() { held_.clear(); }
    void expire(clock::time_point now); // those that nobody used

    [[nodiscard]] std::size_t size() const noexcept; // epochs held
    [[nodiscard]] std::uint64_t made() const noexcept { return made_; }

private:
    struct entry {
        std::vector<protocol::secret> seeds;
        clock::time_point made_at;
        bool in_use = false;
    };
    std::map<std::uint32_t, std::map<std::uint32_t, entry>> held_; // media, epoch
    std::uint64_t made_ = 0;
};

} // namespace tandem::agent
