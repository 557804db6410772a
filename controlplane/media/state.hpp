// SPDX-License-Identifier: Apache-2.0
// One media as the manager holds it. Private to this room. Owner thread: io_context.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/media/leg.hpp"
#include "controlplane/media/manager.hpp"
#include "controlplane/media/turns.hpp"

namespace tandem::media {

// The packet counts of a media's SDES legs as they were last copied out of the data plane.
struct stream_copies {
    struct one {
        std::size_t leg = 0; // whose keys
        bool rtcp = false;   // of the flow that carries RTCP alone
        api::side side{};
        api::stream_state state{};
    };
    std::vector<one> streams;
    struct counted {
        std::uint64_t packets = 0; // that the flow had received by then
        bool ahead = false;        // a stream of it was copied, which can be put ahead
    };
    std::map<api::flow_id, counted> flows;
    bool known = false; // a copy was made since the flows began
    bool stale = false; // more went since than the margin covers
};

// A replacement whose answer was lost with the connection: the next list of flows says whether it was made.
struct unsure_change {
    explicit unsure_change(asio::io_context& io) : known(io) {}
    std::vector<api::flow_replacement> items; // without keys
    std::optional<bool> made;
    asio::steady_timer known;
};

struct manager::state : facts {
    explicit state(asio::io_context& io, facts of = {}) : facts(std::move(of)), turn(io), legs{leg(io), leg(io)} {}

    bool decided = false; // for good, with the units' advice; before, `level` is what the offer alone gives
    bool installed = false;
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
    bool observed = false;                                        // observers heard of its begin, not of its end
    leg::clock::time_point ticked;                                // last told of then
    bool with_unit = false;                                       // it may use what is reserved
    turns turn;                                                   // of who changes it or a leg of it
    std::array<leg, 2> legs;

    [[nodiscard]] std::vector<api::flow_config> flows(const media_terms& of, const settings& options) const;
    // The party at the other end of leg i, as its unit's contacts may know it: id code or number, SIP address.
    [[nodiscard]] std::vector<std::string> peers_of(const media_terms& of, std::size_t i) const;
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

// What is known of a media at its first offer.
[[nodiscard]] facts facts_of(const media_request& request);

[[nodiscard]] std::string denial(const std::string& why);

void add_seeds(protocol::message& request, const epoch_seeds& seeds);

// The first status that is not ok, as an error.
[[nodiscard]] result<void> verdict(const dataplane_client::client::statuses& answer, std::string_view what);

} // namespace tandem::media
