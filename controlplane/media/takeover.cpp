// SPDX-License-Identifier: Apache-2.0
// What happens around media: the data plane comes back (flows matched with what we know), units come back, events,
// silence. Owner thread: io_context.
#include <algorithm>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "controlplane/media/state.hpp"
#include "controlplane/protocol/spawn.hpp"

namespace tandem::media {

void manager::start() {
    journal_.each([this](const media_row& row) { restore(row); });
    if (!media_.empty())
        spdlog::info("{} media of an earlier run are known; waiting for the data plane's flow list", media_.size());
    dataplane_.expect_generation(journal_.generation());
    dataplane_.on_connect = [this](const dataplane_client::greeting& hello, bool lost) {
        spdlog::info("data plane connected: {} flows, restarts {}, last gap {} ms{}", hello.reply.flows,
                     hello.reply.restarts, hello.reply.last_gap_ms, lost ? ", its earlier flows are lost" : "");
        if (auto mapped = stats_.open(hello.stats_path); !mapped)
            spdlog::warn("{}", mapped.error());
        journal_.set_generation(hello.reply.generation);
        ++connect_era_;
        protocol::spawn(io_, "take-over of flows", reconcile(lost));
    };
    dataplane_.on_disconnect = [this](const std::string& why) {
        ready_ = false;
        spdlog::warn("{}; media goes on, new calls wait", why);
    };
    dataplane_.on_event = [this](const api::flow_event& event) { on_event(event); };
    sweep();
}

void manager::restore(const media_row& row) {
    const auto m = std::make_shared<state>(io_);
    m->id = row.id;
    m->call_id = row.call_id;
    m->index = row.index;
    m->kind = row.kind;
    m->caller = row.caller;
    m->callee = row.callee;
    m->caller_domain = row.caller_domain;
    m->callee_domain = row.callee_domain;
    m->level = row.level.seed_bytes != 0 ? row.level : levels_.by_name(row.level.name);
    m->decided = row.installed; // one that was not answered yet is decided anew, its units asked again
    m->decided_by = row.decided_by;
    m->why = row.why;
    m->now.clock_rate = row.clock_rate;
    m->now.forward = row.forward;
    m->installed = row.installed;
    m->opened = row.opened;
    m->answered = row.answered;
    m->rekeys = row.rekeys;
    m->rekey_failures = row.rekey_failures;
    m->seeds_made = row.seeds_made;
    m->seeds_from_units = row.seeds_from_units;
    for (std::size_t i = 0; i < 2; ++i) {
        auto& l = m->now.legs[i];
        const auto& r = row.legs[i];
        l.kind = r.kind;
        l.unit = r.unit;
        l.tsid = r.tsid;
        l.interface = r.interface;
        l.ipv6 = r.ipv6;
        l.address_index = r.address_index;
        l.port = ports_->mark(r.outer, r.port, r.unit);
        l.local = {r.local_rtp, r.local_rtcp};
        l.mux = r.mux;
        l.unroutable = r.unroutable;
        l.remote_rtp = r.remote_rtp;
        l.remote_rtcp = r.remote_rtcp;
        l.hint = r.hint;
        l.suite = r.suite;
        m->legs[i].epoch = r.epoch;
        m->legs[i].keyed = row.installed && l.is_unit();
        m->legs[i].last_progress = std::chrono::steady_clock::now();
    }
    m->plan = m->flows(m->now, options_);
    remember(m);
}

// Flows of known media are kept, the others removed; media whose flows are gone are put in again.
asio::awaitable<void> manager::reconcile(bool flows_lost) {
    const auto era = connect_era_;
    const auto listed = co_await dataplane_.flow_list();
    if (era != connect_era_ || stopped_)
        co_return;
    if (!listed) {
        spdlog::warn("the data plane's flows could not be read: {}", listed.error().text);
        co_return; // a lost connection brings us here again
    }
    std::unordered_map<api::flow_id, const api::flow_entry*> found;
    for (const auto& entry : *listed) {
        found.emplace(entry.config.id, &entry);
        stats_.remember(entry.config.id, entry.stats_index);
    }

    std::vector<media_ptr> lost;
    std::vector<api::flow_ref> foreign;
    std::vector<api::epoch_ref> over;
    for (const auto& [id, m] : media_) {
        number_addresses(m->now);
        if (m->proposed)
            number_addresses(*m->proposed);
        if (!m->installed || m->closing)
            continue;
        if (adopt(m, found))
            ++counters_.taken_over;
        else
            lost.push_back(m);
    }
    for (const auto& [flow, entry] : found) {
        const auto m = find(static_cast<media_id>(entry->config.tag));
        const bool ours = m && m->installed && std::ranges::find(lost, m) == lost.end() && leg_of(*m, flow);
        if (!ours) {
            foreign.push_back({flow});
            continue;
        }
        for (std::size_t n = 0; n < entry->in_epoch_count && n < 3; ++n)
            if (!in_force(*m, *leg_of(*m, flow), entry->in_epochs[n]))
                over.push_back({flow, entry->in_epochs[n], api::side::in, {}});
        for (std::size_t n = 0; n < entry->out_epoch_count && n < 3; ++n)
            if (!in_force(*m, 1 - *leg_of(*m, flow), entry->out_epochs[n]))
                over.push_back({flow, entry->out_epochs[n], api::side::out, {}});
    }
    counters_.foreign_flows += foreign.size();
    if (!foreign.empty())
        (void)co_await dataplane_.flow_remove(foreign);
    if (!over.empty() && era == connect_era_)
        (void)co_await dataplane_.epoch_retire(over);
    if (era != connect_era_ || stopped_)
        co_return;
    ready_ = true;
    if (!found.empty() || !lost.empty() || flows_lost)
        spdlog::info("took over {} flows, removed {} unknown ones, {} media must be put in again",
                     found.size() - foreign.size(), foreign.size(), lost.size());
    for (const auto& [id, m] : media_)
        if (m->installed && !m->closing && std::ranges::find(lost, m) == lost.end())
            start_loops(m);
    for (const auto& m : lost)
        protocol::spawn_contained(io_, "a media put in again", reinstall(m, "the data plane lost its flows"),
                                  [this, m] { end_by_itself(m, "an error inside while it was put in again"); });
}

// An epoch that is in force on a leg, next, or of a leg whose epochs are not known for sure.
bool manager::in_force(const state& m, std::size_t i, std::uint32_t epoch) const {
    const auto& l = m.legs[i];
    return m.now.legs[i].suite == api::suite::clear || l.stale || epoch == l.epoch ||
           (l.next.known() && epoch == l.next.epoch);
}

// The data plane's addresses may be numbered otherwise now.
void manager::number_addresses(media_terms& of) const {
    for (auto& l : of.legs)
        for (const auto& local : dataplane_.hello()->addresses)
            if (l.port && local.ip == l.port->address)
                l.address_index = local.index;
}

// True where every flow of the media is there; what the data plane knows better (epochs, addresses) is taken from it.
bool manager::adopt(const media_ptr& m, const std::unordered_map<api::flow_id, const api::flow_entry*>& found) {
    const auto plan = m->flows(m->now, options_);
    for (const auto& config : plan) {
        const auto entry = found.find(config.id);
        if (entry == found.end() || entry->second->config.tag != m->id ||
            entry->second->config.in.suite != config.in.suite || entry->second->config.out.suite != config.out.suite)
            return false;
    }
    m->plan = plan;
    m->lost.reset();
    const auto shapes = m->now.shapes();
    for (std::size_t i = 0; i < 2; ++i) {
        auto& l = m->legs[i];
        const auto& in = *found.at(shapes[i].rtp());
        const auto& out = *found.at(flows_towards(shapes, i).front());
        if (in.source.port != 0 && in.config.source.policy != api::source_policy::signalled)
            l.latched = endpoint{dataplane_client::from_net_ip(in.source.ip), in.source.port};
        l.retiring.clear();
        if (m->now.legs[i].suite == api::suite::clear)
            continue;
        if (!l.next.known()) // an earlier life's half-made re-key: its seed is lost
            l.epoch = out.sending_epoch;
        for (std::size_t n = 0; n < in.in_epoch_count && n < 3; ++n)
            l.highest = std::max(l.highest, in.in_epochs[n]);
        for (std::size_t n = 0; n < out.out_epoch_count && n < 3; ++n)
            l.highest = std::max(l.highest, out.out_epochs[n]);
        l.stale = m->now.legs[i].is_unit() && !l.next.known() && l.highest > l.epoch;
    }
    return true;
}

// Flows, keys and secondaries again, under the next epoch.
asio::awaitable<void> manager::reinstall(media_ptr m, std::string why) {
    const auto guard = co_await m->lock.acquire();
    const auto first = co_await m->legs[0].lock.acquire();
    const auto second = co_await m->legs[1].lock.acquire();
    if (gone(*m) || !m->installed)
        co_return;
    spdlog::warn("media {} of call {}: {}: put in again", m->id, m->call_id, why);
    keep_counters(m);
    co_await remove_flows(m->plan);
    if (gone(*m))
        co_return;
    auto done = co_await install(m, m->now);
    if (done) {
        ++counters_.reinstalled;
        co_return;
    }
    if (gone(*m))
        co_return;
    spdlog::warn("media {}: {}", m->id, done.error().text);
    m->installed = true; // wanted: the unit's return or the data plane's tries again, until the media's timeout
    if (!m->lost)
        m->lost = std::chrono::steady_clock::now();
    save(*m);
    start_loops(m);
}

// --- units -----------------------------------------------------------------------------------------------------------

void manager::kick(leg& l) {
    l.kicked = true;
    l.tick.cancel();
}

void manager::session_up(const session::session_info& session) {
    for (const auto& [id, m] : media_)
        for (std::size_t i = 0; i < 2; ++i)
            if (m->now.legs[i].is_unit() && m->now.legs[i].tsid == session.id && m->installed && !m->closing)
                kick(m->legs[i]); // go on re-keying: a new seed, or the one that was not acknowledged
}

void manager::session_down(const session::session_info& session, bool final) {
    if (!final)
        return; // media goes on; the unit may come back before its timeout
    for (const auto& [id, m] : media_)
        for (const auto& l : m->now.legs)
            if (l.is_unit() && l.tsid == session.id) {
                end_by_itself(m, fmt::format("session of unit {} ended", l.unit));
                break;
            }
}

// --- events and silence ----------------------------------------------------------------------------------------------

std::optional<std::size_t> manager::leg_of(const state& m, api::flow_id flow) const {
    const auto shapes = m.now.shapes();
    for (std::size_t i = 0; i < 2; ++i)
        if (std::ranges::count(flows_from(shapes, i), flow) != 0)
            return i;
    return std::nullopt;
}

void manager::on_event(const api::flow_event& event) {
    const auto m = find(static_cast<media_id>(event.tag));
    if (!m || !m->installed)
        return;
    const auto side = leg_of(*m, event.id);
    if (!side)
        return;
    auto& l = m->legs[*side];
    switch (event.type) {
    case api::event_type::flow_timeout:
        l.silent = true;
        if (m->now.legs[*side].is_unit()) { // its agent speaks every 15 s even when the phone does not
            ++counters_.timeouts;
            end_by_itself(m, fmt::format("media timeout: unit {} was silent", m->now.legs[*side].unit));
        } else if (m->legs[1 - *side].silent) {
            ++counters_.timeouts;
            end_by_itself(m, "media timeout");
        }
        break;
    case api::event_type::flow_active:
        l.silent = false;
        break;
    case api::event_type::flow_latched:
        on_latched(m, event);
        break;
    case api::event_type::key_limit:
        for (std::size_t i = 0; i < 2; ++i) // whichever side's key it is, both may change
            if (m->now.legs[i].is_unit())
                kick(m->legs[i]);
        break;
    case api::event_type::epoch_first_use:
        break;
    }
}

// The data plane moved what goes towards this leg already (and its RTCP, where that is apart); we only show it.
void manager::on_latched(const media_ptr& m, const api::flow_event& event) {
    const auto side = leg_of(*m, event.id);
    if (!side || event.id != m->now.legs[*side].shape().rtp())
        return; // RTCP alone does not say where media goes
    m->legs[*side].latched = endpoint{dataplane_client::from_net_ip(event.address.ip), event.address.port};
    spdlog::info("media {}: leg {} is at {} now", m->id, *side, to_text(*m->legs[*side].latched));
}

// Agents keep a unit leg from looking silent, so whether anybody still speaks is asked of the RTP counters.
void manager::sweep() {
    if (stopped_)
        return;
    const auto now = std::chrono::steady_clock::now();
    std::vector<media_ptr> over;
    for (const auto& [id, m] : media_) {
        if (!m->installed || m->closing || !ready_)
            continue;
        if (m->lost) {
            if (now - *m->lost > options_.timeout)
                over.push_back(m);
            continue;
        }
        const auto limit = m->now.on_hold() ? options_.hold_timeout : options_.timeout;
        bool anyone = false;
        for (std::size_t i = 0; i < 2; ++i) {
            auto& l = m->legs[i];
            const auto seen = stats_of(m->now.legs[i].shape().rtp());
            if (!seen) { // no statistics: events alone decide
                anyone = true;
                break;
            }
            if (seen->rx_packets != l.last_rtp) {
                l.last_rtp = seen->rx_packets;
                l.last_progress = now;
            }
            anyone |= now - l.last_progress < limit;
        }
        if (!anyone && limit.count() > 0)
            over.push_back(m);
    }
    for (const auto& m : over) {
        ++counters_.timeouts;
        end_by_itself(m, "media timeout");
    }
    sweep_timer_.expires_after(options_.sweep);
    sweep_timer_.async_wait([this](const asio::error_code& stopped) {
        if (!stopped)
            sweep();
    });
}

} // namespace tandem::media
