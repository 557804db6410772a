// SPDX-License-Identifier: Apache-2.0
// From terms in force to others: a re-offer, mux, another suite, clear to encrypted, another party, a secondary that
// begins anew (swap.hpp has the steps); and an answer's changes of all its media. Owner thread: io_context.
#include <algorithm>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <utility>

#include "controlplane/media/key_kind.hpp"
#include "controlplane/media/swap.hpp"
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

// Plan first, then commit: what runs is switched last, which cannot be refused for a reason that could have been known.
asio::awaitable<result<void>> manager::apply_all(const std::vector<media_ptr>& all, std::vector<media_terms> want) {
    std::vector<std::unique_ptr<terms_swap>> swaps;
    std::vector<swap*> each;
    for (std::size_t n = 0; n < all.size(); ++n) {
        each.push_back(swaps.emplace_back(std::make_unique<terms_swap>(*this, all[n], std::move(want[n]))).get());
        swaps.back()->is_signalled();
    }
    co_return co_await swap::run(each);
}

// Seeds of the secondaries that begin. In the turn of both legs, as all of it.
asio::awaitable<result<void>> manager::terms_swap::build() {
    if (gone())
        co_return over(m_->id);
    before_ = m_->now;
    installs_ = !m_->installed;
    if (m_->lost)
        co_return fail(fmt::format("media {} is being put into the data plane again: try again", m_->id));
    if (installs_) // all of it is built at the switch
        co_return result<void>{};
    std::array<bool, 2> begins{};
    for (std::size_t i = 0; i < 2; ++i)
        begins[i] =
            key_kind::of(want_.legs[i]).has_seeds() && (renews_[i] || !want_.legs[i].same_secondary(before_.legs[i]));
    co_return co_await begin(begins);
}

asio::awaitable<result<void>> manager::terms_swap::begin(std::array<bool, 2> which) {
    for (std::size_t i = 0; i < 2; ++i)
        if (which[i]) {
            begins_[i] = true;
            seeds_[i].epoch = m_->legs[i].begin_next();
        }
    note_opening(which);
    co_return co_await of_.first_seeds(m_, want_, seeds_, which);
}

// Killed between here and the end of the change, the next run knows which secondaries belong to nothing.
void manager::terms_swap::note_opening(std::array<bool, 2> which) {
    for (std::size_t i = 0; i < 2; ++i)
        if (which[i] && !want_.legs[i].same_secondary(before_.legs[i]))
            m_->opening.emplace_back(want_.legs[i].tsid, want_.legs[i].told(m_->id));
    if (!m_->opening.empty())
        of_.save(*m_);
}

// A unit whose phone moves hears of it under the epoch in force, whose SEED it has answered: a MEDIA_OPEN never
// overtakes a re-key. One that has lost its secondary begins anew.
asio::awaitable<result<void>> manager::terms_swap::confirm() {
    std::array<bool, 2> lost{};
    for (std::size_t i = 0; i < 2 && !installs_; ++i)
        if (want_.legs[i].is_unit() && !begins_[i] && !want_.legs[i].same_phone(before_.legs[i]))
            if (auto told = co_await tell_move(i, lost[i]); !told)
                co_return told;
    result<void> done;
    if (lost[0] || lost[1])
        done = co_await begin(lost);
    for (std::size_t i = 0; i < 2 && done && !gone(); ++i)
        if (begins_[i]) {
            told_[i] = word::opened;
            done = co_await of_.send_media_open(m_, want_, i, seeds_[i]);
            if (!done && want_.legs[i].same_secondary(before_.legs[i]))
                told_[i] = word::moved; // what it had may be in force still
        }
    if (gone())
        co_return over(m_->id);
    co_return done;
}

asio::awaitable<result<void>> manager::terms_swap::tell_move(std::size_t i, bool& lost) {
    auto& l = m_->legs[i];
    if (!l.settled()) { // of an earlier life, or a SEED without its answer
        auto settled = co_await of_.rekey_locked(m_, i, lost);
        if (!settled)
            co_return lost && !gone() ? result<void>{} : settled;
    }
    told_[i] = word::moved;
    auto told = co_await of_.send_media_open(m_, want_, i, l.current, &lost);
    if (lost) {
        told_[i] = word::none;
        co_return result<void>{};
    }
    co_return told;
}

asio::awaitable<result<void>> manager::terms_swap::switch_over() {
    if (gone())
        co_return over(m_->id);
    result<void> done;
    if (installs_ && !want_.complete()) { // nothing to install yet
        m_->now = want_;
        m_->proposed.reset();
    } else if (installs_) {
        done = co_await of_.install(m_, want_);
        if (!done)
            ++of_.counters_.open_failures;
    } else {
        done = co_await switch_flows();
    }
    made_ = done.has_value();
    co_return done;
}

