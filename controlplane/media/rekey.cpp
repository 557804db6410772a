// SPDX-License-Identifier: Apache-2.0
// The re-key (RIM-11 to RIM-14):
//   seeds of n+1 -> installed on both sides -> SEED -> the unit's response -> send under n+1 -> after the overlap n is
//   retired.
// A SEED that fails leaves n in force; n+1 stays ready with the same seed (the unit may have it) and is offered again.
// Owner thread: io_context.
#include <algorithm>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "controlplane/media/state.hpp"
#include "controlplane/protocol/message.hpp"
#include "controlplane/protocol/spawn.hpp"

namespace tandem::media {

using protocol::tlv;

asio::awaitable<manager::seed_outcome> manager::send_seed(media_ptr m, std::size_t i, std::uint32_t epoch) {
    auto& l = m->legs[i];
    auto request = protocol::message::request(protocol::exchange::seed);
    request.add<tlv::media_id>(m->now.legs[i].told(m->id));
    request.add<tlv::epoch>(epoch);
    add_seeds(request, l.next);
    ++counters_.seeds_sent;
    const auto answer = co_await sessions_.request(m->now.legs[i].tsid, std::move(request), options_.unit_timeout);
    if (!answer) {
        switch (answer.error()) {
        case session::request_error::timeout:
            co_return seed_outcome::no_answer;
        case session::request_error::refused:
            co_return seed_outcome::refused;
        default:
            co_return seed_outcome::no_session;
        }
    }
    co_return answer->get<tlv::epoch>() == epoch ? seed_outcome::ok : seed_outcome::refused;
}

// The next epoch's keys on both sides of the leg, ready before the unit hears of them.
asio::awaitable<result<void>> manager::prepare_next(media_ptr m, std::size_t i) {
    auto& l = m->legs[i];
    if (!l.next.known()) {
        auto made = co_await make_seeds(m, i, m->now.legs[i], l.epoch + 1, seed_use::rekey);
        if (!made)
            co_return tl::unexpected(made.error());
        l.next = std::move(*made);
        l.highest = std::max(l.highest, l.next.epoch);
        l.next_installed = false;
    }
    while (l.retiring.size() > 1) { // the ring holds three: old, current, next
        const auto oldest = l.retiring.front();
        co_await retire(m, i, oldest);
        if (gone(*m))
            co_return over(m->id);
        if (std::ranges::count(l.retiring, oldest) != 0) // it would be asked again at once, for ever
            co_return tl::unexpected(error{"the data plane is away"});
    }
    if (l.next_installed)
        co_return result<void>{};
    key_batch keys;
    if (!add_unit_keys(keys.items, *m, m->now, i, l.next))
        co_return fail("keys could not be derived from the seed");
    auto done = verdict(co_await dataplane_.epoch_install(keys.items), "new keys could not be installed");
    if (done && !gone(*m))
        l.next_installed = true;
    co_return done;
}

// The unit has answered: sent under the new epoch from now on, the old one ends with the overlap.
asio::awaitable<result<void>> manager::take_into_use(media_ptr m, std::size_t i) {
    auto& l = m->legs[i];
    std::vector<api::epoch_ref> begin;
    for (const auto flow : flows_towards(m->now.shapes(), i))
        begin.push_back({flow, l.next.epoch, api::side::out, {}});
    auto done = verdict(co_await dataplane_.epoch_switch(begin), "new keys could not be taken into use");
    if (!done || gone(*m))
        co_return done;
    l.retiring.push_back(l.epoch);
    protocol::spawn_contained(io_, "end of an epoch", retire_later(m, i, l.epoch));
    l.adopt_next();
    ++m->rekeys;
    ++counters_.rekeys;
    note(*m);
    spdlog::debug("media {}: unit {} is on epoch {}", m->id, m->now.legs[i].unit, l.epoch);
    co_return done;
}

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
    if (auto ready = co_await prepare_next(m, i); gone(*m))
        co_return over(m->id);
    else if (!ready)
        co_return failed(ready.error().text);
    const auto outcome = co_await send_seed(m, i, l.next.epoch);
    if (gone(*m))
        co_return over(m->id);
    if (outcome == seed_outcome::no_answer)
        co_return failed("the unit did not answer in time");
    if (outcome == seed_outcome::no_session)
        co_return failed("its primary tunnel is down");
    if (outcome == seed_outcome::refused) { // the unit does not know this media, or counts epochs otherwise
        anew = true;
        co_return failed("the unit refused the seed");
    }
    auto used = co_await take_into_use(m, i);
    if (gone(*m))
        co_return over(m->id);
    if (!used)
        co_return failed(used.error().text);
    co_return used;
}

asio::awaitable<result<std::uint32_t>> manager::rekey_leg(media_ptr m, std::size_t i) {
    auto& l = m->legs[i];
    auto mine = co_await m->turn.of(i);
    if (!mine || gone(*m) || !m->installed || !m->now.legs[i].is_unit())
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

asio::awaitable<void> manager::retire_later(media_ptr m, std::size_t i, std::uint32_t epoch) {
    asio::steady_timer wait(io_, m->level.overlap);
    asio::error_code ignored;
    co_await wait.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    if (!gone(*m))
        co_await retire(m, i, epoch);
}

// Key wiped on both sides of the leg; from here on the data plane refuses the epoch.
asio::awaitable<void> manager::retire(media_ptr m, std::size_t i, std::uint32_t epoch) {
    auto& l = m->legs[i];
    if (std::erase(l.retiring, epoch) == 0)
        co_return; // done already, or its flows are gone
    const auto shapes = m->now.shapes();
    std::vector<api::epoch_ref> ended;
    for (const auto flow : flows_from(shapes, i))
        ended.push_back({flow, epoch, api::side::in, {}});
    for (const auto flow : flows_towards(shapes, i))
        ended.push_back({flow, epoch, api::side::out, {}});
    const auto answer = co_await dataplane_.epoch_retire(ended);
    if (!answer && !answer.error().connected)
        l.retiring.push_back(epoch); // again at the next take-over
}

void manager::start_loops(const media_ptr& m) {
    for (std::size_t i = 0; i < 2; ++i) {
        if (!m->now.legs[i].is_unit() || m->legs[i].looping)
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
        if (gone(*m) || !m->now.legs[i].is_unit())
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
