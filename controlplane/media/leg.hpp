// SPDX-License-Identifier: Apache-2.0
// One side of a media as it runs, whatever its terms: its keys, where it was heard, how long it is silent, what was
// counted of flows that it had before. Owner thread: io_context.
#pragma once

#include <asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/media/keying.hpp"
#include "controlplane/media/spawned.hpp"
#include "dataplane/api/contract.hpp"

namespace tandem::media {

// What a unit was asked about a call (CONTACT), and the answer under way; media of one call share it.
struct contact_asked {
    std::string unit;
    std::vector<std::string> peers;
    std::shared_ptr<spawned<std::optional<policy::advice>>> answer;
};

struct leg : keying {
    explicit leg(asio::io_context& io) : tick(io) {}

    using clock = std::chrono::steady_clock;
    std::optional<endpoint> latched; // where its media really comes from
    api::source_rule rule{};         // by which
    clock::time_point latched_since;

    std::shared_ptr<contact_asked> contact;
    asio::steady_timer tick; // of its re-keys
    bool kicked = false;     // re-key now
    bool looping = false;
    bool untold = false; // a process before may have told its unit of a change that was never made

    direction_stats before;     // of earlier flows of this media
    std::uint64_t last_rtp = 0; // silence check
    clock::time_point last_progress = clock::now();
    bool silent = false; // data plane said so

    void latch(endpoint where, api::source_rule by, clock::time_point since) {
        latched = std::move(where);
        rule = by;
        latched_since = since;
    }
    void hear_anew() {
        silent = false;
        last_progress = clock::now();
        last_rtp = 0;
    }
    // Any packet since the last look is a sign of life.
    void saw(std::uint64_t packets, clock::time_point now) {
        if (packets != last_rtp)
            last_progress = now;
        last_rtp = packets;
    }
    void kick() {
        kicked = true;
        tick.cancel();
    }
};

} // namespace tandem::media
