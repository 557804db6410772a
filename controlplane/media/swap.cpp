// SPDX-License-Identifier: Apache-2.0
// The steps of a change, and the data plane's part of one, all of it or nothing: FLOW_REPLACE, in which what goes on
// keeps its state. Nothing is removed and added under a key that was in use. Owner thread: io_context.
#include "controlplane/media/swap.hpp"

#include <algorithm>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "controlplane/media/key_kind.hpp"

namespace tandem::media {

asio::awaitable<result<void>> manager::swap::run(std::span<swap* const> all) {
    result<void> done;
    try {
        done = co_await advance(all);
    } catch (const std::exception& fault) {
        spdlog::error("a change of media ended by an error inside: {}", fault.what());
        done = fail("an error inside: see the log");
    }
    if (!done)
        for (auto* one : all)
            co_await one->take_back();
    co_return done;
}

asio::awaitable<result<void>> manager::swap::run(swap& one) {
    const std::array<swap*, 1> all{&one};
    co_return co_await run(all);
}

asio::awaitable<result<void>> manager::swap::advance(std::span<swap* const> all) {
    result<void> done;
    for (auto* one : all) {
        if (done)
            done = co_await one->build();
        if (done)
            done = co_await one->confirm();
    }
    for (const bool first : {true, false})
        for (auto* one : all)
            if (done && one->is_first() == first) {
                done = co_await one->switch_over();
                if (done)
                    one->linger();
            }
    co_return done;
}

// --- the data plane's part -------------------------------------------------------------------------------------------

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

asio::awaitable<result<void>> manager::replacement::make(manager& of, media_ptr m, const media_terms& want,
                                                         const std::vector<api::flow_config>& plan,
                                                         const std::array<epoch_seeds, 2>& seeds) const {
    const auto shapes = want.shapes();
    auto aimed = plan;
    std::array<bool, 2> stays{};
    for (std::size_t i = 0; i < 2; ++i)
        stays[i] = goes_on[i] && want.legs[i].remote_rtp == m->now.legs[i].remote_rtp;
    of.aim(*m, want, aimed, stays);
    wiped_batch<api::flow_replacement> batch(plan_replacements(before, shapes, aimed, goes_on));
    for (auto& item : batch.items)
        item.config.source.anew = learn_anew && item.config.source.policy != api::source_policy::authenticated;
    if (was)
        keep_remotes(batch.items, m->plan, *was, shapes);
    key_batch fresh;
    for (std::size_t i = 0; i < 2; ++i) {
        auto added = key_kind::of(want.legs[i]).add(fresh.items, {*m, want, i, seeds[i], keys[i]});
        if (!added)
            co_return added;
    }
    choose_keys(batch.items, shapes, fresh.items);
    const auto answer = co_await of.dataplane_.flow_replace(batch.items);
    of.remember_slots(answer);
    auto done = verdict(answer, "flows could not be changed");
    if (!answer && !answer.error().connected && co_await was_made(of, m, batch.items))
        done = result<void>{};
    if (done)
        co_await remove_left(of, batch.items);
    co_return done;
}

void manager::replacement::choose_keys(std::vector<api::flow_replacement>& items,
                                       const std::array<leg_shape, 2>& shapes,
                                       const std::vector<api::epoch_key>& fresh) const {
    const auto choice = [](bool on, bool begins) {
        return on && !begins ? api::key_choice::keep : api::key_choice::fresh;
    };
    for (auto& item : items) {
        const auto i = *leg_of(shapes, item.config.id);
        item.in_keys = choice(goes_on[i], keys[i].fresh_in);
        item.out_keys = choice(goes_on[1 - i], keys[1 - i].fresh_out);
        for (const auto& key : fresh)
            if (key.id == item.config.id)
                (key.side == api::side::in ? item.in_key : item.out_key) = key;
    }
}

// Its answer was lost with the connection. What the data plane has when it is back, so soon that the caller can wait
// for it, is the answer; else the take-over brings what it has to what is in force.
asio::awaitable<bool> manager::replacement::was_made(manager& of, media_ptr m,
                                                     const std::vector<api::flow_replacement>& items) {
    const auto asked = std::make_shared<unsure_change>(of.io_);
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
    asked->known.expires_after(of.options_.ready_wait);
    asio::error_code ignored;
    co_await asked->known.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    m->unsure.reset();
    m->doubtful = !asked->made;
    co_return asked->made.value_or(false);
}

// Flows of which nothing went on are not replaced by any.
asio::awaitable<void> manager::replacement::remove_left(manager& of,
                                                        const std::vector<api::flow_replacement>& items) const {
    std::vector<api::flow_ref> left;
    for (const auto* some : {&before.rtp, &before.rtcp})
        for (const auto id : *some)
            if (id != 0 && std::ranges::none_of(items, [&](const auto& item) {
                    return item.config.id == id || std::ranges::count(item.in_from, id) != 0 ||
                           std::ranges::count(item.out_from, id) != 0;
                }))
                left.push_back({id});
    if (!left.empty())
        (void)co_await of.dataplane_.flow_remove(left);
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
