// SPDX-License-Identifier: Apache-2.0
// Moves of units from one network to another, as the gateway saw them: the last ones, and how many there were. In
// memory alone. Pure. Owner thread: the io_context's.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/link/endpoint.hpp"
#include "controlplane/protocol/moment.hpp"
#include "controlplane/session/directory.hpp"
#include "controlplane/session_layer/types.hpp"

namespace tandem::session {

// What the unit's streams did then; nothing of it where there are none.
struct streams_move {
    session_layer::handover_kind kind;
    std::chrono::milliseconds took;
    std::uint64_t octets_again;
};

struct handover {
    std::uint64_t number = 0; // from 1, never again
    protocol::moment at{};    // the new primary serves
    tsid session = 0;
    std::string unit{};
    link::endpoint from{}, to{};
    std::chrono::milliseconds without{}; // a primary: from its loss, as this end saw it, to the new one
    std::string ended{};                 // how the one before ended; empty: it was still there
    std::optional<streams_move> streams{};
};

class handovers {
public:
    static constexpr std::size_t most = 4096;           // kept; the oldest go
    static constexpr std::chrono::seconds together{30}; // streams follow their primary within

    struct totals {
        std::uint64_t moves = 0, after_loss = 0; // the one before had ended by then
        std::uint64_t streams_soft = 0, streams_hard = 0, octets_again = 0;
        std::chrono::milliseconds longest_without{}, longest_streams{};
    };

    void primary_moved(handover one); // its number is given here
    void streams_moved(const std::string& unit, streams_move how);

    // Newest first, of that unit where one is named.
    [[nodiscard]] std::vector<const handover*> list(const std::string& unit, std::size_t count) const;
    [[nodiscard]] const handover* find(std::uint64_t number) const;
    [[nodiscard]] const totals& total() const noexcept { return total_; }
    [[nodiscard]] std::size_t kept() const noexcept { return all_.size(); }

private:
    std::deque<handover> all_; // numbers rise by one
    std::uint64_t last_ = 0;
    totals total_;
};

} // namespace tandem::session
