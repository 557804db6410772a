// SPDX-License-Identifier: Apache-2.0
// Flows, keys and secondaries from nothing: of a media that is answered, and of one whose flows the data plane lost
// with its memory. Owner thread: io_context.
#include <algorithm>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <utility>

#include "controlplane/media/key_kind.hpp"
#include "controlplane/media/state.hpp"

namespace tandem::media {

// What goes towards a leg goes to where it was heard last.
void manager::aim(const state& m, const media_terms& of, std::vector<api::flow_config>& plan,
                  std::array<bool, 2> which) const {
    for (std::size_t i = 0; i < 2; ++i)
        for (const auto flow : flows_towards(of.shapes(), i))
            for (auto& config : plan)
                if (which[i] && config.id == flow && m.legs[i].latched) {
                    config.route.rtp_remote =
                        dataplane_client::to_net_address(m.legs[i].latched->address, m.legs[i].latched->port);
                    if (of.legs[i].shape().mux)
                        config.route.rtcp_remote = config.route.rtp_remote;
                }
}

// In the turn of both legs.
asio::awaitable<result<void>> manager::install(media_ptr m, media_terms want) {
    std::array<epoch_seeds, 2> seeds;
    std::array<bool, 2> begins{};
    for (std::size_t i = 0; i < 2; ++i) {
        begins[i] = key_kind::of(want.legs[i]).has_seeds();
        m->legs[i].hear_anew();
        if (begins[i])
            seeds[i].epoch = m->legs[i].begin_next();
    }
    m->plan = m->flows(want, options_);
    auto done = co_await first_seeds(m, want, seeds, begins);
    if (done && !gone(*m))
        done = co_await install_flows(m, want, seeds);
    std::array<bool, 2> deaf{};
    for (std::size_t i = 0; i < 2 && done && !gone(*m); ++i)
        if (begins[i]) {
            done = co_await send_media_open(m, want, i, seeds[i]);
            if (deaf[i] = !done && m->installed; deaf[i]) // the other leg goes on; this one begins anew with its unit
                done = result<void>();
        }
    if (done && !gone(*m))
        done = co_await update_flows(m, m->flows(want, options_));
    if (gone(*m))
        co_return over(m->id);
    if (!done) {
        const auto before = std::exchange(m->now, std::move(want)); // whose units are told
        co_await uninstall(m);
        m->now = before;
        co_return done;
    }
    for (std::size_t i = 0; i < 2; ++i)
        if (begins[i]) {
            m->legs[i].begin(std::move(seeds[i]));
            m->legs[i].stale = deaf[i];
        }
    m->now = std::move(want);
    m->proposed.reset();
    if (!m->installed && !m->early)
        m->answered = protocol::moment::now();
    m->installed = true;
    m->streams = {};
    m->lost.reset();
    save(*m);
    start_loops(m);
    co_return result<void>{};
}

// Flows with what is known of their streams, and their keys.
asio::awaitable<result<void>> manager::install_flows(media_ptr m, const media_terms& want,
                                                     const std::array<epoch_seeds, 2>& seeds) {
    auto plan = m->plan;
    if (m->installed)
        aim(*m, want, plan, {true, true});
    auto done = co_await add_flows(plan);
    if (!done && !gone(*m)) { // left over from an earlier life at the same ports
        co_await remove_flows(plan);
        if (!gone(*m))
            done = co_await add_flows(plan);
    }
    if (done && !gone(*m) && m->installed)
        done = co_await put_streams(m, want);
    if (!done || gone(*m))
        co_return done;
    m->streams.stale = true; // once there are keys, more may go than the copy knows
    co_return co_await install_keys(m, want, seeds);
}

asio::awaitable<void> manager::uninstall(media_ptr m) {
    co_await remove_flows(m->plan);
    m->installed = false;
    for (std::size_t i = 0; i < 2; ++i) {
        m->legs[i].current.clear();
        if (m->now.legs[i].is_unit() && m->legs[i].keyed)
            close_secondary(m->now.legs[i], m->id);
    }
}

asio::awaitable<result<void>> manager::add_flows(const std::vector<api::flow_config>& plan) {
    const auto answer = co_await dataplane_.flow_add(plan);
    remember_slots(answer);
    co_return verdict(answer, "flows could not be added");
}

void manager::remember_slots(const dataplane_client::client::statuses& answer) {
    for (const auto& item : answer.value_or(std::vector<api::item_status>{}))
        if (item.status == api::status::ok)
            stats_.remember(item.id, item.value);
}

asio::awaitable<void> manager::remove_flows(std::vector<api::flow_config> plan) {
    std::vector<api::flow_ref> flows;
    for (const auto& config : plan)
        flows.push_back({config.id});
    if (!flows.empty())
        (void)co_await dataplane_.flow_remove(flows); // without a data plane, the next take-over removes them
}

} // namespace tandem::media
