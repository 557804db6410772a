// SPDX-License-Identifier: Apache-2.0
// From terms to flows, keys and secondaries. A change is made beside what is in force and is refused or taken whole:
// the units are told first, the data plane's word comes last, and only then the media's state is written. Owner thread:
// io_context.
#include <algorithm>
#include <fmt/format.h>
#include <ranges>
#include <spdlog/spdlog.h>

#include "controlplane/media/state.hpp"
#include "controlplane/protocol/spawn.hpp"

namespace tandem::media {

// The level of media that are complete now, for good.
asio::awaitable<result<void>> manager::decide_all(const std::vector<media_ptr>& all, std::vector<media_terms>& want,
                                                  const std::vector<media_change>& changes) {
    for (std::size_t n = 0; n < all.size(); ++n) {
        const auto& m = all[n];
        if (!want[n].has_unit())
            continue;
        if (want[n].complete() && !m->decided && !co_await decide_call(m, want[n], question_of(*m, changes[n].request)))
            co_return fail(fmt::format("media {} was ended meanwhile", m->id));
        for (auto& one : want[n].legs)
            if (one.is_unit())
                one.suite = m->level.suite;
    }
    co_return result<void>{};
}

// All of them, or those that were changed already are changed back.
asio::awaitable<result<void>> manager::apply_all(const std::vector<media_ptr>& all, std::vector<media_terms> want) {
    std::vector<media_terms> before;
    for (std::size_t n = 0; n < all.size(); ++n) {
        before.push_back(all[n]->now);
        auto done = co_await apply(all[n], std::move(want[n]));
        if (done)
            continue;
        for (auto back = n; back-- > 0;) {
            const auto& m = all[back];
            if (!m->installed || m->closing) // it was not before, either
                continue;
            if (auto undone = co_await apply(m, std::move(before[back])); !undone)
                end_by_itself(m, "a refused change could not be undone: " + undone.error().text);
        }
        co_return done;
    }
    co_return result<void>{};
}

asio::awaitable<result<void>> manager::apply(media_ptr m, media_terms want) {
    const auto first = co_await m->legs[0].lock.acquire();
    const auto second = co_await m->legs[1].lock.acquire();
    if (gone(*m))
        co_return over(m->id);
    if (m->installed)
        co_return co_await change(m, std::move(want));
    if (!want.complete()) {
        m->now = std::move(want);
        m->proposed.reset();
        co_return result<void>{};
    }
    auto done = co_await install(m, std::move(want));
    if (!done) {
        ++counters_.open_failures;
        co_return done;
    }
    ++counters_.installed;
    const auto& legs = m->now.legs;
    spdlog::info("media {} of call {} is up: {} {}, {} {}{}", m->id, m->call_id, legs[0].is_unit() ? "unit" : "core",
                 api::info(legs[0].suite).name, legs[1].is_unit() ? "unit" : "core", api::info(legs[1].suite).name,
                 m->now.has_unit() ? fmt::format(", level {} ({})", m->level.name, m->decided_by) : "");
    co_return done;
}

// --- from nothing ----------------------------------------------------------------------------------------------------

// What goes towards a leg goes to where it was heard last.
void manager::aim(const state& m, const media_terms& of, std::vector<api::flow_config>& plan) const {
    for (std::size_t i = 0; i < 2; ++i)
        for (const auto flow : flows_towards(of.shapes(), i))
            for (auto& config : plan)
                if (config.id == flow && m.legs[i].latched) {
                    config.route.rtp_remote =
                        dataplane_client::to_net_address(m.legs[i].latched->address, m.legs[i].latched->port);
                    if (of.legs[i].shape().mux)
                        config.route.rtcp_remote = config.route.rtp_remote;
                }
}

// Flows, keys, secondaries from nothing; also after the data plane or a unit lost its state (epochs go on counting).
// Under the locks of both legs.
asio::awaitable<result<void>> manager::install(media_ptr m, media_terms want) {
    std::array<epoch_seeds, 2> seeds;
    std::array<bool, 2> begins{};
    for (std::size_t i = 0; i < 2; ++i) {
        auto& l = m->legs[i];
        l.retiring.clear();
        l.silent = false;
        l.last_progress = std::chrono::steady_clock::now();
        l.last_rtp = 0;
        begins[i] = want.legs[i].is_unit();
        if (begins[i])
            seeds[i].epoch = begin_epochs(l);
    }
    m->plan = m->flows(want, options_);
    auto plan = m->plan;
    if (m->installed)
        aim(*m, want, plan);
    auto done = co_await first_seeds(m, want, seeds, begins);
    if (done && !gone(*m)) {
        done = co_await add_flows(plan);
        if (!done && !gone(*m)) { // left over from an earlier life at the same ports
            co_await remove_flows(plan);
            if (!gone(*m))
                done = co_await add_flows(plan);
        }
    }
    if (done && !gone(*m))
        done = co_await install_keys(m, want, seeds);
    for (std::size_t i = 0; i < 2 && done && !gone(*m); ++i)
        if (begins[i])
            done = co_await send_media_open(m, want, i, seeds[i], false);
    if (done && !gone(*m))
        done = co_await update_flows(m, m->flows(want, options_));
    if (gone(*m))
        co_return over(m->id);
    if (!done) {
        co_await remove_flows(plan);
        m->installed = false;
        for (std::size_t i = 0; i < 2; ++i)
            if (begins[i]) {
                m->legs[i].current.clear();
                if (m->legs[i].keyed)
                    close_secondary(want.legs[i].tsid, m->id);
            }
        co_return done;
    }
    for (std::size_t i = 0; i < 2; ++i)
        if (begins[i])
            m->legs[i].current = std::move(seeds[i]);
    m->now = std::move(want);
    m->proposed.reset();
    if (!m->installed)
        m->answered = protocol::moment::now();
    m->installed = true;
    m->lost.reset();
    save(*m);
    start_loops(m);
    co_return result<void>{};
}

// The number of a secondary's first epoch; an epoch number never comes back with other keys.
std::uint32_t manager::begin_epochs(leg& l) {
    l.epoch = l.keyed ? std::max(l.epoch, l.highest) + 1 : 0;
    l.highest = l.epoch;
    l.stale = false;
    l.next.clear();
    l.next_installed = false;
    l.unanswered = 0;
    return l.epoch;
}

asio::awaitable<result<void>> manager::add_flows(const std::vector<api::flow_config>& plan) {
    const auto answer = co_await dataplane_.flow_add(plan);
    for (const auto& item : answer.value_or(std::vector<api::item_status>{}))
        if (item.status == api::status::ok)
            stats_.remember(item.id, item.value);
    co_return verdict(answer, "flows could not be added");
}

asio::awaitable<void> manager::remove_flows(const std::vector<api::flow_config>& plan) {
    std::vector<api::flow_ref> flows;
    for (const auto& config : plan)
        flows.push_back({config.id});
    if (!flows.empty())
        (void)co_await dataplane_.flow_remove(flows); // without a data plane, the next take-over removes them
}

// --- in force already ------------------------------------------------------------------------------------------------

// New remotes, hold, new SDES keys, a phone that moved; or, where the crypto itself changes, all anew.
asio::awaitable<result<void>> manager::change(media_ptr m, media_terms want) {
    if (m->lost)
        co_return fail(fmt::format("media {} is being put into the data plane again: try again", m->id));
    draft d;
    d.want = std::move(want);
    d.plan = m->flows(d.want, options_);
    if (!same_structure(m->plan, d.plan))
        co_return co_await make_anew(m, std::move(d.want));
    for (std::size_t i = 0; i < 2; ++i)
        d.moved[i] = d.want.legs[i].is_unit() && !d.want.legs[i].same_phone(m->now.legs[i]);
    auto done = co_await tell_units(m, d);
    if (done && !gone(*m))
        done = co_await swap(m, d);
    if (gone(*m))
        co_return over(m->id);
    if (!done) {
        for (std::size_t i = 0; i < 2; ++i)
            if (d.moved[i])
                protocol::spawn_contained(io_, "word to a unit", tell_again(m, i));
        co_return done;
    }
    for (std::size_t i = 0; i < 2; ++i)
        if (d.want.legs[i].remote_rtp != m->now.legs[i].remote_rtp && !d.want.legs[i].is_unit())
            m->legs[i].latched.reset();
    m->now = std::move(d.want);
    m->plan = m->flows(m->now, options_);
    m->proposed.reset();
    co_return done;
}

asio::awaitable<result<void>> manager::make_anew(media_ptr m, media_terms want) {
    auto before = m->now;
    keep_counters(m);
    co_await remove_flows(m->plan);
    if (gone(*m))
        co_return over(m->id);
    auto done = co_await install(m, std::move(want));
    if (gone(*m))
        co_return over(m->id);
    if (!done) {
        m->installed = true;
        if (auto back = co_await install(m, std::move(before)); !back && !gone(*m)) {
            m->installed = true;
            m->lost = std::chrono::steady_clock::now(); // tried again when the unit or the data plane returns
        }
        co_return done;
    }
    for (std::size_t i = 0; i < 2; ++i)
        if (before.legs[i].is_unit() && before.legs[i].tsid != m->now.legs[i].tsid)
            close_secondary(before.legs[i].tsid, m->id);
    co_return done;
}

// Units whose phone moves hear of it under the epoch in force, whose SEED they have answered: a MEDIA_OPEN never
// overtakes a re-key. Under the legs' locks.
asio::awaitable<result<void>> manager::tell_units(media_ptr m, draft& d) {
    for (std::size_t i = 0; i < 2; ++i) {
        auto& l = m->legs[i];
        if (!d.moved[i])
            continue;
        if (!l.current.known() || l.next.known() || l.stale) { // of an earlier life, or a SEED without its answer
            bool anew = false;
            if (auto settled = co_await rekey_locked(m, i, anew); !settled)
                co_return settled;
        }
        if (auto told = co_await send_media_open(m, d.want, i, l.current, true); !told)
            co_return told;
    }
    co_return result<void>{};
}

// A unit that heard of a change which came to nothing hears what is in force.
asio::awaitable<void> manager::tell_again(media_ptr m, std::size_t i) {
    const auto guard = co_await m->legs[i].lock.acquire();
    if (gone(*m) || !m->installed || m->lost || !m->now.legs[i].is_unit() || !m->legs[i].current.known())
        co_return;
    if (auto told = co_await send_media_open(m, m->now, i, m->legs[i].current, true); !told)
        spdlog::warn("media {}: {}", m->id, told.error().text);
}

// The data plane's part of a change, all of it or nothing.
asio::awaitable<result<void>> manager::swap(media_ptr m, draft& d) {
    auto plan = m->flows(d.want, options_);
    const auto before = m->plan;
    if (auto done = co_await update_flows(m, std::move(plan)); !done)
        co_return done;
    bool sdes_changed = false;
    for (std::size_t i = 0; i < 2; ++i)
        sdes_changed |= d.want.legs[i].srtp && d.want.legs[i].srtp != m->now.legs[i].srtp;
    if (!sdes_changed || gone(*m))
        co_return result<void>{};
    auto done = co_await change_sdes(m, d.want);
    if (!done && !gone(*m))
        (void)co_await update_flows(m, before);
    co_return done;
}

// Takes the data plane from m->plan to `plan`, and m->plan with it; back again where it refuses a part.
asio::awaitable<result<void>> manager::update_flows(media_ptr m, std::vector<api::flow_config> plan) {
    const auto updates = plan_updates(m->plan, plan);
    if (updates.empty())
        co_return result<void>{};
    auto done = verdict(co_await dataplane_.update_flows(updates), "flows could not be changed");
    if (!done)
        (void)co_await dataplane_.update_flows(plan_updates(plan, m->plan));
    else
        m->plan = std::move(plan);
    co_return done;
}

// A re-offer's new SDES keys, under the next number on both directions of every such leg.
asio::awaitable<result<void>> manager::change_sdes(media_ptr m, const media_terms& want) {
    key_batch keys;
    std::vector<api::epoch_ref> begin, end, back;
    const auto shapes = want.shapes();
    for (std::size_t i = 0; i < 2; ++i) {
        if (!want.legs[i].srtp)
            continue;
        const auto now = m->legs[i].epoch;
        add_sdes_keys(keys.items, want, i, now + 1);
        for (const auto flow : flows_towards(shapes, i)) {
            begin.push_back({flow, now + 1, api::side::out, {}});
            end.push_back({flow, now, api::side::out, {}});
            back.push_back({flow, now + 1, api::side::out, {}});
        }
        for (const auto flow : flows_from(shapes, i)) {
            end.push_back({flow, now, api::side::in, {}});
            back.push_back({flow, now + 1, api::side::in, {}});
        }
    }
    auto done = verdict(co_await dataplane_.epoch_install(keys.items), "SDES keys could not be changed");
    if (done)
        done = verdict(co_await dataplane_.epoch_switch(begin), "SDES keys could not be changed");
    // New SDES keys hold at once (RFC 4568 6.4).
    (void)co_await dataplane_.epoch_retire(done ? end : back);
    for (std::size_t i = 0; done && i < 2; ++i)
        if (want.legs[i].srtp)
            ++m->legs[i].epoch;
    co_return done;
}

} // namespace tandem::media
