// SPDX-License-Identifier: Apache-2.0
// A session's procedures of handover (COL-15 to 18, COL-36). See handover.hpp for who says what.
#include "controlplane/session_layer/handover.hpp"

#include <algorithm>

#include "controlplane/session_layer/session.hpp"

namespace tandem::session_layer {

const char* text_of(handover_kind k) noexcept {
    static constexpr const char* texts[] = {"first", "soft", "hard", "soft_into_hard"};
    return texts[static_cast<std::size_t>(k)];
}

const char* text_of(handover_end e) noexcept {
    static constexpr const char* texts[] = {"completed", "stopped", "failed"};
    return texts[static_cast<std::size_t>(e)];
}

const char* text_of(reason r) noexcept {
    static constexpr const char* texts[] = {"start",       "lost",  "better",  "cost",
                                            "new_address", "asked", "by_peer", "again"};
    return texts[static_cast<std::size_t>(r)];
}

// ---- which link
// -------------------------------------------------------------------------------------------------------

bool session::may_send(link_id id) const noexcept {
    return current_ == id && !followed_ && !(own_ && own_->at != phase::begun);
}

std::optional<link_id> session::datagram_link() const noexcept {
    const auto* now = current_ ? find(*current_) : nullptr;
    if (now == nullptr || !now->joined)
        return std::nullopt;
    for (auto l = links_.rbegin(); l != links_.rend(); ++l)
        if (l->kind == carrier::datagrams && l->joined && one_network(*l, *now))
            return l->id;
    return current_;
}

// Where nobody said: the current one, the wished one, the newest that has joined and carries streams well.
std::optional<link_id> session::best_link() const noexcept {
    if (current_)
        return current_;
    if (wish_)
        return wish_->to;
    const auto rank = [](const link& l) { return (l.joined ? 2 : 0) + (l.kind == carrier::stream ? 1 : 0); };
    const link* best = nullptr;
    for (const auto& l : links_)
        if ((l.joined || l.dialled) && (best == nullptr || rank(l) >= rank(*best)))
            best = &l;
    return best != nullptr ? std::optional(best->id) : std::nullopt;
}

// ---- beginning
// --------------------------------------------------------------------------------------------------------

void session::move(link_id to, reason why, instant now) {
    const auto* l = find(to);
    if (l == nullptr || (!l->joined && !l->dialled))
        return;
    wish_ = wish{to, why};
    follow_wish(now);
}

void session::follow_wish(instant now) {
    if (!wish_ || own_ || followed_)
        return;
    const auto [to, why] = *wish_;
    const auto* l = find(to);
    const auto* from = current_ ? find(*current_) : nullptr;
    if (from != nullptr && (from == l || (why == reason::again && one_network(*from, *l))))
        return wish_.reset();
    if (from == nullptr)
        return begin_hard(to, why, now);
    if (l->joined)
        begin_soft(to, why, now);
}

procedure& session::begin_own(link_id to, reason why, instant now) {
    wish_.reset();
    mark_stalls(now);
    return own_.emplace(procedure{
        .number = ++own_number_, .why = why, .from = current_, .to = to, .began = now, .retry = limits_.retry});
}

void session::begin_soft(link_id to, reason why, instant now) {
    auto& p = begin_own(to, why, now);
    p.at = phase::announced;
    p.kind = handover_kind::soft;
    p.deadline = now + limits_.confirm;
    says_ = saying{.what = verb::announce, .on = *current_, .number = p.number};
}

void session::begin_hard(link_id to, reason why, instant now) {
    followed_.reset();
    const bool first = own_number_ == 0 && completed_ == 0;
    begin_own(to, why, now).kind = first ? handover_kind::first : handover_kind::hard;
    say_begin(true, now);
}

// The old network died, or is silent, before it confirmed (COL-17).
void session::fall_into_hard(instant now) {
    own_->kind = handover_kind::soft_into_hard;
    say_begin(true, now);
}

// On the new network from here on.
void session::say_begin(bool hard, instant now) {
    own_->at = hard ? phase::beginning : phase::begun;
    own_->deadline = now + limits_.answer;
    own_->retry_at.reset();
    current_ = own_->to;
    says_ = saying{.what = verb::begin, .on = own_->to, .number = own_->number, .hard = hard, .listing = true};
}

// No procedure is under way and nothing may be sent: on with whatever link there is.
void session::recover(instant now) {
    mark_stalls(now);
    says_.reset();
    if (const auto to = best_link())
        begin_hard(*to, reason::lost, now);
}

// ---- ending
// -----------------------------------------------------------------------------------------------------------

void session::tell(role initiator, const procedure& p, handover_end how, instant now) {
    events_.push_back(handover{.initiator = initiator,
                               .number = p.number,
                               .kind = p.kind,
                               .how = how,
                               .why = p.why,
                               .from = p.from,
                               .to = p.to,
                               .began = p.began,
                               .ended = now,
                               .sent_again = p.sent_again});
}

// The other end has come to its end. What it told before it said so is where a hard one goes on from.
void session::end_own(handover_end how, instant now) {
    if (own_->at == phase::beginning && how == handover_end::completed)
        own_->sent_again += rewind_all();
    tell(end_, *own_, how, now);
    own_.reset();
    says_.reset();
}

// The creator began at the same time: its procedure is the one that goes on. This one is begun anew after it, if its
// network still differs (COL-36).
void session::stop_own(instant now) {
    if (!wish_)
        wish_ = wish{own_->to, reason::again};
    end_own(handover_end::stopped, now);
}

// ---- what the other end says
// ------------------------------------------------------------------------------------------

void session::take_procedure(const link& l, const message& m, instant now) {
    const bool from_initiator = m.what() == verb::announce || m.what() == verb::begin;
    if (m[field::initiator] != static_cast<std::uint64_t>(from_initiator ? other(end_) : end_))
        return count(error::wrong_initiator);
    switch (m.what()) {
    case verb::announce:
        return take_announce(l, m, now);
    case verb::confirm:
        return take_confirm(m, now);
    case verb::begin:
        return take_begin(l, m, now);
    default:
        return take_done(m, now);
    }
}

// Whether the procedure that ANNOUNCE or BEGIN is of goes on here; then no own one is under way any more.
bool session::heeds(const message& m, instant now) {
    const auto number = m.number(field::number), completed = m.number(field::completed);
    if (number < heeded_ || number <= over_) {
        count(error::old_procedure);
        return false;
    }
    if (completed > own_number_) {
        count(error::out_of_turn);
        return false;
    }
    if (own_) {
        if (completed >= own_->number) {
            end_own(handover_end::completed, now); // its DONE is late, or lost
        } else if (end_ == role::creator) {
            count(error::lost_the_tie);
            return false;
        } else {
            stop_own(now);
        }
    }
    heeded_ = number;
    return true;
}

void session::take_announce(const link& l, const message& m, instant now) {
    if (!heeds(m, now))
        return;
    const auto number = m.number(field::number);
    answers_ = saying{.what = verb::confirm, .on = l.id, .number = number, .listing = true};
    if (followed_ && followed_->number == number)
        return; // over datagrams: heard again
    followed_ = procedure{.number = number,
                          .at = phase::confirmed,
                          .kind = handover_kind::soft,
                          .why = reason::by_peer,
                          .from = l.id,
                          .to = l.id,
                          .began = now,
                          .deadline = now + limits_.answer};
    mark_stalls(now);
}

void session::take_confirm(const message& m, instant now) {
    if (!own_ || m.number(field::number) != own_->number || own_->at != phase::announced)
        return count(own_ && m.number(field::number) > own_->number ? error::out_of_turn : error::old_procedure);
    over_ = std::max(over_, m.number(field::over));
    say_begin(false, now);
    own_->sent_again += rewind_all();
}

void session::take_begin(const link& l, const message& m, instant now) {
    const auto number = m.number(field::number);
    const bool hard = m[field::hard] != 0;
    if (number == completed_ && current_ == l.id) { // over datagrams: DONE was lost
        answers_ = saying{.what = verb::done, .on = l.id, .number = number, .hard = hard, .listing = hard};
        return;
    }
    if (!heeds(m, now))
        return;
    const bool first = own_number_ == 0 && completed_ == 0;
    procedure p{.number = number,
                .at = phase::confirmed,
                .kind = first  ? handover_kind::first
                        : hard ? handover_kind::hard
                               : handover_kind::soft,
                .why = reason::by_peer,
                .from = current_,
                .to = l.id,
                .began = now,
                .deadline = now};
    if (followed_ && followed_->number == number) {
        p.kind = hard ? handover_kind::soft_into_hard : handover_kind::soft;
        p.began = followed_->began;
        p.from = followed_->from;
    }
    followed_.reset();
    completed_ = number;
    over_ = std::max(over_, number);
    current_ = l.id;
    mark_stalls(now);
    p.sent_again = rewind_all();
    answers_ = saying{.what = verb::done, .on = l.id, .number = number, .hard = hard, .listing = hard};
    tell(other(end_), p, handover_end::completed, now);
    follow_wish(now);
}

void session::take_done(const message& m, instant now) {
    if (!own_ || m.number(field::number) != own_->number || own_->at == phase::announced)
        return count(own_ && m.number(field::number) > own_->number ? error::out_of_turn : error::old_procedure);
    over_ = std::max(over_, m.number(field::over));
    end_own(handover_end::completed, now);
    follow_wish(now);
}

// ---- what goes out
// ----------------------------------------------------------------------------------------------------

bool session::put_list(saying& s, frame_writer& out) {
    for (auto at = streams_.upper_bound(s.listed); at != streams_.end();) {
        if (!at->second.put_status(out, at->first))
            return false;
        s.listed = at->first;
        const auto next = std::next(at);
        if (at->second.finished())
            settle(at);
        at = next;
    }
    s.listing = false;
    return true;
}

bool session::put_saying(std::optional<saying>& s, const link& l, frame_writer& out) {
    if (!s || s->on != l.id)
        return true;
    if (s->listing && !put_list(*s, out))
        return false;
    const bool own = s->what == verb::announce || s->what == verb::begin;
    if (!out.put(message(s->what)
                     .set(field::initiator, static_cast<std::uint64_t>(own ? end_ : other(end_)))
                     .set(field::number, s->number)
                     .set(field::completed, completed_)
                     .set(field::over, own_ ? own_->number - 1 : own_number_)
                     .set(field::hard, s->hard ? 1U : 0U)))
        return false;
    s.reset();
    return true;
}

bool session::put_procedures(const link& l, frame_writer& out, instant now) {
    const bool saying_own = says_ && says_->on == l.id;
    if (!put_saying(answers_, l, out) || !put_saying(says_, l, out))
        return false;
    if (saying_own && l.kind == carrier::datagrams)
        own_->retry_at = now + own_->retry;
    return true;
}

// ---- time
// -------------------------------------------------------------------------------------------------------------

void session::poll_procedures(instant now) {
    if (own_ && own_->retry_at && now >= *own_->retry_at) {
        own_->retry_at.reset();
        own_->retry = std::min(2 * own_->retry, limits_.retry_max);
        const bool announces = own_->at == phase::announced, hard = own_->at == phase::beginning;
        says_ = saying{.what = announces ? verb::announce : verb::begin,
                       .on = announces ? *own_->from : own_->to,
                       .number = own_->number,
                       .hard = hard,
                       .listing = !announces};
    }
    if (own_ && now >= own_->deadline) {
        if (own_->at == phase::announced)
            fall_into_hard(now);
        else
            shut(own_->to, link_end::silent, now);
    }
    if (followed_ && now >= followed_->deadline) {
        followed_.reset();
        recover(now);
    }
}

} // namespace tandem::session_layer
