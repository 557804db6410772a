// SPDX-License-Identifier: Apache-2.0
// One media as the manager holds it. Private to this room. Owner thread: io_context.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/media/async_lock.hpp"
#include "controlplane/media/flow_plan.hpp"
#include "controlplane/media/manager.hpp"
#include "controlplane/media/spawned.hpp"

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

// What a unit was asked about a call (CONTACT), and the answer under way; media of one call share it.
struct contact_asked {
    std::string unit;
    std::vector<std::string> peers;
    std::shared_ptr<spawned<std::optional<policy::advice>>> answer;
};

struct manager::leg {
    explicit leg(asio::io_context& io) : lock(io), tick(io) {}

    leg_kind kind{};
    std::string unit;
    session::tsid tsid = 0;
    std::string interface;
    bool ipv6 = false;
    asio::ip::address outer; // our address
    std::uint32_t address_index = 0;
    std::uint16_t port = 0; // 0 = none taken
    leg_local local;        // what the SDP shows
    bool mux = false;       // in the SDP
    bool unroutable = false;
    std::optional<endpoint> remote_rtp, remote_rtcp; // from the SDP; of a unit leg: the phone's inner address
    std::optional<endpoint> hint;                    // unit legs: where the unit says that its media comes from
    std::optional<endpoint> latched;                 // where it really comes from
    std::optional<sdes> srtp;
    api::suite suite = api::suite::clear;

    std::uint32_t epoch = 0;   // in force (sending); SDES legs count their keys here too
    std::uint32_t highest = 0; // ever installed: the data plane takes no lower one again
    bool keyed = false;        // an epoch was installed in this flow's life
    bool stale = false;        // an earlier life left a half-made re-key: its seed is lost, only a new start helps
    epoch_seeds current, next; // next: sent or to be sent, not acknowledged
    bool next_installed = false;
    std::uint32_t unanswered = 0;                                                // SEED_MAKEs in a row
    std::optional<std::pair<std::uint32_t, std::array<std::uint8_t, 16>>> heard; // of the unit's last: epoch, digest
    bool replaced = false; // the unit should make the seeds and does not: the gateway does (an alarm)
    std::shared_ptr<contact_asked> contact;
    std::vector<std::uint32_t> retiring;
    async_lock lock; // one re-key at a time
    asio::steady_timer tick;
    bool kicked = false; // re-key now
    bool looping = false;

    direction_stats before;     // of earlier flows of this media
    std::uint64_t last_rtp = 0; // silence check
    std::chrono::steady_clock::time_point last_progress;
    bool silent = false; // data plane said so

    [[nodiscard]] bool is_unit() const noexcept { return kind == leg_kind::unit; }
    [[nodiscard]] leg_shape shape() const;
};

struct manager::state {
    explicit state(asio::io_context& io) : lock(io), legs{leg(io), leg(io)} {}

    media_id id = 0;
    std::string call_id;
    std::uint32_t index = 0;
    std::string kind, caller, callee, caller_domain, callee_domain;
    policy::level level;  // its own: a reload does not change a running call
    bool decided = false; // for good, with the units' advice; before, `level` is what the offer alone gives
    std::string decided_by;
    std::vector<policy::step> why;
    std::uint32_t clock_rate = 8000;
    std::array<bool, 2> forward{true, true};
    bool installed = false;
    bool closing = false;
    std::optional<std::chrono::steady_clock::time_point> lost; // flows are gone and could not be put in again yet
    std::uint32_t era = 0;              // counts installations: what awaited over a change of it gives up
    std::vector<api::flow_config> plan; // in force, as signalled (not as latched)
    std::chrono::system_clock::time_point opened, answered;
    std::uint32_t rekeys = 0, rekey_failures = 0;
    std::uint32_t seeds_made = 0, seeds_from_units = 0;
    async_lock lock; // one update at a time
    std::array<leg, 2> legs;

    [[nodiscard]] std::array<leg_shape, 2> shapes() const { return {legs[0].shape(), legs[1].shape()}; }
    [[nodiscard]] bool has_unit() const noexcept { return legs[0].is_unit() || legs[1].is_unit(); }
    [[nodiscard]] bool on_hold() const noexcept { return !forward[0] && !forward[1]; }
    [[nodiscard]] std::vector<api::flow_config> make_plan(const settings& options) const;
    // The party at the other end of leg i, as its unit's contacts may know it: id code or number, SIP address.
    [[nodiscard]] std::vector<std::string> peers_of(std::size_t i) const;
};

// Keys on their way to the data plane: never reallocated while it grows, wiped at the end.
class key_batch {
public:
    key_batch() { items.reserve(16); }
    ~key_batch() { protocol::wipe(items.data(), items.size() * sizeof(api::epoch_key)); }
    key_batch(const key_batch&) = delete;
    key_batch& operator=(const key_batch&) = delete;
    std::vector<api::epoch_key> items;
};

[[nodiscard]] inline tl::unexpected<error> fail(std::string text) {
    return tl::unexpected(error{std::move(text)});
}

[[nodiscard]] inline std::string to_text(const endpoint& where) {
    return where.address.is_v6() ? "[" + where.address.to_string() + "]:" + std::to_string(where.port)
                                 : where.address.to_string() + ":" + std::to_string(where.port);
}

void add_seeds(protocol::message& request, const epoch_seeds& seeds);

// The first status that is not ok, as an error.
[[nodiscard]] result<void> verdict(const dataplane_client::client::statuses& answer, std::string_view what);

} // namespace tandem::media
