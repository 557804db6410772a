// SPDX-License-Identifier: Apache-2.0
// One media as the manager holds it. Private to this room. Owner thread: io_context.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/media/async_lock.hpp"
#include "controlplane/media/manager.hpp"
#include "controlplane/media/spawned.hpp"
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

// What a unit was asked about a call (CONTACT), and the answer under way; media of one call share it.
struct contact_asked {
    std::string unit;
    std::vector<std::string> peers;
    std::shared_ptr<spawned<std::optional<policy::advice>>> answer;
};

// What runs on a leg, whatever its terms: keys, where it was heard, counters.
struct manager::leg {
    explicit leg(asio::io_context& io) : lock(io), tick(io) {}

    std::optional<endpoint> latched; // where its media really comes from
    api::source_rule rule{};         // by which
    std::chrono::steady_clock::time_point latched_since;

    std::uint32_t epoch = 0;    // in force (sending); SDES legs count their keys here too
    std::uint32_t in_epoch = 0; // SDES legs: of what the peer sends
    std::uint32_t highest = 0;  // ever installed: the data plane takes no lower one again
    bool keyed = false;         // an epoch was installed in this flow's life
    bool stale = false;         // an earlier life left a half-made re-key: its seed is lost, only a new start helps
    epoch_seeds current, next;  // next: sent or to be sent, not acknowledged
    bool next_installed = false;
    std::uint32_t unanswered = 0;                                                // SEED_MAKEs in a row
    std::optional<std::pair<std::uint32_t, std::array<std::uint8_t, 16>>> heard; // of the unit's last: epoch, digest
    bool replaced = false; // the unit should make the seeds and does not: the gateway does (an alarm)
    std::shared_ptr<contact_asked> contact;
    std::vector<std::uint32_t> retiring;
    async_lock lock; // its keys, and what its unit is told of them: one re-key, MEDIA_OPEN or change at a time
    asio::steady_timer tick;
    bool kicked = false; // re-key now
    bool looping = false;

    direction_stats before;     // of earlier flows of this media
    std::uint64_t last_rtp = 0; // silence check
    std::chrono::steady_clock::time_point last_progress;
    bool silent = false; // data plane said so
};

// The packet counts of a media's SDES legs as they were last copied out of the data plane.
struct stream_copies {
    struct one {
        std::size_t leg = 0; // whose keys
        bool rtcp = false;   // of the flow that carries RTCP alone
        api::side side{};
        api::stream_state state{};
    };
    std::vector<one> streams;
    std::map<api::flow_id, std::uint64_t> packets; // that each flow had received by then
    bool known = false;                            // a copy was made since the flows began
    bool stale = false;                            // more went since than the margin covers
};

// A replacement whose answer was lost with the connection: the next list of flows says whether it was made.
struct unsure_change {
    explicit unsure_change(asio::io_context& io) : known(io) {}
    std::vector<api::flow_replacement> items; // without keys
    std::optional<bool> made;
    asio::steady_timer known;
};

struct manager::state : facts {
    explicit state(asio::io_context& io, facts of = {}) : facts(std::move(of)), lock(io), legs{leg(io), leg(io)} {}

    bool decided = false; // for good, with the units' advice; before, `level` is what the offer alone gives
    bool installed = false;
    bool closing = false;
    bool doubtful = false;                 // the data plane's word on a change was lost: it may have taken it
    std::shared_ptr<unsure_change> unsure; // likewise: somebody waits to know
    std::optional<std::chrono::steady_clock::time_point> lost; // flows are gone and could not be put in again yet
    media_terms now;                                           // in force; before the first answer, as opened
    std::optional<media_terms> proposed;                       // what a later offer took beside
    std::vector<api::flow_config> plan;                        // in force, as signalled (not as latched)
    stream_copies streams;
    std::size_t reserved = 0;                                     // flows that it may need
    std::vector<std::pair<session::tsid, std::uint32_t>> opening; // by a change under way, beside those in force
    bool running = true;                                          // its call is: it may use the last room there is
    bool early = false;                                           // flows are in force, but nobody answered yet
    bool with_unit = false;                                       // it may use what is reserved
    async_lock lock; // one update at a time; whoever holds it may wait for the legs' locks, never the other way round
    std::array<leg, 2> legs;

    [[nodiscard]] std::vector<api::flow_config> flows(const media_terms& of, const settings& options) const;
    // The party at the other end of leg i, as its unit's contacts may know it: id code or number, SIP address.
    [[nodiscard]] std::vector<std::string> peers_of(const media_terms& of, std::size_t i) const;
};

// A change of a media while it is made. Nothing of it is in force before the data plane took it.
struct manager::draft {
    enum class word { none, moved, opened }; // what the leg's unit heard of it
    draft(media_ptr of, media_terms terms) : m(std::move(of)), want(std::move(terms)), before(m->now) {}
    media_ptr m;
    media_terms want, before;
    std::vector<async_lock::guard> locks; // the legs'
    std::array<word, 2> told{};
    std::array<epoch_seeds, 2> seeds; // of secondaries that begin
    bool installs = false, made = false;
    bool signalled = false; // an answer's: sources of clear media are learned anew
};

struct manager::replacement {
    flows_by_leg before;
    std::optional<std::array<leg_shape, 2>> was; // what m->plan was made of; none: what was found is not known so well
    std::array<bool, 2> goes_on{};
    std::array<leg_keys, 2> keys;
    bool learn_anew = false; // where clear media come from
};

// Keys on their way to the data plane: never reallocated while it grows, wiped at the end.
template <class Item>
class wiped_batch {
public:
    wiped_batch() { items.reserve(16); }
    explicit wiped_batch(std::vector<Item> some) : items(std::move(some)) {}
    ~wiped_batch() { protocol::wipe(items.data(), items.size() * sizeof(Item)); }
    wiped_batch(const wiped_batch&) = delete;
    wiped_batch& operator=(const wiped_batch&) = delete;
    std::vector<Item> items;
};
using key_batch = wiped_batch<api::epoch_key>;

[[nodiscard]] inline std::string to_text(const endpoint& where) {
    return where.address.is_v6() ? "[" + where.address.to_string() + "]:" + std::to_string(where.port)
                                 : where.address.to_string() + ":" + std::to_string(where.port);
}

[[nodiscard]] inline tl::unexpected<error> fail(std::string text) {
    return tl::unexpected(error{std::move(text)});
}
[[nodiscard]] inline tl::unexpected<error> over(media_id id) {
    return fail("media " + std::to_string(id) + " was changed or ended meanwhile");
}

void add_seeds(protocol::message& request, const epoch_seeds& seeds);

// The first status that is not ok, as an error.
[[nodiscard]] result<void> verdict(const dataplane_client::client::statuses& answer, std::string_view what);

} // namespace tandem::media
