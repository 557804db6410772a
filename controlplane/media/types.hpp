// SPDX-License-Identifier: Apache-2.0
// The values that call control and media exchange (relay.hpp says how). No coroutines, so that parsers which use them
// can be fuzzed with any clang. Pure; any thread.
#pragma once

#include <array>
#include <asio/ip/address.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/policy/decide.hpp"
#include "controlplane/protocol/moment.hpp"
#include "controlplane/protocol/secret.hpp"
#include "dataplane/api/suites.hpp"

namespace tandem::media {

// One over all gateways: the gateway's part (22 bits of its instance name's digest) above the number that its units
// know it by (31 bits). 53 bits, so that every reader of JSON keeps them.
using media_id = std::uint64_t;
inline constexpr unsigned media_number_bits = 31;
[[nodiscard]] constexpr std::uint32_t number_of(media_id id) noexcept {
    return static_cast<std::uint32_t>(id & ((media_id{1} << media_number_bits) - 1));
}

// What is known of one media, whoever holds it (facts.hpp: a leg's, and their names).
struct facts {
    media_id id = 0;
    std::string call_id;
    std::uint32_t branch = 0; // of a forked call
    std::uint32_t index = 0;  // media line
    std::string kind, caller, callee, caller_domain, callee_domain;
    std::string caller_unit, callee_unit; // whose legs they are; empty: told by their names
    // Its own, with its values: a running call keeps those with which it began. No name where no leg is a unit's.
    policy::level level{.name = {}, .suite = {}, .seed_bytes = 0, .rekey = {}, .overlap = {}};
    std::string decided_by;
    std::vector<policy::step> why;     // every rule that was asked
    protocol::moment opened, answered; // answered: `was()` where it was
    std::uint32_t rekeys = 0, rekey_failures = 0;
    std::uint32_t seeds_made = 0, seeds_from_units = 0; // for it: by the gateway's generator, by its units

