// SPDX-License-Identifier: Apache-2.0
// Media: open, update, close; ports and flows. Owner thread: io_context.
#include "controlplane/media/manager.hpp"

#include <algorithm>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/random.h>

#include "controlplane/media/state.hpp"
#include "controlplane/protocol/spawn.hpp"

namespace tandem::media {

namespace {

bool same_sdes(const std::optional<sdes>& a, const std::optional<sdes>& b) {
    if (a.has_value() != b.has_value())
        return false;
    const auto equal = [](const protocol::secret& x, const protocol::secret& y) {
        return std::ranges::equal(x.view(), y.view());
    };
    return !a || (a->suite == b->suite && equal(a->receive, b->receive) && equal(a->send, b->send));
}

} // namespace

result<void> verdict(const dataplane_client::client::statuses& answer, std::string_view what) {
    if (!answer)
        return tl::unexpected(error{fmt::format("{}: {}", what, answer.error().text)});
    for (const auto& item : *answer)
        if (item.status != api::status::ok)
            return tl::unexpected(
                error{fmt::format("{} (port {}): {}", what, item.id & 0xffff, dataplane_client::text(item.status))});
    return {};
}

manager::manager(asio::io_context& io, settings options, dataplane_client::client& dataplane,
                 dataplane_client::stats_reader& stats, session::directory& sessions, policy::decider& levels,
                 journal& store)
    : io_(io), options_(std::move(options)), dataplane_(dataplane), stats_(stats), sessions_(sessions), levels_(levels),
      journal_(store), sweep_timer_(io) {
    std::uint32_t start = 0;
    if (::getrandom(&start, sizeof(start), 0) == static_cast<ssize_t>(sizeof(start)))
        next_id_ = (start & 0x7fffffff) | 1; // ids differ from run to run: they are bound into keys and show in logs
}

manager::~manager() = default;

void manager::stop() {
    stopped_ = true;
    sweep_timer_.cancel();
    for (auto& [id, m] : media_) {
        ++m->era;
        for (auto& l : m->legs)
            l.tick.cancel();
    }
}

manager::media_ptr manager::find(media_id id) const {
    const auto found = media_.find(id);
    return found == media_.end() || found->second->closing ? nullptr : found->second;
}

asio::awaitable<result<void>> manager::wait_ready() {
    const auto deadline = std::chrono::steady_clock::now() + options_.ready_wait;
    while (!ready_ && !stopped_ && std::chrono::steady_clock::now() < deadline) {
        asio::steady_timer pause(io_, std::chrono::milliseconds(20));
        asio::error_code ignored;
        co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    if (ready_)
        co_return result<void>{};
    co_return fail(dataplane_.connected() ? "data plane is connected but its flows are not read back yet: try again"
                                          : dataplane_.trouble());
}

media_locals manager::locals(const state& m) const {
    return {m.id, {m.legs[0].local, m.legs[1].local}};
}

void manager::save(const state& m) {
    if (!m.closing)
        journal_.put(to_row(m));
}

// --- open, update, close ---------------------------------------------------------------------------------------------

asio::awaitable<result<media_locals>> manager::open(const media_request& request) {
    if (auto ready = co_await wait_ready(); !ready) {
        ++counters_.open_failures;
        co_return tl::unexpected(ready.error());
    }
    if (const auto known = calls_.find(request.call_id); known != calls_.end())
        for (const auto& one : known->second)
            if (!one->closing && one->index == request.index) // a repeated offer
                co_return locals(*one);

    const auto m = std::make_shared<state>(io_);
    while (media_.contains(next_id_) || next_id_ == 0)
        next_id_ = (next_id_ + 1) & 0x7fffffff;
    m->id = next_id_;
    next_id_ = (next_id_ + 1) & 0x7fffffff;
    m->call_id = request.call_id;
    m->index = request.index;
    m->kind = request.kind;
    m->caller = request.caller;
    m->callee = request.callee;
    m->caller_domain = request.caller_domain;
    m->callee_domain = request.callee_domain;
    m->forward = request.forward;
    m->opened = std::chrono::system_clock::now();
    if (std::ranges::any_of(request.legs, [](const auto& l) { return l.kind == leg_kind::unit; }))
        take_decision(*m, levels_.explain(question_of(*m, request)));
    m->clock_rate = request.clock_rate;
    for (std::size_t i = 0; i < 2; ++i)
        if (auto shaped = shape_leg(m, i, request.legs[i]); !shaped) {
            ++counters_.open_failures;
            for (auto& l : m->legs)
                release_port(l);
            co_return tl::unexpected(shaped.error());
        }
    remember(m);
    ++counters_.opened;
    save(*m);
    ask_contacts(m); // answered while the phone rings
    co_return locals(*m);
}

asio::awaitable<result<media_locals>> manager::update(media_id id, const media_request& request) {
    auto m = find(id);
    if (!m)
        co_return fail(fmt::format("media {} is over", id));
    const auto guard = co_await m->lock.acquire();
    if (m->closing)
        co_return fail(fmt::format("media {} is over", id));
    if (auto ready = co_await wait_ready(); !ready)
        co_return tl::unexpected(ready.error());

    bool sdes_changed = false;
    bool phone_changed = false;
    for (std::size_t i = 0; i < 2; ++i) {
        auto& l = m->legs[i];
        const auto& wanted = request.legs[i];
        sdes_changed |= l.suite != api::suite::clear && !l.is_unit() && wanted.srtp && !same_sdes(l.srtp, wanted.srtp);
        phone_changed |= l.is_unit() && (l.remote_rtp != wanted.remote_rtp || l.remote_rtcp != wanted.remote_rtcp ||
                                         l.mux != wanted.rtcp_mux);
        if (auto shaped = shape_leg(m, i, wanted); !shaped)
            co_return tl::unexpected(shaped.error());
        l.srtp.reset();
        if (wanted.srtp)
            l.srtp = sdes{wanted.srtp->suite, wanted.srtp->receive.copy(), wanted.srtp->send.copy()};
    }
    m->forward = request.forward;
    m->clock_rate = request.clock_rate;
    const auto learn = [](std::string& to, const std::string& from) {
        if (!from.empty())
            to = from;
    };
    learn(m->callee, request.callee);
    learn(m->caller_domain, request.caller_domain);
    learn(m->callee_domain, request.callee_domain);

    const auto known = [](const leg& l) { return l.remote_rtp || l.unroutable; };
    const bool complete = known(m->legs[0]) && known(m->legs[1]);
    if (complete && m->has_unit() && !m->decided)
        if (!co_await decide_call(m, question_of(*m, request)))
            co_return fail(fmt::format("media {} was ended meanwhile", id));
    result<void> done;
    const bool fresh = !m->installed && complete;
    if (fresh) {
        done = co_await install(m);
        if (done) {
            ++counters_.installed;
            spdlog::info("media {} of call {} is up: {} {}, {} {}{}", id, m->call_id,
                         m->legs[0].is_unit() ? "unit" : "core", api::info(m->legs[0].suite).name,
                         m->legs[1].is_unit() ? "unit" : "core", api::info(m->legs[1].suite).name,
                         m->has_unit() ? fmt::format(", level {} ({})", m->level.name, m->decided_by) : "");
        } else
            ++counters_.open_failures;
    } else if (m->installed) {
        done = co_await change(m, sdes_changed, phone_changed);
    }
    if (m->closing)
        co_return fail(fmt::format("media {} was ended meanwhile", id));
    if (!fresh || !done) // install() has saved what it made
        save(*m);
    if (!done)
        co_return tl::unexpected(done.error());
    co_return locals(*m);
}

// Flows, keys, secondaries from nothing; also after the data plane or a unit lost its state (epochs go on counting).
asio::awaitable<result<void>> manager::install(media_ptr m) {
    if (m->closing)
        co_return fail("media was ended meanwhile");
    const auto era = ++m->era;
    auto plan = m->make_plan(options_);
    for (std::size_t i = 0; i < 2; ++i) {
        auto& l = m->legs[i];
        l.retiring.clear();
        l.silent = false;
        l.last_progress = std::chrono::steady_clock::now();
        l.last_rtp = 0;
        if (l.is_unit()) {
            l.epoch = l.keyed ? std::max(l.epoch, l.highest) + 1 : 0;
            l.highest = l.epoch;
            l.stale = false;
            l.next.clear();
            l.next_installed = false;
            l.unanswered = 0;
        }
    }
    m->plan = plan;
    if (m->installed) // a fresh start sends to where the legs were heard last
        for (std::size_t i = 0; i < 2; ++i)
            for (const auto flow : flows_towards(m->shapes(), i))
                for (auto& config : plan)
                    if (config.id == flow && m->legs[i].latched) {
                        config.route.rtp_remote =
                            dataplane_client::to_net_address(m->legs[i].latched->address, m->legs[i].latched->port);
                        if (m->legs[i].shape().mux)
                            config.route.rtcp_remote = config.route.rtp_remote;
                    }

    auto added = co_await first_seeds(m, era);
    if (added && era == m->era) {
        added = co_await add_flows(plan);
        if (!added && era == m->era) { // left over from an earlier life at the same ports
            co_await remove_flows(m);
            if (era == m->era)
                added = co_await add_flows(plan);
        }
    }
    if (added && era == m->era)
        added = co_await install_keys(m, era);
    for (std::size_t i = 0; i < 2 && added && era == m->era; ++i)
        if (m->legs[i].is_unit())
            added = co_await send_media_open(m, i, era);
    if (era != m->era)
        co_return fail("media was changed or ended meanwhile");
    if (!added) {
        co_await remove_flows(m);
        m->installed = false;
        for (auto& l : m->legs) {
            l.current.clear();
            if (l.is_unit() && l.keyed)
                protocol::spawn_contained(io_, "end of a secondary", send_media_close(l.tsid, m->id));
        }
        co_return added;
    }
    if (!m->installed)
        m->answered = std::chrono::system_clock::now();
    m->installed = true;
    m->lost.reset();
    save(*m);
    start_loops(m);
    co_return result<void>{};
}

// Installed already: new remotes, hold, new SDES keys, a phone that moved; or, where the crypto itself changes, all
// anew.
asio::awaitable<result<void>> manager::change(media_ptr m, bool sdes_changed, bool phone_changed) {
    const auto plan = m->make_plan(options_);
    if (!same_structure(m->plan, plan)) {
        keep_counters(m);
        co_await remove_flows(m);
        co_return co_await install(m);
    }
    const auto era = m->era;
    const auto updates = plan_updates(m->plan, plan);
    for (const auto& update : updates)
        if ((update.mask & api::update_remote) != 0)
            for (std::size_t i = 0; i < 2; ++i)
                if (std::ranges::count(flows_towards(m->shapes(), i), update.id) != 0)
                    m->legs[i].latched.reset();
    m->plan = plan;
    if (!updates.empty())
        if (auto done = verdict(co_await dataplane_.update_flows(updates), "flows could not be changed"); !done)
            co_return done;
    if (sdes_changed && era == m->era)
        if (auto done = co_await change_sdes(m); !done)
            co_return done;
    if (phone_changed)
        for (std::size_t i = 0; i < 2 && era == m->era; ++i)
            if (m->legs[i].is_unit()) {
                if (!m->legs[i].current.known()) // taken over from an earlier life: its seed is not known any more
                    if (auto fresh = co_await rekey_leg(m, i); !fresh)
                        co_return tl::unexpected(fresh.error());
                if (auto moved = co_await send_media_open(m, i, era); !moved)
                    co_return moved;
            }
    co_return result<void>{};
}

// A re-offer's new SDES keys, under the next number on both directions of every such leg.
asio::awaitable<result<void>> manager::change_sdes(media_ptr m) {
    for (auto& l : m->legs)
        if (!l.is_unit() && l.srtp)
            ++l.epoch;
    key_batch keys;
    std::vector<api::epoch_ref> begin, end;
    for (std::size_t i = 0; i < 2; ++i)
        if (!m->legs[i].is_unit() && m->legs[i].srtp) {
            add_sdes_keys(keys.items, *m, i);
            for (const auto flow : flows_towards(m->shapes(), i)) {
                begin.push_back({flow, m->legs[i].epoch, api::side::out, {}});
                end.push_back({flow, m->legs[i].epoch - 1, api::side::out, {}});
            }
            for (const auto flow : flows_from(m->shapes(), i))
                end.push_back({flow, m->legs[i].epoch - 1, api::side::in, {}});
        }
    auto done = verdict(co_await dataplane_.epoch_install(keys.items), "SDES keys could not be changed");
    if (done)
        done = verdict(co_await dataplane_.epoch_switch(begin), "SDES keys could not be changed");
    if (done)
        (void)co_await dataplane_.epoch_retire(end); // new SDES keys hold at once (RFC 4568 6.4)
    co_return done;
}

asio::awaitable<result<void>> manager::add_flows(const std::vector<api::flow_config>& plan) {
    const auto answer = co_await dataplane_.flow_add(plan);
    for (const auto& item : answer.value_or(std::vector<api::item_status>{}))
        if (item.status == api::status::ok)
            stats_.remember(item.id, item.value);
    co_return verdict(answer, "flows could not be added");
}

asio::awaitable<void> manager::remove_flows(media_ptr m) {
    std::vector<api::flow_ref> flows;
    for (const auto& config : m->plan)
        flows.push_back({config.id});
    if (!flows.empty())
        (void)co_await dataplane_.flow_remove(flows); // without a data plane, the next take-over removes them
}

asio::awaitable<void> manager::close(media_id id, const std::string& cause_text) {
    const auto cause = cause_text; // the caller's string may be gone after the first wait
    const auto m = find(id);
    if (!m)
        co_return;
    m->closing = true;
    ++m->era;
    for (auto& l : m->legs) {
        l.tick.cancel();
        l.current.clear();
        l.next.clear();
        l.srtp.reset();
    }
    const bool was_installed = m->installed;
    if (was_installed) {
        keep_counters(m);
        m->installed = false; // its counters are kept; the flows' are gone
    }
    co_await remove_flows(m);
    ++counters_.ended;
    m->installed = was_installed;
    journal_.record(to_record(*m, cause));
    spdlog::info("media {} of call {} ended: {} ({} re-keys)", id, m->call_id, cause, m->rekeys);
    for (auto& l : m->legs) {
        if (l.is_unit() && l.keyed)
            protocol::spawn_contained(io_, "end of a secondary", send_media_close(l.tsid, id));
        release_port(l);
    }
    forget(m);
}

void manager::remember(const media_ptr& m) {
    media_.emplace(m->id, m);
    calls_[m->call_id].push_back(m);
}

void manager::forget(const media_ptr& m) {
    media_.erase(m->id);
    const auto call = calls_.find(m->call_id);
    if (call != calls_.end() && std::erase(call->second, m) != 0 && call->second.empty())
        calls_.erase(call);
}

void manager::end_by_itself(const media_ptr& m, const std::string& cause) {
    if (m->closing)
        return;
    const auto tell = [this, m, cause] { // its call ends, however that of the media went
        if (on_ended)
            on_ended(m->id, m->call_id, cause);
    };
    protocol::spawn_contained(
        io_, "end of a media",
        [](manager* self, media_ptr ended, std::string why, auto then) -> asio::awaitable<void> {
            co_await self->close(ended->id, why);
            then();
        }(this, m, cause, tell),
        tell);
}

asio::awaitable<void> manager::close_all_but(std::vector<media_id> known, std::string cause) {
    std::ranges::sort(known);
    std::vector<media_id> orphans;
    for (const auto& [id, m] : media_)
        if (!std::ranges::binary_search(known, id))
            orphans.push_back(id);
    for (const auto id : orphans)
        co_await close(id, cause);
}

std::size_t manager::free_ports() {
    std::size_t sum = 0;
    for (auto& [address, pool] : pools_)
        sum += pool.free_now(port_pool::clock::now());
    return sum;
}

} // namespace tandem::media
