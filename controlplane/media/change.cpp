// SPDX-License-Identifier: Apache-2.0
// An answer's changes, of all its media or of none. In this order: everything is planned and taken beside what is in
// force; the units hear of it; what is new is installed; what runs is swapped, which cannot be refused for a reason
// that could have been known before. Only then the media's state is written. Owner thread: io_context.
#include <algorithm>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <utility>

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
        if (want[n].complete() && !m->decided)
            if (auto made = co_await decide_call(m, want[n], question_of(*m, changes[n].request)); !made)
                co_return made;
        for (auto& one : want[n].legs)
            if (one.is_unit())
                one.suite = m->level.suite;
    }
    co_return result<void>{};
}

asio::awaitable<result<void>> manager::apply_all(const std::vector<media_ptr>& all, std::vector<media_terms> want) {
    std::vector<draft> drafts;
    drafts.reserve(all.size());
    for (std::size_t n = 0; n < all.size(); ++n)
        drafts.emplace_back(all[n], std::move(want[n])).signalled = true;
    result<void> done;
    try {
        done = co_await make_all(drafts);
    } catch (const std::exception& fault) {
        spdlog::error("a change of media ended by an error inside: {}", fault.what());
        done = fail("an error inside: see the log");
    }
    if (!done)
        for (auto& d : drafts)
            co_await undo(d);
    co_return done;
}

asio::awaitable<result<void>> manager::make_all(std::vector<draft>& drafts) {
    result<void> done;
    for (auto& d : drafts)
        if (done)
            done = co_await prepare(d);
    for (const bool installs : {true, false}) // those of which nothing was there can be taken out again at any time
        for (auto& d : drafts)
            if (done && d.installs == installs)
                done = co_await make(d);
    co_return done;
}

// Seeds, and the units' agreement.
asio::awaitable<result<void>> manager::prepare(draft& d) {
    const auto& m = d.m;
    if (gone(*m))
        co_return over(m->id);
    d.before = m->now;
    d.installs = !m->installed;
    if (m->lost)
        co_return fail(fmt::format("media {} is being put into the data plane again: try again", m->id));
    if (d.installs)
        co_return result<void>{};
    co_return co_await tell_units(d);
}

asio::awaitable<result<void>> manager::make(draft& d) {
    const auto& m = d.m;
    if (gone(*m))
        co_return over(m->id);
    if (d.installs && !d.want.complete()) { // nothing to install yet
        d.made = true;
        m->now = d.want;
        m->proposed.reset();
        co_return result<void>{};
    }
    if (!d.installs) {
        auto swapped = co_await swap(d);
        d.made = swapped.has_value();
        co_return swapped;
    }
    auto done = co_await install(m, d.want);
    d.made = done.has_value();
    if (!done)
        ++counters_.open_failures;
    co_return done;
}

// Another media of the same answer, or another step of this one, was refused.
asio::awaitable<void> manager::undo(draft& d) {
    const auto& m = d.m;
    if (gone(*m)) {
        for (std::size_t i = 0; i < 2; ++i) // its end knew of those in force alone
            if (d.told[i] == draft::word::opened && !stopped_ && !d.want.legs[i].same_secondary(m->now.legs[i]))
                close_secondary(d.want.legs[i], m->id);
        co_return;
    }
    if (d.made && d.installs) {
        if (m->installed)
            co_await uninstall(m);
        m->now = d.before;
    } else if (d.made) {
        draft back(m, d.before);
        result<void> undone = fail("its keys have begun and ended");
        if (reversible(d.before, m->now))
            undone = co_await swap(back);
        if (!undone && !gone(*m))
            end_by_itself(m, "a refused change could not be undone: " + undone.error().text);
    }
    if (!std::exchange(m->opening, {}).empty())
        save(*m);
    for (std::size_t i = 0; i < 2; ++i) {
        const bool stays = d.want.legs[i].is_unit() && d.want.legs[i].same_secondary(d.before.legs[i]);
        if (d.told[i] == draft::word::opened && !stays)
            close_secondary(d.want.legs[i], m->id);
        else if (d.told[i] == draft::word::opened && !d.made) { // it has left the keys that stay in force
            m->legs[i].stale = true;
            m->legs[i].kick();
        } else if (d.told[i] != draft::word::none) // it waits for its turn
            protocol::spawn_contained(io_, "word to a unit", tell_again(m, i));
    }
}

