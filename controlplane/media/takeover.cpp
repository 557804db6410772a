// SPDX-License-Identifier: Apache-2.0
// What happens around media: the data plane comes back (flows matched with what we know), units come back, events,
// silence. Owner thread: io_context.
#include <algorithm>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <set>
#include <spdlog/spdlog.h>

#include "controlplane/media/key_kind.hpp"
#include "controlplane/media/swap.hpp"
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
        ++connect_era_; // a take-over under way is over, too
        freeze_streams();
        spdlog::warn("{}; media goes on, new calls wait", why);
    };
    dataplane_.on_event = [this](const api::flow_event& event) { on_event(event); };
    sweep();
    protocol::spawn(io_, "copies of packet counts", copy_streams());
}

void manager::restore(const media_row& row) {
    const auto m = std::make_shared<state>(io_, row);
    if (row.level.seed_bytes == 0)
        m->level = levels_.by_name(row.level.name);
    m->decided = row.installed && !row.level.name.empty(); // else it is decided anew, its units asked again
    static_cast<line_facts&>(m->now) = row;
    m->installed = row.installed;
    m->early = row.installed && !row.answered.was();
    for (std::size_t i = 0; i < 2; ++i) {
        auto& l = m->now.legs[i];
        const auto& r = row.legs[i];
        static_cast<leg_facts&>(l) = r;
        l.port = ports_->mark(r.outer, r.port, r.unit);
        m->legs[i].epoch = m->legs[i].in_epoch = r.epoch;
        m->legs[i].keyed = l.suite != api::suite::clear; // an answer may have been under way
        m->legs[i].untold = row.installed && l.is_unit();
    }
    m->plan = m->flows(m->now, options_);
    remember(m);
    for (const auto& secondary : row.opening) // the change came to nothing
        owed_[secondary] = false;
    if (m->installed && !m->early)
        tell_begin(*m, observer::beginning::taken_over);
}

bool manager::without_session(const state& m) const {
    return std::ranges::any_of(m.now.legs,
                               [&](const leg_terms& l) { return l.is_unit() && !sessions_.by_tsid(l.tsid); });
}

// Flows of known media are kept, the others removed; media whose flows are gone are put in again, those found half
// changed are brought to what is in force.
asio::awaitable<void> manager::reconcile(bool flows_lost) {
    const auto era = connect_era_;
    auto listed = co_await dataplane_.flow_list();
    if (era != connect_era_ || stopped_)
        co_return;
    if (!listed) {
        spdlog::warn("the data plane's flows could not be read: {}", listed.error().text);
        co_return; // a lost connection brings us here again
    }
    flows_of_media found;
    for (const auto& entry : *listed) {
        found[static_cast<media_id>(entry.config.tag)].push_back(&entry);
        stats_.remember(entry.config.id, entry.stats_index);
    }
    std::vector<media_ptr> whole, lost, over;
    tidying rest;
    for (const auto& [id, m] : media_) {
        number_addresses(m->now);
        if (m->proposed)
            number_addresses(*m->proposed);
        if (m->turn.over())
            continue;
        if (without_session(*m)) { // its flows are foreign
            over.push_back(m);
            continue;
        }
        if (!m->installed)
            continue;
        const auto flows = std::exchange(found[id], {});
        if (flows.empty())
            lost.push_back(m);
        else if (answers(*m, flows))
            continue; // whoever asked for it takes it from here
        else if (!m->doubtful && adopt(m, flows, rest))
            whole.push_back(m);
        else
            spawn_repair(m, flows);
    }
    for (const auto& [id, flows] : found)
        for (const auto* entry : flows)
            rest.foreign.push_back({entry->config.id});
    const auto count = listed->size();
    found.clear();
    listed = std::vector<api::flow_entry>(); // it was large, and what follows takes its time
    counters_.taken_over += whole.size();
    counters_.foreign_flows += rest.foreign.size();
    co_await tidy(rest, era);
    if (era != connect_era_ || stopped_)
        co_return;
    ready_ = true;
    if (count != 0 || !lost.empty() || flows_lost)
        spdlog::info("took over {} flows, removed {} unknown ones, {} media must be put in again",
                     count - rest.foreign.size(), rest.foreign.size(), lost.size());
    for (const auto& m : over)
        end_by_itself(m, "its unit's session ended while the control plane was away");
    for (const auto& m : whole)
        start_loops(m);
    for (const auto& m : lost)
        protocol::spawn_contained(io_, "a media put in again", reinstall(m, "the data plane lost its flows"),
                                  [this, m] { end_by_itself(m, "an error inside while it was put in again"); });
}

