// SPDX-License-Identifier: Apache-2.0
// What a media's legs are: as asked for, and with what they took for it. What is planned (an offer or answer under way)
// and what is in force are values of this one type: a plan is made beside, and takes the other's place whole, or goes
// and gives back what it alone had taken. Private to this room. Owner thread: io_context.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/media/facts.hpp"
#include "controlplane/media/flow_plan.hpp"
#include "controlplane/media/ports.hpp"
#include "controlplane/media/relay.hpp"
#include "controlplane/session/directory.hpp"

namespace tandem::media {

struct leg_terms : leg_facts {
    leased_port port; // null: none yet
    std::optional<sdes> srtp;

    [[nodiscard]] bool is_unit() const noexcept { return kind == leg_kind::unit; }
    [[nodiscard]] bool known() const noexcept { return remote_rtp || unroutable; }
    // The same secondary: a unit's session, its seeds and epochs go on.
    [[nodiscard]] bool same_secondary(const leg_terms& other) const noexcept {
        return is_unit() && other.is_unit() && tsid == other.tsid && second == other.second && suite == other.suite;
    }
    // Nothing that MEDIA_OPEN tells the unit differs.
    [[nodiscard]] bool same_phone(const leg_terms& other) const noexcept {
        return remote_rtp == other.remote_rtp && remote_rtcp == other.remote_rtcp && mux == other.mux &&
               local.rtp == other.local.rtp && local.rtcp == other.local.rtcp && port == other.port;
    }
    // The same peer, maybe elsewhere or under other keys: what was heard from it and sent to it goes on.
    [[nodiscard]] bool same_peer(const leg_terms& other) const noexcept {
        return kind == other.kind && (!is_unit() || same_secondary(other));
    }
    // The media's number as the leg's unit knows it (numbers have no highest bit of their own).
    [[nodiscard]] std::uint32_t told(media_id id) const noexcept {
        return second ? number_of(id) | 0x8000'0000 : number_of(id);
    }
    [[nodiscard]] leg_shape shape() const;
};

struct media_terms : line_facts {
    std::array<leg_terms, 2> legs;

    [[nodiscard]] bool complete() const noexcept { return legs[0].known() && legs[1].known(); }
    [[nodiscard]] bool has_unit() const noexcept { return legs[0].is_unit() || legs[1].is_unit(); }
    [[nodiscard]] bool on_hold() const noexcept { return !forward[0] && !forward[1]; }
    [[nodiscard]] std::array<leg_shape, 2> shapes() const { return {legs[0].shape(), legs[1].shape()}; }
};

} // namespace tandem::media
