// SPDX-License-Identifier: Apache-2.0
// What is known of one media, once: held by the media that runs, its row in the journal, its record, what is told of it
// (media_info) and their JSON. A new fact is a member here and a line in its visitor below; a column of its own, where
// it gets one, is the schema's. Pure; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/media/types.hpp"
#include "controlplane/policy/decide.hpp"
#include "controlplane/protocol/moment.hpp"

namespace tandem::media {

// Of what a leg is, as signalled and as taken; a journal's row adds its port, the media itself its keys.
struct leg_facts {
    leg_kind kind{};
    std::string unit;
    std::uint64_t tsid = 0; // unit legs
    bool second = false;    // of a media whose both legs are this unit's: of its two secondaries, the one with the mark
    std::string interface;
    bool ipv6 = false;
    std::uint32_t address_index = 0;
    leg_local local;  // what the SDP shows
    bool mux = false; // in the SDP
    bool unroutable = false;
    std::optional<endpoint> remote_rtp, remote_rtcp; // from the SDP; of a unit leg: the phone's inner address
    std::optional<endpoint> hint;                    // unit legs: where the unit says that its media comes from
    source_wish source{.how = learning::once};       // core legs; `how` is decided
    api::suite suite = api::suite::clear;
    friend bool operator==(const leg_facts&, const leg_facts&) = default;
};

// Of both directions.
struct line_facts {
    std::uint32_t clock_rate = 8000;
    std::array<std::uint8_t, 3> retransmissions{};
    std::array<bool, 2> forward{true, true};
    friend bool operator==(const line_facts&, const line_facts&) = default;
};

enum class fact_of : std::uint8_t { record, row }; // in rows and records; in rows alone

template <class Facts, class Visit>
void each_fact(Facts& of, Visit&& visit) {
    visit("index", of.index, fact_of::record);
    visit("kind", of.kind, fact_of::record);
    visit("caller", of.caller, fact_of::record);
    visit("callee", of.callee, fact_of::record);
    visit("rekeys", of.rekeys, fact_of::record);
    visit("rekey_failures", of.rekey_failures, fact_of::record);
    visit("seeds_made", of.seeds_made, fact_of::record);
    visit("seeds_from_units", of.seeds_from_units, fact_of::record);
    visit("branch", of.branch, fact_of::row);
    visit("caller_domain", of.caller_domain, fact_of::row);
    visit("callee_domain", of.callee_domain, fact_of::row);
    visit("caller_unit", of.caller_unit, fact_of::row);
    visit("callee_unit", of.callee_unit, fact_of::row);
} // id, call_id, opened, answered, level, decided_by, why: written by hand, each in its own way

template <class Facts, class Visit>
void each_line_fact(Facts& of, Visit&& visit) {
    visit("clock_rate", of.clock_rate);
    visit("retransmissions", of.retransmissions);
    visit("forward", of.forward);
}

template <class Facts, class Visit>
void each_leg_fact(Facts& of, Visit&& visit) {
    visit("kind", of.kind);
    visit("unit", of.unit);
    visit("tsid", of.tsid);
    visit("second", of.second);
    visit("interface", of.interface);
    visit("address_index", of.address_index);
    visit("local_rtp", of.local.rtp);
    visit("local_rtcp", of.local.rtcp);
    visit("ipv6", of.ipv6);
    visit("mux", of.mux);
    visit("unroutable", of.unroutable);
    visit("remote_rtp", of.remote_rtp);
    visit("remote_rtcp", of.remote_rtcp);
    visit("hint", of.hint);
    visit("learning", of.source.how);
    visit("strict", of.source.strict);
    visit("signalled", of.source.signalled);
    visit("received_from", of.source.received_from);
    visit("suite", of.suite);
}

} // namespace tandem::media