asio::awaitable<void> manager::tidy(const tidying& rest, std::uint64_t era) {
    if (!rest.foreign.empty())
        (void)co_await dataplane_.flow_remove(rest.foreign);
    if (!rest.ended.empty() && era == connect_era_)
        (void)co_await dataplane_.epoch_retire(rest.ended);
    if (!rest.corrected.empty() && era == connect_era_)
        (void)co_await dataplane_.update_flows(rest.corrected);
}

// A change whose answer was lost was made, or not; true where it was.
bool manager::answers(state& m, const std::vector<const api::flow_entry*>& found) {
    if (!m.unsure)
        return false;
    std::vector<api::flow_config> want, have;
    bool keyed = true;
    for (const auto& item : m.unsure->items) {
        want.push_back(item.config);
        for (const auto* entry : found)
            if (entry->config.id == item.config.id) {
                have.push_back(entry->config);
                keyed = keyed &&
                        (item.in_key.key_length == 0 || std::ranges::count(entry->in_epochs, item.in_key.epoch) != 0);
                keyed = keyed && (item.out_key.key_length == 0 || entry->sending_epoch == item.out_key.epoch);
            }
    }
    m.unsure->made = keyed && same_structure(want, have);
    m.doubtful = false;
    m.unsure->known.cancel();
    return *m.unsure->made;
}

// What takes flows that are there as planned to what is in force: a change by FLOW_UPDATE that was refused, or never
// written down, may have left its addresses and its hold. Where a leg was heard the data plane knows better.
std::vector<api::flow_update> manager::corrections(const state& m, std::vector<api::flow_config> have) const {
    auto want = m.plan;
    const auto shapes = m.now.shapes();
    for (std::size_t n = 0; n < want.size(); ++n) {
        const auto from = media::leg_of(shapes, want[n].id);
        if (from && m.legs[1 - *from].latched)
            want[n].route = have[n].route;
        if (same_place(want[n].route.rtp_remote, have[n].route.rtp_remote)) // its RTCP may be heard elsewhere
            want[n].route.rtcp_remote = have[n].route.rtcp_remote;
        if (want[n].source.policy == api::source_policy::authenticated)
            want[n].source = have[n].source;
    }
    return plan_updates(have, want);
}

// The data plane's addresses may be numbered otherwise now.
void manager::number_addresses(media_terms& of) const {
    for (auto& l : of.legs)
        for (const auto& local : dataplane_.hello()->addresses)
            if (l.port && local.ip == l.port->address)
                l.address_index = local.index;
}

// Of a clear leg nothing is in force that could be over.
bool ended_epoch(const leg& l, const leg_terms& is, std::uint32_t number) {
    return key_kind::of(is).protects() && !l.knows(number);
}

// True where every flow of the media is there as planned; what the data plane knows better (epochs, addresses) is taken
// from it.
bool manager::adopt(const media_ptr& m, const std::vector<const api::flow_entry*>& found, tidying& rest) {
    auto plan = m->flows(m->now, options_);
    std::vector<api::flow_config> have;
    for (const auto& config : plan)
        for (const auto* entry : found)
            if (entry->config.id == config.id)
                have.push_back(entry->config);
    if (!same_structure(plan, have))
        return false;
    m->plan = std::move(plan);
    m->lost.reset();
    const auto shapes = m->now.shapes();
    for (const auto* entry : found)
        if (const auto from = media::leg_of(shapes, entry->config.id))
            learn(*m, *from, *entry);
        else
            rest.foreign.push_back({entry->config.id});
    std::ranges::move(corrections(*m, std::move(have)), std::back_inserter(rest.corrected));
    for (const auto* entry : found) {
        const auto from = media::leg_of(shapes, entry->config.id);
        for (std::size_t n = 0; from && n < entry->in_epoch_count && n < 3; ++n)
            if (ended_epoch(m->legs[*from], m->now.legs[*from], entry->in_epochs[n]))
                rest.ended.push_back({entry->config.id, entry->in_epochs[n], api::side::in, {}});
        for (std::size_t n = 0; from && n < entry->out_epoch_count && n < 3; ++n)
            if (ended_epoch(m->legs[1 - *from], m->now.legs[1 - *from], entry->out_epochs[n]))
                rest.ended.push_back({entry->config.id, entry->out_epochs[n], api::side::out, {}});
    }
    return true;
}

