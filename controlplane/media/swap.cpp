// SPDX-License-Identifier: Apache-2.0
// The data plane's part of a change, all of it or nothing: new remotes and hold by FLOW_UPDATE, all else by
// FLOW_REPLACE, in which what goes on keeps its state. Nothing is removed and added under a key that was in use. Owner
// thread: io_context.
#include <algorithm>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "controlplane/media/state.hpp"

namespace tandem::media {

namespace {

// A remote that stays signalled as it was stays where it is, latched or not (flow_replacement).
void keep_remotes(std::vector<api::flow_replacement>& items, const std::vector<api::flow_config>& before,
                  const std::array<leg_shape, 2>& was, const std::array<leg_shape, 2>& is) {
    for (auto& item : items) {
        if (item.out_from[0] == 0)
            continue;
        const auto i = *leg_of(is, item.config.id);
        const auto old = std::ranges::find(before, was[i].rtp(), &api::flow_config::id);
        if (old == before.end())
            continue;
        auto& route = item.config.route;
        const auto planned = route;
        if (same_place(planned.rtp_remote, old->route.rtp_remote))
            route.rtp_remote = {};
        if (same_place(planned.rtcp_remote, old->route.rtcp_remote) && was[1 - i].mux == is[1 - i].mux)
            route.rtcp_remote = {};
    }
}

} // namespace

asio::awaitable<result<void>> manager::swap(draft& d) {
    const auto& m = d.m;
    auto plan = m->flows(d.want, options_);
    std::array<bool, 2> goes_on{};
    std::array<key_step, 2> keys;
    bool updates = same_structure(m->plan, plan);
    for (std::size_t i = 0; i < 2; ++i) {
        goes_on[i] = d.told[i] != draft::word::opened && d.want.legs[i].same_peer(m->now.legs[i]);
        keys[i] = m->legs[i].plan(m->now.legs[i], d.want.legs[i]);
        updates = updates && goes_on[i] && !keys[i].fresh_in && !keys[i].fresh_out;
    }
    if (updates) {
        if (auto done = co_await update_flows(m, std::move(plan), d.signalled); !done)
            co_return done;
    } else {
        const std::array heard{received(*m, 0), received(*m, 1)};
        replacement how{by_leg(m->now.shapes()), m->now.shapes(), goes_on, keys, d.signalled};
        if (auto done = co_await replace(m, d.want, plan, how, d.seeds); !done)
            co_return done;
        if (gone(*m)) { // its old flows were removed meanwhile: so are these
            co_await remove_flows(plan);
            co_return over(m->id);
        }
        for (std::size_t i = 0; i < 2; ++i)
            if (!goes_on[i]) // its flows' counters do not go along
                m->legs[i].before = heard[i];
        m->plan = std::move(plan);
        m->streams = {}; // of other flows
    }
    commit(d, goes_on, keys);
    co_return result<void>{};
}

// All flows of a media in one group. m->plan and the legs' state stay the caller's.
asio::awaitable<result<void>> manager::replace(media_ptr m, const media_terms& want,
                                               const std::vector<api::flow_config>& plan, const replacement& how,
                                               const std::array<epoch_seeds, 2>& seeds) {
    const auto shapes = want.shapes();
    auto aimed = plan;
    std::array<bool, 2> stays{};
    for (std::size_t i = 0; i < 2; ++i)
        stays[i] = how.goes_on[i] && want.legs[i].remote_rtp == m->now.legs[i].remote_rtp;
    aim(*m, want, aimed, stays);
    wiped_batch<api::flow_replacement> batch(plan_replacements(how.before, shapes, aimed, how.goes_on));
    for (auto& item : batch.items)
        item.config.source.anew = how.learn_anew && item.config.source.policy != api::source_policy::authenticated;
    if (how.was)
        keep_remotes(batch.items, m->plan, *how.was, shapes);
    key_batch fresh;
    for (std::size_t i = 0; i < 2; ++i) {
        if (seeds[i].known() && !add_unit_keys(fresh.items, *m, want, i, seeds[i]))
            co_return fail("keys could not be derived from the seed");
        if (want.legs[i].srtp)
            add_sdes_keys(fresh.items, want, i, how.keys[i]);
    }
    for (auto& item : batch.items) {
        const auto i = *leg_of(shapes, item.config.id);
        const auto choice = [](bool goes_on, bool begins) {
            return goes_on && !begins ? api::key_choice::keep : api::key_choice::fresh;
        };
        item.in_keys = choice(how.goes_on[i], how.keys[i].fresh_in);
        item.out_keys = choice(how.goes_on[1 - i], how.keys[1 - i].fresh_out);
        for (const auto& key : fresh.items)
            if (key.id == item.config.id)
                (key.side == api::side::in ? item.in_key : item.out_key) = key;
    }
    const auto answer = co_await dataplane_.flow_replace(batch.items);
    remember_slots(answer);
    auto done = verdict(answer, "flows could not be changed");
    if (!answer && !answer.error().connected && co_await was_made(m, batch.items))
        done = result<void>{};
    if (done)
        co_await remove_left(how.before, batch.items);
    co_return done;
}

// Its answer was lost with the connection. What the data plane has when it is back, so soon that the caller can wait
// for it, is the answer; else the take-over brings what it has to what is in force.
asio::awaitable<bool> manager::was_made(media_ptr m, const std::vector<api::flow_replacement>& items) {
    const auto asked = std::make_shared<unsure_change>(io_);
    for (const auto& item : items) {
        auto& kept = asked->items.emplace_back();
        kept.config = item.config;
        for (const auto& [to, from] : {std::pair{&kept.in_key, &item.in_key}, {&kept.out_key, &item.out_key}}) {
            to->key_length = from->key_length;
            to->epoch = from->epoch;
        }
    }
    m->unsure = asked;
    m->doubtful = true;
    asked->known.expires_after(options_.ready_wait);
    asio::error_code ignored;
    co_await asked->known.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    m->unsure.reset();
    m->doubtful = !asked->made;
    co_return asked->made.value_or(false);
}

// Flows of which nothing went on are not replaced by any.
asio::awaitable<void> manager::remove_left(const flows_by_leg& before,
                                           const std::vector<api::flow_replacement>& items) {
    std::vector<api::flow_ref> left;
    for (const auto* some : {&before.rtp, &before.rtcp})
        for (const auto id : *some)
            if (id != 0 && std::ranges::none_of(items, [&](const auto& item) {
                    return item.config.id == id || std::ranges::count(item.in_from, id) != 0 ||
                           std::ranges::count(item.out_from, id) != 0;
                }))
                left.push_back({id});
    if (!left.empty())
        (void)co_await dataplane_.flow_remove(left);
}

// The state of a media after the data plane took its change.
void manager::commit(draft& d, std::array<bool, 2> goes_on, const std::array<key_step, 2>& keys) {
    const auto& m = d.m;
    for (std::size_t i = 0; i < 2; ++i) {
        auto& l = m->legs[i];
        const auto &was = m->now.legs[i], &is = d.want.legs[i];
        if (was.is_unit() && (was.tsid != is.tsid || was.second != is.second))
            close_secondary(was, m->id);
        if (d.seeds[i].known())
            l.begin(std::move(d.seeds[i]));
        else if (!is.is_unit())
            l.begin(is, keys[i]);
        if (!goes_on[i])
            l.hear_anew();
        if (!goes_on[i] || (!is.is_unit() && was.remote_rtp != is.remote_rtp))
            l.latched.reset();
    }
    m->now = d.want;
    m->proposed.reset();
    m->opening.clear();
    start_loops(m);
}

// A unit that has lost its secondary, or whose seed an earlier life took along, begins anew: its own sides of the flows
// under a fresh epoch and from index 0, as the unit; the other leg's go on. In the leg's turn.
asio::awaitable<result<void>> manager::renew(media_ptr m, std::size_t i) {
    draft d(m, m->now);
    std::array<bool, 2> begins{};
    begins[i] = true;
    d.seeds[i].epoch = m->legs[i].begin_next();
    auto done = co_await first_seeds(m, d.want, d.seeds, begins);
    if (done && !gone(*m))
        done = co_await send_media_open(m, d.want, i, d.seeds[i]);
    if (gone(*m))
        co_return over(m->id);
    if (!done)
        co_return done;
    d.told[i] = draft::word::opened;
    done = co_await swap(d);
    if (done && !gone(*m)) {
        ++counters_.renewed;
        save(*m);
    }
    co_return done;
}

asio::awaitable<void> manager::learn_anew(std::vector<media_id> media) {
    for (const auto id : media) {
        const auto m = find(id);
        if (!m)
            continue;
        const auto mine = co_await m->turn.whole();
        if (!mine || gone(*m) || !m->installed || m->lost)
            continue;
        if (auto done = co_await update_flows(m, m->plan, true); !done)
            spdlog::warn("media {}: {}", id, done.error().text);
    }
}

// Takes the data plane from m->plan to `plan`, and m->plan with it; back again where it refuses a part.
asio::awaitable<result<void>> manager::update_flows(media_ptr m, std::vector<api::flow_config> plan, bool anew) {
    const auto updates = plan_updates(m->plan, plan, anew);
    if (updates.empty())
        co_return result<void>{};
    auto done = verdict(co_await dataplane_.update_flows(updates), "flows could not be changed");
    if (!done)
        (void)co_await dataplane_.update_flows(plan_updates(plan, m->plan));
    else
        m->plan = std::move(plan);
    co_return done;
}

} // namespace tandem::media