// A key of ours that was in force may come again only where the packet counts went on: the suite stayed.
bool manager::reversible(const media_terms& before, const media_terms& now) {
    for (std::size_t i = 0; i < 2; ++i) {
        const auto &was = before.legs[i], &is = now.legs[i];
        if (was.suite != api::suite::clear && !(was.same_peer(is) && was.suite == is.suite))
            return false;
    }
    return true;
}

// --- units -----------------------------------------------------------------------------------------------------------

// A unit that joins gets its first seeds. One whose phone moves hears of it under the epoch in force, whose SEED it has
// answered: a MEDIA_OPEN never overtakes a re-key. One that has lost its secondary begins anew. In the turn of both
// legs.
asio::awaitable<result<void>> manager::tell_units(draft& d) {
    std::array<bool, 2> begins{};
    for (std::size_t i = 0; i < 2; ++i) {
        const auto& to = d.want.legs[i];
        if (!to.is_unit())
            continue;
        begins[i] = !to.same_secondary(d.before.legs[i]);
        if (!begins[i] && !to.same_phone(d.before.legs[i]))
            if (auto told = co_await tell_move(d, i, begins[i]); !told)
                co_return told;
    }
    for (std::size_t i = 0; i < 2; ++i)
        if (begins[i])
            d.seeds[i].epoch = d.m->legs[i].begin_next();
    note_opening(d, begins);
    auto done = co_await first_seeds(d.m, d.want, d.seeds, begins);
    for (std::size_t i = 0; i < 2 && done && !gone(*d.m); ++i)
        if (begins[i]) {
            d.told[i] = draft::word::opened;
            done = co_await send_media_open(d.m, d.want, i, d.seeds[i]);
            if (!done && d.want.legs[i].same_secondary(d.before.legs[i]))
                d.told[i] = draft::word::moved; // what it had may be in force still
        }
    if (gone(*d.m))
        co_return over(d.m->id);
    co_return done;
}

// Killed between here and the end of the change, the next run knows which secondaries belong to nothing.
void manager::note_opening(const draft& d, std::array<bool, 2> begins) {
    for (std::size_t i = 0; i < 2; ++i)
        if (begins[i] && !d.want.legs[i].same_secondary(d.before.legs[i]))
            d.m->opening.emplace_back(d.want.legs[i].tsid, d.want.legs[i].told(d.m->id));
    if (!d.m->opening.empty())
        save(*d.m);
}

asio::awaitable<result<void>> manager::tell_move(draft& d, std::size_t i, bool& lost) {
    auto& l = d.m->legs[i];
    if (!l.settled()) { // of an earlier life, or a SEED without its answer
        auto settled = co_await rekey_locked(d.m, i, lost);
        if (!settled)
            co_return lost && !gone(*d.m) ? result<void>{} : settled;
    }
    d.told[i] = draft::word::moved;
    auto told = co_await send_media_open(d.m, d.want, i, l.current, &lost);
    if (lost) {
        d.told[i] = draft::word::none;
        co_return result<void>{};
    }
    co_return told;
}

// A unit that heard of a change which came to nothing hears what is in force.
asio::awaitable<void> manager::tell_again(media_ptr m, std::size_t i) {
    const auto mine = co_await m->turn.of(i);
    if (!mine || gone(*m) || !m->installed || m->lost || !m->now.legs[i].is_unit() || !m->legs[i].current.known())
        co_return;
    bool lost = false; // the next re-key finds out, too, and begins it anew
    if (auto told = co_await send_media_open(m, m->now, i, m->legs[i].current, &lost); !told)
        spdlog::warn("media {}: {}", m->id, told.error().text);
}

} // namespace tandem::media