// What a flow that receives from leg `from` says of both legs.
void manager::learn(state& m, std::size_t from, const api::flow_entry& entry) {
    auto &in = m.legs[from], &out = m.legs[1 - from];
    const auto &theirs = m.now.legs[from], &other = m.now.legs[1 - from];
    if (entry.source.port != 0 && entry.config.source.policy != api::source_policy::signalled &&
        (entry.config.carries & api::carries_rtp) != 0) {
        in.latch({dataplane_client::from_net_ip(entry.source.ip), entry.source.port}, entry.rule,
                 leg::clock::time_point(std::chrono::nanoseconds(entry.source_since_ns)));
    }
    const auto newest = [](const std::uint32_t(&epochs)[3], std::size_t count) {
        return count == 0 ? 0 : *std::max_element(epochs, epochs + std::min<std::size_t>(count, 3));
    };
    key_kind::of(theirs).found_in(in, newest(entry.in_epochs, entry.in_epoch_count));
    key_kind::of(other).found_out(out, newest(entry.out_epochs, entry.out_epoch_count), entry.sending_epoch);
    for (auto* l : {&in, &out}) {
        const auto& terms = l == &in ? theirs : other;
        l->retiring.clear();
        l->stale = key_kind::of(terms).has_seeds() && !l->next.known() && l->highest > l->epoch;
    }
}

