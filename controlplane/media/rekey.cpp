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
    request.add<tlv::media_id>(m->id);
    request.add<tlv::epoch>(epoch);
    add_seeds(request, l.next);
    ++counters_.seeds_sent;
    const auto answer = co_await sessions_.request(l.tsid, std::move(request), options_.unit_timeout);
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

void manager::adopt_next_seed(leg& l) {
    l.current = std::move(l.next);
    l.next.clear();
    l.next_installed = false;
    l.epoch = l.current.epoch;
}

// The next epoch's keys on both sides of the leg, ready before the unit hears of them.
asio::awaitable<result<void>> manager::prepare_next(media_ptr m, std::size_t i, std::uint32_t era) {
    auto& l = m->legs[i];
    if (!l.next.known()) {
        auto made = co_await make_seeds(m, i, l.epoch + 1, era, seed_use::rekey);
        if (era != m->era)
            co_return tl::unexpected(error{"media was changed or ended meanwhile"});
        if (!made)
            co_return tl::unexpected(made.error());
        l.next = std::move(*made);
        l.highest = std::max(l.highest, l.next.epoch);
        l.next_installed = false;
    }
    while (l.retiring.size() > 1) { // the ring holds three: old, current, next
        const auto oldest = l.retiring.front();
        co_await retire(m, i, oldest);
        if (era != m->era)
            co_return tl::unexpected(error{"media was changed or ended meanwhile"});
    }
    if (l.next_installed)
        co_return result<void>{};
    key_batch keys;
    if (!add_unit_keys(keys.items, *m, i, l.next.epoch))
        co_return tl::unexpected(error{"keys could not be derived from the seed"});
    auto done = verdict(co_await dataplane_.epoch_install(keys.items), "new keys could not be installed");
    if (done && era == m->era)
        l.next_installed = true;
    co_return done;
}

// The unit has answered: sent under the new epoch from now on, the old one ends with the overlap.
asio::awaitable<result<void>> manager::take_into_use(media_ptr m, std::size_t i, std::uint32_t era) {
    auto& l = m->legs[i];
    std::vector<api::epoch_ref> begin;
    for (const auto flow : flows_towards(m->shapes(), i))
        begin.push_back({flow, l.next.epoch, api::side::out, {}});
    auto done = verdict(co_await dataplane_.epoch_switch(begin), "new keys could not be taken into use");
    if (!done || era != m->era)
        co_return done;
    l.retiring.push_back(l.epoch);
    protocol::spawn_contained(io_, "end of an epoch", retire_later(m, i, l.epoch, era));
    adopt_next_seed(l);
    ++m->rekeys;
    ++counters_.rekeys;
    save(*m);
    spdlog::debug("media {}: unit {} is on epoch {}", m->id, l.unit, l.epoch);
    co_return done;
}

asio::awaitable<result<std::uint32_t>> manager::rekey_leg(media_ptr m, std::size_t i) {
    auto& l = m->legs[i];
    auto guard = co_await l.lock.acquire();
    const auto era = m->era;
    const auto gone = [&] { return era != m->era || m->closing || !m->installed; };
    const auto over = [&] {
        return tl::unexpected(error{fmt::format("media {} was changed or ended meanwhile", m->id)});
    };
    const auto failed = [&](std::string why) {
        ++m->rekey_failures;
        ++counters_.rekey_failures;
        spdlog::warn("media {}: re-key towards unit {} failed: {}; epoch {} stays in force", m->id, l.unit, why,
                     l.epoch);
        return tl::unexpected(error{std::move(why)});
    };
    if (gone())
        co_return over();
    const auto session = sessions_.by_tsid(l.tsid);
    if (!session || !session->up)
        co_return failed("its primary tunnel is down");

    bool anew = m->lost || l.stale;
    std::string why = m->lost ? "its flows are gone" : "a re-key of an earlier run was half made";
    if (!anew) {
        if (auto ready = co_await prepare_next(m, i, era); gone())
            co_return over();
        else if (!ready)
            co_return failed(ready.error().text);
        const auto outcome = co_await send_seed(m, i, l.next.epoch);
        if (gone())
            co_return over();
        if (outcome == seed_outcome::no_answer || outcome == seed_outcome::no_session)
            co_return failed(outcome == seed_outcome::no_answer ? "the unit did not answer in time"
                                                                : "its primary tunnel is down");
        if (outcome == seed_outcome::ok) {
            if (auto used = co_await take_into_use(m, i, era); gone())
                co_return over();
            else if (!used)
                co_return failed(used.error().text);
            co_return l.epoch;
        }
        anew = true; // the unit does not know this media, or counts epochs otherwise
        why = "the unit refused the seed";
        (void)failed(why);
    }
    guard.release();
    co_await reinstall(m, why);
    if (m->installed && !m->closing && !m->lost)
        co_return l.epoch;
    co_return failed("its secondary could not be made anew");
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
    spdlog::error("media {}: re-key towards unit {} ended by an error inside: {}", m->id, m->legs[i].unit, why);
    co_return tl::unexpected(error{"an error inside: see the log"});
}

