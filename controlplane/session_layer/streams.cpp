// SPDX-License-Identifier: Apache-2.0
// A session's streams and datagrams. See session.hpp and stream.hpp.
#include <algorithm>

#include "controlplane/session_layer/session.hpp"

namespace tandem::session_layer {
namespace {

constexpr std::size_t most_gone = 4096; // answers that wait; who misses one asks again
constexpr std::size_t no_bound = std::size_t{1} << 62;

} // namespace

// ---- the application's side
// -------------------------------------------------------------------------------------------

std::optional<stream_id> session::open(stream_kind kind, std::string_view label) {
    if (label.size() > 255 || streams_.size() - theirs_ >= limits_.streams)
        return std::nullopt;
    const auto id = next_own_;
    next_own_ += 2;
    touch(streams_.try_emplace(id, kind, true, limits_, std::string(label)).first);
    return id;
}

std::size_t session::room(const stream& s) const noexcept {
    const auto share = std::max(2 * limits_.turn, limits_.shared / (keeping_ + (s.buffered() == 0 ? 1 : 0)));
    const auto own = std::min(limits_.stream_buffer, share);
    return std::min(own - std::min(own, s.buffered()), limits_.buffered - std::min(limits_.buffered, buffered_));
}

void session::keeps(std::size_t before, std::size_t now) noexcept {
    buffered_ += now - before;
    keeping_ += std::size_t{now > 0} - std::size_t{before > 0};
}

std::size_t session::write(stream_id id, std::span<const std::uint8_t> octets) {
    const auto at = streams_.find(id);
    if (at == streams_.end())
        return 0;
    auto& s = at->second;
    const auto before = s.buffered(), took = s.write(octets, room(s));
    keeps(before, s.buffered());
    full_ = full_ || (s.wants_room && buffered_ >= limits_.buffered); // else its own octets' end makes room
    touch(at);
    return took;
}

void session::consumed(stream_id id, std::uint64_t octets) {
    const auto at = streams_.find(id);
    if (at != streams_.end() && at->second.consumed(octets))
        touch(at);
}

void session::close(stream_id id) {
    const auto at = streams_.find(id);
    if (at == streams_.end() || at->second.resetting())
        return;
    at->second.close();
    touch(at);
}

void session::reset(stream_id id, std::uint16_t code) {
    const auto at = streams_.find(id);
    if (at == streams_.end() || at->second.resetting())
        return;
    const auto before = at->second.buffered();
    at->second.reset(code);
    keeps(before, at->second.buffered());
    touch(at);
    make_room();
}

void session::send_datagram(stream_id id, std::span<const std::uint8_t> octets, instant now) {
    const auto at = streams_.find(id);
    if (at == streams_.end() || at->second.kind() != stream_kind::datagrams || at->second.closing() ||
        at->second.resetting())
        return;
    for (auto gone = datagrams_.push({id, at->second.next_sequence(), now, {octets.begin(), octets.end()}},
                                     limits_.datagrams, limits_.datagram_octets);
         gone > 0; --gone)
        count(error::datagram_pushed);
}

// ---- what comes
// -------------------------------------------------------------------------------------------------------

bool session::was_there(stream_id id) const noexcept {
    return id != 0 && id < (ours(id) ? next_own_ : next_theirs_);
}

session::place session::heard_of(stream_id id, bool answer) {
    const auto at = streams_.find(id);
    if (at == streams_.end()) {
        if (!was_there(id))
            count(error::unknown_stream);
        else if (answer)
            say_gone(id);
    }
    return at;
}

void session::say_gone(stream_id id) {
    if (gone_.size() < most_gone && (gone_.empty() || gone_.back() != id))
        gone_.push_back(id);
}

void session::take_open(const message& m) {
    const auto id = m.number(field::stream);
    if (id == 0 || ours(id))
        return count(error::wrong_opener);
    if (was_there(id)) {
        const auto at = heard_of(id, true);
        if (at == streams_.end())
            return;
        at->second.status_due();
        return touch(at);
    }
    if (id != next_theirs_)
        return count(error::gap);
    const bool last = id > 0xfffffffb; // a session has so many streams; their numbers do not begin again
    if (!last)
        next_theirs_ += 2;
    const bool full = last || theirs_ >= limits_.streams,
               kind_known = m[field::kind] <= static_cast<std::uint64_t>(stream_kind::packed);
    if (full || !kind_known) {
        count(full ? error::too_many_streams : error::bad_kind);
        return say_gone(id);
    }
    const auto kind = static_cast<stream_kind>(m[field::kind]);
    const auto at = streams_.try_emplace(id, kind, false, limits_).first;
    ++theirs_;
    at->second.status_due();
    touch(at);
    events_.push_back(opened{id, kind, m.tail()});
}

void session::take_data(const message& m) {
    const auto at = heard_of(m.number(field::stream), true);
    if (at == streams_.end() || at->second.resetting())
        return;
    const auto [octets, wrong] = at->second.on_data(m[field::offset], m.tail());
    if (wrong && *wrong != error::gap && *wrong != error::repeated)
        return violated(at, *wrong);
    if (wrong)
        count(*wrong);
    if (!octets.empty())
        events_.push_back(received{at->first, octets});
    touch(at);
}

void session::take_close(const message& m) {
    const auto at = heard_of(m.number(field::stream), true);
    if (at == streams_.end() || at->second.resetting())
        return;
    const auto wrong = at->second.on_close(m[field::offset]);
    if (wrong == error::beyond_close)
        return violated(at, *wrong);
    if (wrong)
        count(*wrong);
    if (at->second.take_end())
        events_.push_back(closed{at->first});
    settle(at);
}

void session::take_ack(const message& m) {
    const auto at = heard_of(m.number(field::stream), false);
    if (at == streams_.end())
        return;
    if ((m[field::flags] & ack_gone) != 0)
        return take_gone(at);
    std::size_t freed = 0;
    const auto wrong = at->second.on_ack(m[field::offset], (m[field::flags] & ack_closed) != 0, freed);
    if (wrong == error::ack_beyond)
        return violated(at, *wrong);
    if (wrong)
        return count(*wrong);
    if (freed > 0) {
        keeps(at->second.buffered() + freed, at->second.buffered());
        retry_ = limits_.retry;
        offer_room(at);
        make_room();
    }
    settle(at);
}

// The other end has forgotten it: it ended in order, or never was, or is reset.
void session::take_gone(place at) {
    const auto id = at->first;
    const auto& s = at->second;
    if (!s.resetting()) {
        if (s.ended_in_order())
            events_.push_back(session_layer::finished{id});
        else
            events_.push_back(was_reset{id, static_cast<std::uint16_t>(reset_code::refused)});
    }
    forget(at);
}

void session::take_window(const message& m) {
    const auto at = heard_of(m.number(field::stream), false);
    if (at == streams_.end())
        return;
    if (const auto wrong = at->second.on_window(m[field::offset]))
        return count(*wrong);
    touch(at);
}

void session::take_reset(const message& m) {
    const auto at = heard_of(m.number(field::stream), true);
    if (at == streams_.end())
        return;
    say_gone(at->first);
    if (!at->second.resetting())
        events_.push_back(was_reset{at->first, static_cast<std::uint16_t>(m[field::code])});
    forget(at);
}

void session::take_datagram(const message& m) {
    const auto at = heard_of(m.number(field::stream), false);
    if (at == streams_.end() || at->second.resetting())
        return;
    if (at->second.kind() != stream_kind::datagrams)
        return count(error::bad_kind);
    if (!at->second.newer(m.number(field::sequence)))
        return count(error::datagram_old);
    events_.push_back(received_datagram{at->first, m.tail()});
}

void session::violated(place at, error what) {
    count(what);
    const auto code = static_cast<std::uint16_t>(reset_code::violation);
    events_.push_back(was_reset{at->first, code});
    reset(at->first, code);
}

// ---- bookkeeping
// ------------------------------------------------------------------------------------------------------

// Its turn comes, if it has something to say.
void session::touch(place at) {
    auto& s = at->second;
    if (!s.queued && s.has_more(flight())) {
        s.queued = true;
        ready_.push_back(at->first);
    }
    if (!retry_at_ && current_ && lossy(*current_) && (s.unanswered() || s.blocked()))
        retry_at_ = instant::max();
}

void session::settle(place at) {
    if (!at->second.finished())
        return touch(at);
    events_.push_back(session_layer::finished{at->first});
    forget(at);
}

void session::forget(place at) {
    keeps(at->second.buffered(), 0);
    if (!ours(at->first))
        --theirs_;
    if (at->second.queued) // or whoever opens and resets without end fills the queue
        std::erase(ready_, at->first);
    streams_.erase(at);
    make_room();
}

void session::offer_room(place at) {
    if (!at->second.wants_room || room(at->second) == 0)
        return;
    at->second.wants_room = false;
    events_.push_back(writable{at->first});
}

// Where the session as a whole was full.
void session::make_room() {
    if (!full_)
        return;
    full_ = false;
    for (auto at = streams_.begin(); at != streams_.end(); ++at) {
        offer_room(at);
        full_ = full_ || at->second.wants_room;
    }
}

// ---- what goes out
// ----------------------------------------------------------------------------------------------------

std::size_t session::flight() const noexcept {
    if (!current_ || !lossy(*current_))
        return no_bound;
    return std::max<std::size_t>(1024, limits_.flight / std::max<std::size_t>(1, streams_.size()));
}

void session::put_streams(frame_writer& out, instant now) {
    for (; !gone_.empty(); gone_.pop_front())
        if (!out.put(message(verb::ack).set(field::stream, gone_.front()).set(field::flags, ack_gone)))
            return;
    const auto bound = flight();
    while (!ready_.empty()) {
        const auto at = streams_.find(ready_.front());
        if (at != streams_.end()) {
            auto& s = at->second;
            const auto before = s.position();
            const bool whole = s.put(out, at->first, limits_.turn, bound);
            if (s.position() > before)
                note_stall(at->first, s, now);
            if (!whole)
                break;
            s.queued = false;
            settle(at);
        }
        ready_.pop_front();
    }
    if (retry_at_ == instant::max() || (!retry_at_ && !out.empty() && current_ && lossy(*current_)))
        retry_at_ = now + retry_;
}

void session::put_datagrams(const link& l, frame_writer& out, instant now) {
    for (auto late = datagrams_.age(now, limits_.datagram_age); late > 0; --late)
        count(error::datagram_late);
    if (datagram_link() != l.id)
        return;
    datagrams_.take([this](const auto& d) { return ready(d); },
                    [&](const datagram_queue::waiting& d) {
                        const bool fits = out.put(message(verb::datagram)
                                                      .set(field::stream, d.stream)
                                                      .set(field::sequence, d.sequence)
                                                      .set_tail(d.octets));
                        if (fits || !out.empty())
                            return fits;
                        count(error::datagram_pushed); // larger than what the link carries
                        return true;
                    });
}

// The other end knows its stream by then.
bool session::ready(const datagram_queue::waiting& d) const noexcept {
    const auto at = streams_.find(d.stream);
    return at == streams_.end() || at->second.open_said();
}

// Over datagrams: what is said and not answered is said again, the oldest first, and who may not send asks why.
void session::ask_again(instant now) {
    retry_at_.reset();
    if (!current_ || !lossy(*current_) || !may_send(*current_) || !anything_unanswered())
        return;
    for (auto at = streams_.begin(); at != streams_.end(); ++at) {
        (void)at->second.rewind();
        if (at->second.blocked())
            at->second.probe();
        touch(at);
    }
    retry_ = std::min(2 * retry_, limits_.retry_max);
    retry_at_ = now + retry_;
}

bool session::anything_unanswered() const noexcept {
    return std::ranges::any_of(streams_, [](const auto& s) { return s.second.unanswered() || s.second.blocked(); });
}

// ---- across a handover
// ------------------------------------------------------------------------------------------------

std::uint64_t session::rewind_all() {
    std::uint64_t again = 0;
    ready_.clear();
    retry_at_.reset();
    retry_ = limits_.retry;
    for (auto at = streams_.begin(); at != streams_.end(); ++at) {
        auto& s = at->second;
        again += s.rewind();
        if (!s.has_unsent())
            s.stalled.reset();
        s.queued = false;
        touch(at);
    }
    return again;
}

void session::mark_stalls(instant now) {
    for (auto& [id, s] : streams_)
        if (!s.stalled && !s.resetting() && s.has_unacknowledged())
            s.stalled = now;
}

void session::note_stall(stream_id id, stream& s, instant now) {
    if (s.stalled)
        events_.push_back(stall{id, *s.stalled, now});
    s.stalled.reset();
}

} // namespace tandem::session_layer