// New remotes and hold by FLOW_UPDATE, all else by FLOW_REPLACE.
asio::awaitable<result<void>> manager::terms_swap::switch_flows() {
    auto plan = m_->flows(want_, of_.options_);
    std::array<bool, 2> goes_on{};
    std::array<key_step, 2> keys;
    bool updates = same_structure(m_->plan, plan);
    for (std::size_t i = 0; i < 2; ++i) {
        goes_on[i] = told_[i] != word::opened && want_.legs[i].same_peer(m_->now.legs[i]);
        keys[i] = key_kind::of(want_.legs[i]).plan(m_->legs[i], m_->now.legs[i], want_.legs[i]);
        updates = updates && goes_on[i] && !keys[i].fresh_in && !keys[i].fresh_out;
    }
    if (updates) {
        if (auto done = co_await of_.update_flows(m_, std::move(plan), signalled_); !done)
            co_return done;
    } else {
        const std::array heard{of_.received(*m_, 0), of_.received(*m_, 1)};
        const replacement how{by_leg(m_->now.shapes()), m_->now.shapes(), goes_on, keys, signalled_};
        if (auto done = co_await how.make(of_, m_, want_, plan, seeds_); !done)
            co_return done;
        if (gone()) { // its old flows were removed meanwhile: so are these
            co_await of_.remove_flows(plan);
            co_return over(m_->id);
        }
        for (std::size_t i = 0; i < 2; ++i)
            if (!goes_on[i]) // its flows' counters do not go along
                m_->legs[i].before = heard[i];
        m_->plan = std::move(plan);
        m_->streams = {}; // of other flows
    }
    commit(goes_on, keys);
    co_return result<void>{};
}

// The state of a media after the data plane took its change.
void manager::terms_swap::commit(std::array<bool, 2> goes_on, const std::array<key_step, 2>& keys) {
    for (std::size_t i = 0; i < 2; ++i) {
        auto& l = m_->legs[i];
        const auto &was = m_->now.legs[i], &is = want_.legs[i];
        key_kind::of(is).begin(l, is, keys[i], std::move(seeds_[i]));
        if (!goes_on[i])
            l.hear_anew();
        if (!goes_on[i] || (!is.is_unit() && was.remote_rtp != is.remote_rtp))
            l.latched.reset();
    }
    m_->now = want_;
    m_->proposed.reset();
    m_->opening.clear();
    of_.start_loops(m_);
}

// Secondaries that are no part of it any more; ports rest in quarantine when the last who has them lets go.
void manager::terms_swap::linger() {
    if (installs_)
        return;
    for (std::size_t i = 0; i < 2; ++i) {
        const auto &was = before_.legs[i], &is = want_.legs[i];
        if (was.is_unit() && (was.tsid != is.tsid || was.second != is.second))
            of_.close_secondary(was, m_->id);
    }
}

// Another media of the same answer, or another step of this one, was refused.
asio::awaitable<void> manager::terms_swap::take_back() {
    if (gone()) {
        for (std::size_t i = 0; i < 2; ++i) // its end knew of those in force alone
            if (told_[i] == word::opened && !of_.stopped_ && !want_.legs[i].same_secondary(m_->now.legs[i]))
                of_.close_secondary(want_.legs[i], m_->id);
        co_return;
    }
    if (made_ && installs_) {
        if (m_->installed)
            co_await of_.uninstall(m_);
        m_->now = before_;
    } else if (made_) {
        co_await switch_back();
    }
    if (!std::exchange(m_->opening, {}).empty())
        of_.save(*m_);
    for (std::size_t i = 0; i < 2; ++i) {
        auto& l = m_->legs[i];
        const bool stays = want_.legs[i].is_unit() && want_.legs[i].same_secondary(before_.legs[i]);
        if (told_[i] == word::opened && !stays) {
            of_.close_secondary(want_.legs[i], m_->id);
        } else if (told_[i] == word::opened && !made_) { // it has left the keys that stay in force
            l.stale = true;
            if (!renews_[i]) // whose re-keying tries again anyway
                l.kick();
        } else if (told_[i] != word::none && !renews_[i]) { // it waits for its turn
            protocol::spawn_contained(of_.io_, "word to a unit", of_.tell_again(m_, i));
        }
    }
}

asio::awaitable<void> manager::terms_swap::switch_back() {
    result<void> undone = fail("its keys have begun and ended");
    if (reversible(before_, m_->now)) {
        terms_swap back(of_, m_, before_);
        undone = co_await back.switch_flows();
    }
    if (!undone && !gone())
        of_.end_by_itself(m_, "a refused change could not be undone: " + undone.error().text);
}

// A key of ours that was in force may come again only where the packet counts went on: the suite stayed.
bool manager::terms_swap::reversible(const media_terms& before, const media_terms& now) {
    for (std::size_t i = 0; i < 2; ++i) {
        const auto &was = before.legs[i], &is = now.legs[i];
        if (was.suite != api::suite::clear && !(was.same_peer(is) && was.suite == is.suite))
            return false;
    }
    return true;
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
