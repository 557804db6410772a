// SPDX-License-Identifier: Apache-2.0
// A call as call control knows it: two sides (0 = who made the call's first offer, 1 = who answers), media lines, and
// on each line what either side's SDP last said. Offer and answer (RFC 3264) are pure functions here: SDP in, wishes to
// the media relay and SDP out; ng_server.cpp carries them between the two. One thread: the control plane's io_context.
//
// Offer and answer are worked out on a copy of the call, which takes the call's place when all has been had. A re-offer
// changes nothing that is in force: its lines wait beside (`reoffered`) for their answer, so that a refused one leaves
// the call as it was. Keys are wiped and never saved; a recovered call gets new ones at its next offer.
#pragma once

#include <array>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/callcontrol/ng_request.hpp"
#include "controlplane/callcontrol/sdp_rewrite.hpp"
#include "controlplane/media/types.hpp"
#include "controlplane/protocol/moment.hpp"

namespace tandem::callcontrol {

using side = unsigned; // 0 or 1
[[nodiscard]] constexpr side other(side s) noexcept {
    return 1 - s;
}

// Where a leg is; decides its ports, so a change of it needs a new media.
struct place {
    media::leg_kind kind = media::leg_kind::core;
    std::string unit;
    std::string interface;
    bool ipv6 = false;
    friend bool operator==(const place&, const place&) = default;
};

struct sdes_state {
    std::uint32_t tag = 1;
    std::optional<api::suite> suite; // nothing = clear
    protocol::kept_secret receive, send;
    std::uint8_t mki_length = 0; // 0 = none; both ways
    std::uint32_t receive_mki = 0, send_mki = 0;
};

struct leg {
    place where;
    std::optional<media::endpoint> rtp, rtcp; // the peer's
    bool learn = false;                       // the SDP's address cannot be sent to: learn from the first packet
    media::source_wish source;                // where its media may come from
    bool mux = false;                         // RTCP muxed on this leg
    sdp::way direction = sdp::way::sendrecv;  // as this side said
    bool held = false;                        // by c=0.0.0.0
    sdp::transport profile;                   // in this side's SDP
    sdes_state keys;
    std::vector<sdp::crypto_line> offered; // our a=crypto in the last offer to this side
    std::vector<sdp::crypto_line> earlier; // and in those before it that somebody may still answer
    bool mux_offered = false;              // in the last offer to, or from, this side
};

struct media_line {
    std::uint32_t index = 0;
    std::string kind;
    media::media_id id = 0; // 0 = none: rejected or removed
    bool answered = false;
    std::uint32_t clock_rate = 8000; // of the first payload type
    std::array<std::uint8_t, 3> retransmissions{};
    std::array<leg, 2> legs;
    std::array<media::leg_local, 2> local;
};

// The version in the o= that a side was shown, where we count it (replace: sdp-version), and of what.
struct shown_version {
    std::optional<std::uint64_t> number;
    std::size_t of = 0; // a hash of that SDP without its version; not saved: after a restart it counts on
};

// A call, or one branch of it where it forked (branches.hpp).
struct call {
    std::string call_id;
    std::uint32_t branch = 0;                      // its number, by which the relay tells its media from the others'
    std::string via_branch;                        // of the offer that began it; may be empty
    std::optional<asio::ip::address> source;       // and where that came from (received-from)
    unsigned ringing = 0;                          // offers without a to-tag that went out under this branch
    std::uint32_t settled = 0;                     // the greatest of the call's branches answered last; 0 = not yet
    std::chrono::steady_clock::time_point offered; // the wall clock may jump; not saved
    std::array<std::vector<std::string>, 2> tags;  // side 1 has several where the call forked; the last is the latest
    std::string caller, callee;
    std::string caller_domain, callee_domain, wish, dialled; // metadata, for policy
    bool callee_offered = false;                             // side 0 is the callee (INVITE without SDP)
    protocol::moment created;
    std::chrono::system_clock::time_point last_signal; // only shown
    std::array<std::string, 2> interfaces;             // as `direction` named them last, by side
    std::vector<media_line> lines;                     // in force; before the first answer, as offered
    std::optional<std::vector<media_line>> reoffered;  // as a re-offer wants them that has no answer yet
    side offerer = 0;                                  // of the last offer
    bool opening = false;                              // that had no to-tag: who answers it need not be who did before
    bool answered = false;
    std::array<shown_version, 2> versions;
    // Of the last offer: what to tell its sender in the answer.
    bool accept_mux = false, refuse_mux = false;

    [[nodiscard]] std::optional<side> side_of(const std::string& tag) const;
    void learn_tag(side, const std::string& tag);
    [[nodiscard]] std::vector<media::media_id> media() const; // of all lines, each once
    // The id code that metadata gave for this side.
    [[nodiscard]] const std::string& id_of(side s) const noexcept { return s == caller_side() ? caller : callee; }
    [[nodiscard]] side caller_side() const noexcept { return callee_offered ? 1U : 0U; }
};

// For the error reply. `of`: only room is missing, and another gateway may have it.
struct reason {
    reason(std::string t, media::shortage s = media::shortage::none)
        : text(std::move(t)), of(s) {} // NOLINT: mostly a text
    reason(const char* t) : text(t) {} // NOLINT
    std::string text;
    media::shortage of = media::shortage::none;
};
template <class T>
using outcome = tl::expected<T, reason>;

// What an offer asks of one media line.
struct line_plan {
    bool reject = false; // towards the other side: port 0
    bool reopen = false; // ports must be taken (new line, or a leg moves)
};

// Whether there is something in the offer that can be carried. What is refused here never becomes an offer of nothing.
[[nodiscard]] outcome<void> can_carry(const sdp::session& offer);

// Reads one m= line of `from`'s offer into the line. `to` is where the other leg is. Changes only the line.
[[nodiscard]] outcome<line_plan> take_offer(const call&, media_line&, const sdp::media&, side from,
                                            const place& from_where, const place& to_where, const request&);
// Reads one m= line of the answer. False = rejected.
[[nodiscard]] outcome<bool> take_answer(const call&, media_line&, const sdp::media&, side from, const request&);

// An address of a private network (RFC 1918, 6598, 4193).
[[nodiscard]] bool is_private(const asio::ip::address&);
// An address that nobody beyond the sender's own link or host can send to.
[[nodiscard]] bool is_local_only(const asio::ip::address&);

// For the relay, from what the line knows; remotes and keys only where `complete`.
[[nodiscard]] media::media_request relay_request(const call&, const media_line&, bool complete);

// The SDP line that goes to side `to`.
[[nodiscard]] sdp::media_rewrite rewrite_for_offer(const media_line&, side to);
[[nodiscard]] sdp::media_rewrite rewrite_for_answer(const media_line&, side to);
[[nodiscard]] sdp::rewrite_options rewrite_options_of(const request&);

// A call's branches as JSON without keys, for the call_store. load: nothing where it is not ours.
[[nodiscard]] std::string save(const std::vector<call>&);
[[nodiscard]] std::optional<std::vector<call>> load(std::string_view json);

} // namespace tandem::callcontrol