asio::awaitable<void> manager::retire_later(media_ptr m, std::size_t i, std::uint32_t epoch, std::uint32_t era) {
    asio::steady_timer wait(io_, m->level.overlap);
    asio::error_code ignored;
    co_await wait.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    if (era == m->era && !m->closing)
        co_await retire(m, i, epoch);
}

// Key wiped on both sides of the leg; from here on the data plane refuses the epoch.
asio::awaitable<void> manager::retire(media_ptr m, std::size_t i, std::uint32_t epoch) {
    auto& l = m->legs[i];
    if (std::erase(l.retiring, epoch) == 0)
        co_return; // done already
    std::vector<api::epoch_ref> over;
    for (const auto flow : flows_from(m->shapes(), i))
        over.push_back({flow, epoch, api::side::in, {}});
    for (const auto flow : flows_towards(m->shapes(), i))
        over.push_back({flow, epoch, api::side::out, {}});
    const auto answer = co_await dataplane_.epoch_retire(over);
    if (!answer && !answer.error().connected)
        l.retiring.push_back(epoch); // again at the next take-over
}

void manager::start_loops(const media_ptr& m) {
    for (std::size_t i = 0; i < 2; ++i) {
        if (!m->legs[i].is_unit() || m->legs[i].looping)
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
    while (!m->closing && !stopped_) {
        if (!l.kicked) {
            l.tick.expires_at(next);
            asio::error_code ignored;
            co_await l.tick.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        }
        if (m->closing || stopped_ || !l.is_unit())
            break;
        if (!l.kicked && clock::now() < next)
            continue; // woken for nothing
        l.kicked = false;
        while (due <= clock::now())
            due += m->level.rekey;
        next = due;
        const auto session = sessions_.by_tsid(l.tsid);
        const bool up = session && session->up;
        if (!m->installed || (!up && !was_up))
            continue; // counted once per outage; session_up() wakes us
        was_up = up;
        const auto done = co_await rekey_or_fail(m, i);
        if (!done && up)
            next = std::min(due, clock::now() + options_.retry);
    }
    l.looping = false;
}

asio::awaitable<result<std::array<std::optional<std::uint32_t>, 2>>> manager::rekey(media_id id) {
    const auto m = find(id);
    if (!m)
        co_return tl::unexpected(error{fmt::format("there is no media {}: see `tandemctl media list`", id)});
    if (!m->has_unit())
        co_return tl::unexpected(error{fmt::format("media {} has no secondary tunnel: neither leg is a unit's", id)});
    if (!m->installed)
        co_return tl::unexpected(error{fmt::format("media {} is not answered yet: there is no key to change", id)});
    std::array<std::optional<std::uint32_t>, 2> epochs;
    for (std::size_t i = 0; i < 2; ++i)
        if (m->legs[i].is_unit()) {
            const auto done = co_await rekey_or_fail(m, i);
            if (!done)
                co_return tl::unexpected(done.error());
            epochs[i] = *done;
        }
    co_return epochs;
}

} // namespace tandem::media