// Flows, keys and secondaries again: units under their next epoch, SDES legs where their packets were counted.
asio::awaitable<void> manager::reinstall(media_ptr m, std::string why) {
    const auto mine = co_await m->turn.whole();
    if (!mine || gone(*m) || !m->installed)
        co_return;
    if (!streams_known(*m)) {
        ++counters_.unknowable;
        end_by_itself(m, "the data plane lost its memory, and too little is known of its packet counts to go on under "
                         "the same SDES keys");
        co_return;
    }
    spdlog::warn("media {} of call {}: {}: put in again", m->id, m->call_id, why);
    for (std::size_t i = 0; i < 2; ++i)
        m->legs[i].before = received(*m, i);
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

void manager::spawn_repair(const media_ptr& m, const std::vector<const api::flow_entry*>& found) {
    std::vector<api::flow_entry> entries;
    for (const auto* one : found)
        entries.push_back(*one);
    protocol::spawn_contained(io_, "a media found half changed", repair(m, std::move(entries)),
                              [this, m] { end_by_itself(m, "an error inside while it was put in order"); });
}

// An earlier life, or a lost connection, ended in the middle of a change: what is in force is what the journal says.
// State goes along where a leg is protected as it should be; what cannot be known ends.
asio::awaitable<void> manager::repair(media_ptr m, std::vector<api::flow_entry> found) {
    const auto mine = co_await m->turn.whole();
    if (!mine || gone(*m) || !m->installed)
        co_return;
    replacement how;
    auto plan = m->flows(m->now, options_);
    const auto shapes = m->now.shapes();
    for (const auto& entry : found) {
        auto from = media::leg_of(shapes, entry.config.id);
        if (const auto to = media::leg_of(shapes, entry.config.route.rtp_out); !from && to)
            from = 1 - *to; // at a port that the change took
        if (!from)
            continue;
        const auto& side = entry.config.in;
        how.goes_on[*from] = side.suite == shapes[*from].suite && side.mki_length == shapes[*from].mki_length;
        if ((entry.config.carries & api::carries_rtp) != 0)
            how.before.rtp[*from] = entry.config.id;
        if ((entry.config.carries & api::carries_rtcp) != 0)
            how.before.rtcp[*from] = entry.config.id;
        learn(*m, *from, entry);
    }
    for (std::size_t i = 0; i < 2; ++i) {
        const auto& kind = key_kind::of(m->now.legs[i]);
        if (m->doubtful && kind.has_seeds())
            m->legs[i].stale = true; // its keys may be another's
        if (how.goes_on[i] || !kind.protects())
            continue;
        if (!kind.has_seeds()) {
            ++counters_.unknowable;
            co_await end_half_made(m, found, "its flows were found half changed, and its SDES keys had ended");
            co_return;
        }
        m->legs[i].stale = true; // begins anew when it is re-keyed
    }
    for (std::size_t i = 0; i < 2; ++i) // where it may have the keys of a change that nobody agreed to
        how.keys[i] =
            key_kind::of(m->now.legs[i]).plan(m->legs[i], m->doubtful ? leg_terms() : m->now.legs[i], m->now.legs[i]);
    auto done = co_await how.make(*this, m, m->now, plan, {});
    if (gone(*m))
        co_return;
    if (!done) {
        co_await end_half_made(m, found, "its flows were found half changed: " + done.error().text);
        co_return;
    }
    m->plan = std::move(plan);
    m->doubtful = false;
    m->streams = {};
    for (std::size_t i = 0; i < 2; ++i)
        key_kind::of(m->now.legs[i]).begin(m->legs[i], m->now.legs[i], how.keys[i], {});
    ++counters_.repaired;
    spdlog::warn("media {} of call {}: its flows were found half changed and are in order again", m->id, m->call_id);
    start_loops(m);
    for (std::size_t i = 0; i < 2; ++i)
        if (m->legs[i].stale)
            m->legs[i].kick();
}

// Nothing of the change stays, at whatever ports.
asio::awaitable<void> manager::end_half_made(media_ptr m, const std::vector<api::flow_entry>& found, std::string why) {
    std::vector<api::flow_ref> flows;
    for (const auto& entry : found)
        flows.push_back({entry.config.id});
    (void)co_await dataplane_.flow_remove(flows);
    end_by_itself(m, why);
}

// --- units -----------------------------------------------------------------------------------------------------------

void manager::session_up(const session::session_info& session) {
    close_owed(session.id);
    for (const auto& [id, m] : media_)
        for (std::size_t i = 0; i < 2; ++i)
            if (m->now.legs[i].is_unit() && m->now.legs[i].tsid == session.id && m->installed && !m->turn.over())
                m->legs[i].kick(); // go on re-keying: a new seed, or the one that was not acknowledged
}

void manager::session_down(const session::session_info& session, bool final) {
    if (!final)
        return;                 // media goes on; the unit may come back before its timeout
    std::vector<media_ptr> its; // one that only rings is gone from media_ at once
    for (const auto& [id, m] : media_)
        if (std::ranges::any_of(m->now.legs, [&](const auto& l) { return l.is_unit() && l.tsid == session.id; }))
            its.push_back(m);
    for (const auto& m : its)
        end_by_itself(m, fmt::format("session of unit {} ended", session.unit));
}

// --- events and silence ----------------------------------------------------------------------------------------------

void manager::on_event(const api::flow_event& event) {
    const auto m = find(static_cast<media_id>(event.tag));
    if (!m || !m->installed)
        return;
    const auto side = leg_of(m->now.shapes(), event.id);
    if (!side)
        return;
    auto& l = m->legs[*side];
    switch (event.type) {
    case api::event_type::flow_timeout:
        if (m->early)
            break; // it rings
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
                m->legs[i].kick();
        break;
    case api::event_type::epoch_first_use:
        break;
    }
}

// The data plane moved what goes towards this leg already (and its RTCP, where that is apart); we only show it.
void manager::on_latched(const media_ptr& m, const api::flow_event& event) {
    const auto side = leg_of(m->now.shapes(), event.id);
    if (!side || event.id != m->now.legs[*side].shape().rtp())
        return; // RTCP alone does not say where media goes
    m->legs[*side].latch({dataplane_client::from_net_ip(event.address.ip), event.address.port}, event.rule,
                         leg::clock::now());
    spdlog::info("media {}: leg {} is at {} now", m->id, *side, to_text(*m->legs[*side].latched));
}

// Agents keep a unit leg from looking silent, so whether anybody still speaks is asked of the RTP counters.
void manager::sweep() {
    if (stopped_)
        return;
    const auto now = std::chrono::steady_clock::now();
    std::vector<media_ptr> over;
    for (const auto& [id, m] : media_) {
        if (!m->installed || m->turn.over() || m->early || !ready_)
            continue;
        tell_tick(*m, now);
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
            l.saw(seen->rx_packets, now);
            anyone |= now - l.last_progress < limit;
        }
        if (!anyone && limit.count() > 0)
            over.push_back(m);
    }
    for (const auto& m : over) {
        ++counters_.timeouts;
        end_by_itself(m, "media timeout");
    }
    std::erase_if(owed_,
                  [&](const auto& owed) { return !sessions_.by_tsid(owed.first.first); }); // nobody has it any more
    std::set<session::tsid> up;
    for (const auto& [owed, under_way] : owed_)
        if (const auto session = sessions_.by_tsid(owed.first); !under_way && session && session->up)
            up.insert(owed.first);
    for (const auto unit : up)
        close_owed(unit);
    sweep_timer_.expires_after(options_.sweep);
    sweep_timer_.async_wait([this](const asio::error_code& stopped) {
        if (!stopped)
            sweep();
    });
}

} // namespace tandem::media