    [[nodiscard]] double interval_s() const noexcept { return std::chrono::duration<double>(level.rekey).count(); }
};

struct endpoint {
    asio::ip::address address;
    std::uint16_t port = 0;
    friend bool operator==(const endpoint&, const endpoint&) = default;
};

enum class leg_kind {
    core, // plain RTP or SDES-SRTP towards a phone or trunk in the core
    unit, // secondary tunnel towards a unit's agent; the phone behind it speaks plain RTP to an inner address
};

// SDES keys of a core leg (RFC 4568), both directions. Wiped by secret's destructor.
struct sdes {
    api::suite suite{};
    protocol::kept_secret receive; // key || salt that the peer sends under
    protocol::kept_secret send;    // key || salt that we send under
    // Of a=crypto lines with an MKI (RFC 4568 6.1): its length on the wire, 0 = none, and either side's value.
    std::uint8_t mki_length = 0;
    std::uint32_t receive_mki = 0, send_mki = 0;
    friend bool operator==(const sdes&, const sdes&) = default;
};

// Where clear media of a core leg may come from (README.md): only from where signalling says; learned after each offer
// or answer and then kept; wherever the last packet came from.
enum class learning : std::uint8_t { off, once, always };

struct source_wish {
    std::optional<learning> how;                     // nothing: as configured for the interface
    bool strict = false;                             // the port counts, too
    std::optional<asio::ip::address> signalled = {}; // in the SDP, where `remote_rtp` is not that
    std::optional<asio::ip::address> received_from = {};
    friend bool operator==(const source_wish&, const source_wish&) = default;
};

struct leg_request {
    leg_kind kind = leg_kind::core;
    std::string unit;      // id code; unit legs
    std::string interface; // logical address name for core legs ("core"); empty = default
    bool ipv6 = false;     // family of the address that goes into this leg's SDP
    bool rtcp_mux = false;
    std::optional<endpoint> remote_rtp; // the peer's, from its SDP; none before the answer
    std::optional<endpoint> remote_rtcp;
    bool remote_unroutable = false; // SDP address is private/zero: learn from the first packet (core, clear)
    std::optional<sdes> srtp;       // core legs
    source_wish source;             // core legs
};

// What goes into the SDP towards this leg.
struct leg_local {
    endpoint rtp;
    endpoint rtcp; // equals rtp where muxed
    friend bool operator==(const leg_local&, const leg_local&) = default;
};

struct media_request {
    std::string call_id;
    std::uint32_t branch = 0;                      // of a forked call: which of those that are asked
    std::uint32_t index = 0;                       // media line
    std::string kind;                              // "audio", "video"
    std::string caller, callee;                    // from metadata, for policy and records
    std::string caller_domain, callee_domain;      // likewise; empty where not given
    std::string caller_unit, callee_unit;          // whose legs they are; empty = no unit's
    std::string wish;                              // the caller's: a level's name (metadata `level`)
    std::string dialled;                           // as dialled, a level prefix perhaps included (metadata `dialled`)
    std::uint32_t clock_rate = 8000;               // of the first payload type, for jitter in time
    std::array<std::uint8_t, 3> retransmissions{}; // their payload types (RFC 4588); 0: none
    std::array<leg_request, 2> legs;               // 0 = offerer of the call's first offer, 1 = answerer
    std::array<bool, 2> forward{true, true};       // [0]: towards leg 0 is sent (hold / a=sendonly ... switch it off)
    bool running = false;                          // of a call that was answered: it may use the last room there is
    bool early = false; // carried before the answer: the offerer's leg is known, the other's is learned
};

struct media_locals {
    media_id id = 0;
    std::array<leg_local, 2> legs;
};

// What an answer makes of one media.
struct media_change {
    media_id id = 0;
    media_request request;
};

struct direction_stats { // what one leg received
    std::uint64_t packets = 0, bytes = 0, lost = 0, auth_failures = 0, replays = 0, drops = 0;
    std::uint64_t wrong_source = 0; // of the drops: from somebody else
    std::uint64_t sent_on = 0;      // of these, forwarded to the other leg
    // This leg's own reports of what it hears (RTCP, RFC 3550 6.4.1).
    std::uint64_t reports = 0, reported_lost = 0;
    double jitter_ms = 0, max_jitter_ms = 0;
    double seconds_since_packet = -1;
};

struct leg_info {
    leg_kind kind{};
    std::string unit;
    leg_local local;                // as SDP names it: of a unit's leg the inner one
    leg_local outer;                // where its packets come to
    std::optional<endpoint> remote; // latched
    std::string_view source_rule;   // by which it was; empty where it is as signalled or not known yet
    double source_seconds = -1;     // since when
    std::string_view learning;      // of clear core legs: off, once, always
    std::string suite;
    std::uint32_t epoch = 0;
    std::optional<policy::key_source> keys; // who made the epoch in force; none for core legs and where it is not known
    direction_stats received;
};

// The level is empty where no leg is a unit's.
struct media_info : facts {
    std::string mode = "hop";
    double seconds = 0;
    bool active = false;
    std::array<leg_info, 2> legs;
};

[[nodiscard]] constexpr std::string_view name_of(learning how) noexcept {
    return how == learning::off ? "off" : how == learning::once ? "once" : "always";
}
[[nodiscard]] constexpr std::optional<learning> learning_of(std::string_view name) noexcept {
    for (const auto how : {learning::off, learning::once, learning::always})
        if (name == name_of(how))
            return how;
    return std::nullopt;
}

// What is missing where that is all that is wrong: another gateway may have it.
enum class shortage : std::uint8_t { none, ports, flows, data_plane };

// A clear sentence for the ng error reply or the CLI: what is wrong, what to do.
struct error {
    std::string text;
    shortage of = shortage::none;
};
template <class T>
using result = tl::expected<T, error>;

} // namespace tandem::media
