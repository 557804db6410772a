// SPDX-License-Identifier: Apache-2.0
// Media: open, update, close. Owner thread: io_context.
#include "controlplane/media/manager.hpp"

#include <algorithm>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/random.h>

#include "controlplane/media/state.hpp"
#include "controlplane/protocol/seed_keys.hpp"
#include "controlplane/protocol/spawn.hpp"

namespace tandem::media {

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
      journal_(store),
      ports_(std::make_shared<port_table>(options_.first_port, options_.last_port, options_.quarantine)),
      sweep_timer_(io), copy_timer_(io) {
    std::uint32_t start = 0;
    if (::getrandom(&start, sizeof(start), 0) == static_cast<ssize_t>(sizeof(start)))
        next_number_ = number_of(start) | 1; // they differ from run to run: they are bound into keys and show in logs
    const auto name =
        protocol::digest({reinterpret_cast<const std::uint8_t*>(options_.gateway.data()), options_.gateway.size()});
    if (!options_.gateway.empty())
        gateway_part_ = media_id{(name[0] << 16U | name[1] << 8U | name[2]) & 0x3fffffU} << media_number_bits;
}

// Unlike any that lives here, be it of an earlier run or taken over from another gateway: its units know the number.
media_id manager::new_id() {
    do
        next_number_ = number_of(next_number_ + media_id{1});
    while (next_number_ == 0 || numbers_.contains(next_number_));
    return gateway_part_ | next_number_;
}

manager::~manager() = default;

void manager::stop() {
    stopped_ = true;
    sweep_timer_.cancel();
    copy_timer_.cancel();
    for (auto& [id, m] : media_) {
        for (auto& l : m->legs)
            l.tick.cancel();
        tell_end(*m, observer::ending::handed_on, "the control plane stops");
    }
}

bool manager::gone(const state& m) const noexcept {
    return m.turn.over() || stopped_;
}

manager::media_ptr manager::find(media_id id) const {
    const auto found = media_.find(id);
    return found == media_.end() || found->second->turn.over() ? nullptr : found->second;
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
    co_return tl::unexpected(error{dataplane_.connected()
                                       ? "data plane is connected but its flows are not read back yet: try again"
                                       : dataplane_.trouble(),
                                   shortage::data_plane});
}

void manager::save(const state& m) {
    if (!m.turn.over())
        journal_.put(to_row(m));
}

void manager::note(const state& m) {
    if (!m.turn.over())
        journal_.note(to_row(m));
}

facts facts_of(const media_request& request) {
    facts out;
    out.call_id = request.call_id;
    out.branch = request.branch;
    out.index = request.index;
    out.kind = request.kind;
    out.caller = request.caller;
    out.callee = request.callee;
    out.caller_domain = request.caller_domain;
    out.callee_domain = request.callee_domain;
    out.caller_unit = request.caller_unit;
    out.callee_unit = request.callee_unit;
    out.opened = protocol::moment::now();
    return out;
}

// --- open, update, close ---------------------------------------------------------------------------------------------

namespace {

media_locals locals(media_id id, const media_terms& of) {
    return {id, {of.legs[0].local, of.legs[1].local}};
}

} // namespace

asio::awaitable<result<media_locals>> manager::open(const media_request& request) {
    const auto refused = [this](error why) {
        ++counters_.open_failures;
        return tl::unexpected(std::move(why));
    };
    if (auto ready = co_await wait_ready(); !ready)
        co_return refused(ready.error());
    if (const auto known = calls_.find(request.call_id); known != calls_.end())
        for (const auto& one : known->second)
            if (!one->turn.over() && one->branch == request.branch && one->index == request.index) {
                auto want = plan(*one, request);
                if (!want)
                    co_return refused(want.error());
                one->proposed = std::move(*want);
                co_return locals(one->id, *one->proposed);
            }
    if (auto room = check_room(request); !room)
        co_return refused(room.error());

    const auto m = std::make_shared<state>(io_);
    static_cast<facts&>(*m) = facts_of(request);
    m->running = request.running;
    m->with_unit = std::ranges::any_of(request.legs, [](const auto& l) { return l.kind == leg_kind::unit; });
    if (m->with_unit) {
        auto first = levels_.explain(question_of(*m, request));
        if (first.denied) // since it was asked
            co_return refused({denial(*first.denied)});
        take_decision(*m, std::move(first));
    }
    auto want = plan(*m, request);
    if (!want)
        co_return refused(want.error());
    m->now = std::move(*want);
    m->id = new_id();
    remember(m);
    ++counters_.opened;
    save(*m);
    ask_contacts(m, m->now); // answered while the phone rings
    if (request.early && m->now.complete() && !m->now.has_unit())
        co_await begin_early(m);
    co_return locals(m->id, m->now);
}

// What the callee sends before its answer is here reaches the caller. Without it the call goes on all the same.
asio::awaitable<void> manager::begin_early(media_ptr m) {
    const auto mine = co_await m->turn.whole();
    if (!mine || gone(*m) || m->installed)
        co_return;
    m->early = true;
    if (auto done = co_await install(m, m->now); !done) {
        m->early = false;
        spdlog::warn("media {}: nothing is carried before the answer: {}", m->id, done.error().text);
    }
}

void manager::withdraw(media_id id) {
    if (const auto m = find(id))
        m->proposed.reset();
}

// Plan first, then commit: before anything changes, all that the media need was found and taken.
asio::awaitable<result<std::vector<media_locals>>> manager::update(std::vector<media_change> changes) {
    std::vector<media_ptr> all;
    std::vector<turn> mine; // until all is done
    for (const auto& one : changes) {
        const auto m = find(one.id);
        if (!m)
            co_return fail(fmt::format("media {} is over", one.id));
        mine.push_back(co_await m->turn.whole());
        if (!mine.back())
            co_return fail(fmt::format("media {} is over", one.id));
        all.push_back(m);
    }
    if (auto ready = co_await wait_ready(); !ready)
        co_return tl::unexpected(ready.error());
    std::vector<media_terms> want;
    for (std::size_t n = 0; n < all.size(); ++n) {
        auto planned = plan(*all[n], changes[n].request);
        if (!planned)
            co_return tl::unexpected(planned.error());
        want.push_back(std::move(*planned));
    }
    for (std::size_t n = 0; n < all.size(); ++n)
        if (!all[n]->installed)
            learn(*all[n], changes[n].request);
    if (auto decided = co_await decide_all(all, want, changes); !decided)
        co_return tl::unexpected(decided.error());
    if (auto applied = co_await apply_all(all, std::move(want)); !applied)
        co_return tl::unexpected(applied.error());
    std::vector<media_locals> out;
    for (std::size_t n = 0; n < all.size(); ++n) {
        learn(*all[n], changes[n].request);
        if (std::exchange(all[n]->early, false)) {
            all[n]->answered = protocol::moment::now();
            for (auto& l : all[n]->legs)
                l.hear_anew();
        }
        if (all[n]->installed && !gone(*all[n]))
            tell_begin(*all[n], observer::beginning::answered);
        save(*all[n]);
        out.push_back(locals(all[n]->id, all[n]->now));
    }
    co_return out;
}

// Names that a later offer or answer knows better.
void manager::learn(state& m, const media_request& request) {
    for (const auto& [to, from] : {std::pair{&m.callee, &request.callee},
                                   {&m.caller_domain, &request.caller_domain},
                                   {&m.callee_domain, &request.callee_domain},
                                   {&m.caller_unit, &request.caller_unit},
                                   {&m.callee_unit, &request.callee_unit}})
        if (!from->empty())
            *to = *from;
}

asio::awaitable<void> manager::close(media_id id, const std::string& cause_text) {
    const auto cause = cause_text; // the caller's string may be gone after the first wait
    const auto m = find(id);
    if (!m)
        co_return;
    const bool was_in_force = m->observed;
    tell_end(*m, observer::ending::over, cause);
    m->turn.close();
    for (auto& l : m->legs) {
        l.tick.cancel();
        l.forget();
    }
    for (auto& terms : m->now.legs)
        terms.srtp.reset();
    const bool was_installed = m->installed;
    if (was_installed) {
        for (std::size_t i = 0; i < 2; ++i)
            m->legs[i].before = received(*m, i);
        m->installed = false; // its counters are kept; the flows' are gone
    }
    for (std::size_t i = 0; i < 2; ++i) // before its row goes: killed between, the next run says it
        if (m->now.legs[i].is_unit() && m->legs[i].keyed)
            close_secondary(m->now.legs[i], id);
    co_await remove_flows(m->plan);
    ++counters_.ended;
    m->installed = was_installed;
    journal_.record(to_record(*m, cause));
    if (!was_in_force) // else its observers say it
        spdlog::info("media {} of call {} ended: {}", id, m->call_id, cause);
    for (auto& terms : m->now.legs)
        terms.port.reset();
    m->proposed.reset();
    forget(m);
}

void manager::remember(const media_ptr& m) {
    m->running = true;
    m->reserved = flows_for(m->now.legs[0].kind, m->now.legs[1].kind);
    reserved_flows_ += m->reserved;
    media_.emplace(m->id, m);
    numbers_.insert(number_of(m->id));
    calls_[m->call_id].push_back(m);
}

void manager::forget(const media_ptr& m) {
    if (media_.erase(m->id) != 0) {
        reserved_flows_ -= m->reserved;
        numbers_.erase(number_of(m->id));
    }
    const auto call = calls_.find(m->call_id);
    if (call != calls_.end() && std::erase(call->second, m) != 0 && call->second.empty())
        calls_.erase(call);
}

void manager::end_by_itself(const media_ptr& m, const std::string& cause) {
    if (m->turn.over())
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

} // namespace tandem::media
