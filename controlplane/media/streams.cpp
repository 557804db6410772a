// SPDX-License-Identifier: Apache-2.0
// Should the data plane's memory be lost (its holder died with it), flows come back under the same SDES keys, and no
// packet index may: not sent twice, no replay accepted. So once a second the packet counts of all SDES legs are copied
// out of it, and go back in with a margin: what is nearer than that to the last one known is refused. How many packets
// went since the copy is read from the statistics, which outlive the process; where they are more than the margin, the
// media ends, since nobody can tell the peer new keys outside an offer. A unit's leg needs nothing of this: it gets a
// fresh epoch. Owner thread: io_context.
#include <algorithm>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <limits>
#include <spdlog/spdlog.h>

#include "controlplane/media/key_kind.hpp"
#include "controlplane/media/state.hpp"

namespace tandem::media {

namespace {

constexpr std::uint64_t margin = 128; // packets of a stream that are refused at most

bool has_sdes(const media_terms& of) {
    return std::ranges::any_of(of.legs, [](const auto& l) { return l.srtp.has_value(); });
}

// Every index below the new next counts as seen.
api::window_state ahead(api::window_state from) {
    if (from.next == 0)
        return from;
    from.next += margin;
    for (std::size_t n = 0; n < 2; ++n) {
        const auto below = from.next - std::min<std::uint64_t>(from.next, 64 * n);
        from.seen[n] = below >= 64 ? std::numeric_limits<std::uint64_t>::max() : (std::uint64_t{1} << below) - 1;
    }
    return from;
}

} // namespace

asio::awaitable<void> manager::copy_streams() {
    while (!stopped_) {
        copy_timer_.expires_after(options_.copy);
        asio::error_code ignored;
        co_await copy_timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        if (stopped_ || !ready_)
            continue;
        std::map<api::flow_id, std::uint64_t> packets; // before the list is asked: never too few since
        for (const auto& [id, m] : media_)
            if (m->installed && !m->turn.over() && has_sdes(m->now))
                for (const auto& config : m->plan)
                    packets[config.id] = packets_of(config.id);
        if (packets.empty())
            continue;
        const auto era = connect_era_;
        const auto all = co_await dataplane_.stream_list();
        if (all && ready_ && era == connect_era_)
            take_streams(*all, packets);
    }
}

std::uint64_t manager::packets_of(api::flow_id id) const {
    const auto seen = stats_of(id);
    return seen ? seen->rx_packets + seen->rtcp_rx_packets : 0;
}

void manager::take_streams(const std::vector<api::stream_item>& all,
                           const std::map<api::flow_id, std::uint64_t>& packets) {
    std::unordered_map<api::flow_id, std::vector<const api::stream_item*>> by_flow;
    for (const auto& item : all)
        by_flow[item.id].push_back(&item);
    for (const auto& [id, m] : media_) {
        if (!m->installed || m->turn.over() || !has_sdes(m->now))
            continue;
        stream_copies fresh;
        fresh.known = true;
        const auto shapes = m->now.shapes();
        for (const auto& config : m->plan) {
            const auto counted = packets.find(config.id);
            fresh.known = fresh.known && counted != packets.end();
            auto& flow = fresh.flows[config.id];
            flow.packets = counted != packets.end() ? counted->second : 0;
            const auto from = media::leg_of(shapes, config.id);
            for (const auto* item : from ? by_flow[config.id] : std::vector<const api::stream_item*>()) {
                const auto l = item->side == api::side::in ? *from : 1 - *from;
                if (m->now.legs[l].srtp) {
                    fresh.streams.push_back({l, (config.carries & api::carries_rtp) == 0, item->side, item->state});
                    flow.ahead = true;
                }
            }
        }
        if (fresh.known) // else it was changed while the list was read: the next one
            m->streams = std::move(fresh);
    }
}

// The data plane is gone: what its statistics say now is the last word, if its memory is gone, too.
void manager::freeze_streams() {
    for (const auto& [id, m] : media_) {
        auto& copy = m->streams;
        for (const auto& [id, flow] : copy.flows)
            copy.stale = copy.stale || packets_of(id) > flow.packets + (flow.ahead ? margin : 0) || !stats_of(id);
    }
}

bool manager::streams_known(const state& m) {
    for (const auto& l : m.now.legs) {
        const auto& kind = key_kind::of(l);
        if (kind.protects() && !kind.has_seeds() && (!l.srtp || !m.streams.known || m.streams.stale))
            return false;
    }
    return true;
}

// Into flows that were just added and have no keys yet.
asio::awaitable<result<void>> manager::put_streams(media_ptr m, const media_terms& of) {
    const auto shapes = of.shapes();
    std::vector<api::stream_item> items;
    for (const auto& one : m->streams.streams) {
        if (!of.legs[one.leg].srtp)
            continue;
        const auto from = one.side == api::side::in ? one.leg : 1 - one.leg;
        api::stream_item item{};
        item.id = one.rtcp ? shapes[from].rtcp() : shapes[from].rtp();
        item.side = one.side;
        item.state = one.state;
        item.state.rtp = ahead(one.state.rtp);
        item.state.rtcp = ahead(one.state.rtcp);
        items.push_back(item);
    }
    if (items.empty())
        co_return result<void>{};
    co_return verdict(co_await dataplane_.stream_put(items), "packet counts could not be put in again");
}

} // namespace tandem::media
