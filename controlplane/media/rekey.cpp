// SPDX-License-Identifier: Apache-2.0
// The re-key (RIM-11 to RIM-14), a swap of one leg's epoch (swap.hpp):
//   seeds of n+1 -> installed on both sides -> SEED -> the unit's response -> send under n+1 -> after the overlap n is
//   retired;
// and when it is due. Owner thread: io_context.
#include <algorithm>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "controlplane/media/key_kind.hpp"
#include "controlplane/media/swap.hpp"
#include "controlplane/protocol/message.hpp"
#include "controlplane/protocol/spawn.hpp"

namespace tandem::media {

using protocol::tlv;

// The next epoch's keys on both sides of the leg, ready before the unit hears of them.
asio::awaitable<result<void>> manager::epoch_swap::build() {
    if (!leg_.next.known()) {
        auto made = co_await of_.make_seeds(m_, i_, m_->now.legs[i_], leg_.epoch + 1, seed_use::rekey);
        if (!made)
            co_return tl::unexpected(made.error());
        leg_.next = std::move(*made);
        leg_.highest = std::max(leg_.highest, leg_.next.epoch);
        leg_.next_installed = false;
    }
    if (auto room = co_await make_room(); !room || leg_.next_installed)
        co_return room;
    key_batch keys;
    if (auto added = key_kind::of(m_->now.legs[i_]).add(keys.items, {*m_, m_->now, i_, leg_.next}); !added)
        co_return added;
    auto done = verdict(co_await of_.dataplane_.epoch_install(keys.items), "new keys could not be installed");
    if (gone())
        co_return over(m_->id);
    leg_.next_installed = done.has_value();
    co_return done;
}

// The ring holds three: old, current, next.
asio::awaitable<result<void>> manager::epoch_swap::make_room() {
    while (leg_.retiring.size() > 1) {
        const auto oldest = leg_.retiring.front();
        co_await retire(of_, m_, i_, oldest);
        if (gone())
            co_return over(m_->id);
        if (std::ranges::count(leg_.retiring, oldest) != 0) // it would be asked again at once, for ever
            co_return fail("the data plane is away");
    }
    co_return result<void>{};
}

asio::awaitable<result<void>> manager::epoch_swap::confirm() {
    const auto epoch = leg_.next.epoch;
    auto request = protocol::message::request(protocol::exchange::seed);
    request.add<tlv::media_id>(m_->now.legs[i_].told(m_->id));
    request.add<tlv::epoch>(epoch);
    add_seeds(request, leg_.next);
    ++of_.counters_.seeds_sent;
    const auto answer =
        co_await of_.sessions_.request(m_->now.legs[i_].tsid, std::move(request), of_.options_.unit_timeout);
    if (gone())
        co_return over(m_->id);
    if (answer && answer->get<tlv::epoch>() == epoch)
        co_return result<void>{};
    refused_ = answer || answer.error() == session::request_error::refused;
    co_return fail(refused_                                            ? "the unit refused the seed"
                   : answer.error() == session::request_error::timeout ? "the unit did not answer in time"
                                                                       : "its primary tunnel is down");
}

// Sent under the new epoch from now on.
asio::awaitable<result<void>> manager::epoch_swap::switch_over() {
    std::vector<api::epoch_ref> begin;
    for (const auto flow : flows_towards(m_->now.shapes(), i_))
        begin.push_back({flow, leg_.next.epoch, api::side::out, {}});
    auto done = verdict(co_await of_.dataplane_.epoch_switch(begin), "new keys could not be taken into use");
    if (gone())
        co_return over(m_->id);
    if (!done)
        co_return done;
    old_ = leg_.epoch;
    leg_.adopt_next();
    ++m_->rekeys;
    ++of_.counters_.rekeys;
    of_.note(*m_);
    spdlog::debug("media {}: unit {} is on epoch {}", m_->id, m_->now.legs[i_].unit, leg_.epoch);
    co_return done;
}

void manager::epoch_swap::linger() {
    leg_.retiring.push_back(old_);
    protocol::spawn_contained(of_.io_, "end of an epoch", retire_later(&of_, m_, i_, old_));
}

asio::awaitable<void> manager::epoch_swap::retire_later(manager* of, media_ptr m, std::size_t i, std::uint32_t epoch) {
    asio::steady_timer wait(of->io_, m->level.overlap);
    asio::error_code ignored;
    co_await wait.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    if (!of->gone(*m))
        co_await retire(*of, m, i, epoch);
}

// Key wiped on both sides of the leg; from here on the data plane refuses the epoch.
asio::awaitable<void> manager::epoch_swap::retire(manager& of, media_ptr m, std::size_t i, std::uint32_t epoch) {
    auto& l = m->legs[i];
    if (std::erase(l.retiring, epoch) == 0)
        co_return; // done already, or its flows are gone
    const auto shapes = m->now.shapes();
    std::vector<api::epoch_ref> ended;
    for (const auto flow : flows_from(shapes, i))
        ended.push_back({flow, epoch, api::side::in, {}});
    for (const auto flow : flows_towards(shapes, i))
        ended.push_back({flow, epoch, api::side::out, {}});
    const auto answer = co_await of.dataplane_.epoch_retire(ended);
    if (!answer && !answer.error().connected)
        l.retiring.push_back(epoch); // again at the next take-over
}

// --- when, and what comes of it --------------------------------------------------------------------------------------

// In the leg's turn. `anew`: only a new secondary helps.
asio::awaitable<result<void>> manager::rekey_locked(media_ptr m, std::size_t i, bool& anew) {
    auto& l = m->legs[i];
    const auto failed = [&](std::string why) {
        ++m->rekey_failures;
        ++counters_.rekey_failures;
        spdlog::warn("media {}: re-key towards unit {} failed: {}; epoch {} stays in force", m->id, m->now.legs[i].unit,
                     why, l.epoch);
        return fail(std::move(why));
    };
    const auto session = sessions_.by_tsid(m->now.legs[i].tsid);
    if (!session || !session->up)
        co_return failed("its primary tunnel is down");
    anew = m->lost || l.stale;
    if (anew)
        co_return fail(m->lost ? "its flows are gone" : "a re-key of an earlier run was half made");
    epoch_swap next(*this, m, i);
    auto done = co_await swap::run(next);
    if (gone(*m))
        co_return over(m->id);
    anew = next.refused();
    if (!done)
        co_return failed(done.error().text);
    co_return done;
}

// A unit that has lost its secondary, or whose seed an earlier life took along. In the leg's turn.
asio::awaitable<result<void>> manager::renew(media_ptr m, std::size_t i) {
    terms_swap anew(*this, m, m->now);
    anew.renews(i);
    auto done = co_await swap::run(anew);
    if (gone(*m))
        co_return over(m->id);
    if (done) {
        ++counters_.renewed;
        save(*m);
    }
    co_return done;
}

asio::awaitable<result<std::uint32_t>> manager::rekey_leg(media_ptr m, std::size_t i) {
    auto& l = m->legs[i];
    auto mine = co_await m->turn.of(i);
    if (!mine || gone(*m) || !m->installed || !key_kind::of(m->now.legs[i]).has_seeds())
        co_return over(m->id);
    bool anew = false;
    const auto done = co_await rekey_locked(m, i, anew);
    if (done)
        co_return l.epoch;
    if (!anew || gone(*m))
        co_return tl::unexpected(done.error());
    if (!m->lost) {
        spdlog::warn("media {} of call {}: {}: the secondary of unit {} begins anew", m->id, m->call_id,
                     done.error().text, m->now.legs[i].unit);
        if (auto renewed = co_await renew(m, i); !renewed)
            co_return tl::unexpected(renewed.error());
        co_return l.epoch;
    }
    mine.end();
    co_await reinstall(m, done.error().text);
    if (m->installed && !m->turn.over() && !m->lost)
        co_return l.epoch;
    co_return fail("its flows could not be put in again");
}

// An error inside costs this re-key: the epoch in force stays, and the next one is tried when it is due.
asio::awaitable<result<std::uint32_t>> manager::rekey_or_fail(media_ptr m, std::size_t i) {
    std::string why;
    try {
        co_return co_await rekey_leg(m, i);
    } catch (const std::exception& fault) {
        why = fault.what();
    }
    ++m->rekey_failures;
    ++counters_.rekey_failures;
    spdlog::error("media {}: re-key towards unit {} ended by an error inside: {}", m->id, m->now.legs[i].unit, why);
    co_return fail("an error inside: see the log");
}

void manager::start_loops(const media_ptr& m) {
    for (std::size_t i = 0; i < 2; ++i) {
        if (!key_kind::of(m->now.legs[i]).has_seeds() || m->legs[i].looping)
            continue;
        m->legs[i].looping = true;
        protocol::spawn_contained(io_, "re-keying", rekey_loop(m, i),
                                  [this, m] { end_by_itself(m, "an error inside"); });
    }
}

// The level's interval, counted from the start and not from the last answer, so that the mean does not drift (RIM-14).
asio::awaitable<void> manager::rekey_loop(media_ptr m, std::size_t i) {
    using clock = std::chrono::steady_clock;
    auto& l = m->legs[i];
    auto due = clock::now() + m->level.rekey;
    auto next = due;
    bool was_up = true;
    while (!gone(*m)) {
        if (!l.kicked) {
            l.tick.expires_at(next);
            asio::error_code ignored;
            co_await l.tick.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        }
        if (gone(*m) || !key_kind::of(m->now.legs[i]).has_seeds())
            break;
        if (!l.kicked && clock::now() < next)
            continue; // woken for nothing
        l.kicked = false;
        while (due <= clock::now())
            due += m->level.rekey;
        next = due;
        const auto session = sessions_.by_tsid(m->now.legs[i].tsid);
        const bool up = session && session->up;
        if (!m->installed || (!up && !was_up))
            continue; // counted once per outage; session_up() wakes us
        was_up = up;
        const auto done = co_await rekey_or_fail(m, i);
        if (done && l.untold)
            co_await tell_again(m, i);
        if (!done && up)
            next = std::min(due, clock::now() + options_.retry);
    }
    l.looping = false;
}

asio::awaitable<result<std::array<std::optional<std::uint32_t>, 2>>> manager::rekey(media_id id) {
    const auto m = find(id);
    if (!m)
        co_return fail(fmt::format("there is no media {}: see `tandemctl media list`", id));
    if (!m->now.has_unit())
        co_return fail(fmt::format("media {} has no secondary tunnel: neither leg is a unit's", id));
    if (!m->installed)
        co_return fail(fmt::format("media {} is not answered yet: there is no key to change", id));
    std::array<std::optional<std::uint32_t>, 2> epochs;
    for (std::size_t i = 0; i < 2; ++i)
        if (m->now.legs[i].is_unit()) {
            const auto done = co_await rekey_or_fail(m, i);
            if (!done)
                co_return tl::unexpected(done.error());
            epochs[i] = *done;
        }
    co_return epochs;
}

} // namespace tandem::media
