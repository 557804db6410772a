// SPDX-License-Identifier: Apache-2.0
// A session's links, frames and time. See session.hpp; streams.cpp and handover.cpp have the rest.
#include "controlplane/session_layer/session.hpp"

#include <algorithm>

namespace tandem::session_layer {

const char* text_of(error e) noexcept {
    static constexpr const char* texts[] = {
#define X(name, text) text,
#include "controlplane/session_layer/errors.def"
#undef X
    };
    return texts[static_cast<std::size_t>(e)];
}

std::optional<std::uint64_t> session_asked_for(std::span<const std::uint8_t> frame) noexcept {
    frame_reader in(frame);
    const auto first = in.next();
    if (!first || first->what() != verb::join)
        return std::nullopt;
    return (*first)[field::tsid];
}

session::session(role end, std::uint64_t tsid, const protocol::secret& secret, const limits& l, instant now)
    : end_(end), tsid_(tsid), secret_(secret.copy()), limits_(l), alone_since_(now),
      next_own_(end == role::creator ? 1 : 2), next_theirs_(end == role::creator ? 2 : 1), retry_(l.retry) {}

// ---- links
// ------------------------------------------------------------------------------------------------------------

session::link* session::find(link_id id) noexcept {
    const auto at = std::ranges::find(links_, id, &link::id);
    return at != links_.end() ? &*at : nullptr;
}

const session::link* session::find(link_id id) const noexcept {
    const auto at = std::ranges::find(links_, id, &link::id);
    return at != links_.end() ? &*at : nullptr;
}

bool session::joined(link_id id) const noexcept {
    const auto* l = find(id);
    return l != nullptr && l->joined;
}

bool session::lossy(link_id id) const noexcept {
    const auto* l = find(id);
    return l != nullptr && l->kind == carrier::datagrams;
}

bool session::one_network(const link& a, const link& b) noexcept {
    return a.dialled == b.dialled && a.group == b.group;
}

link_id session::dial(carrier kind, std::uint32_t group, std::span<const std::uint8_t> binding, instant) {
    link l{.id = next_link_++, .kind = kind, .dialled = true, .join_due = true, .group = group};
    set_proofs(l, binding);
    l.retry = limits_.retry;
    links_.push_back(std::move(l));
    return links_.back().id;
}

link_id session::accept(carrier kind, std::span<const std::uint8_t> binding, instant) {
    links_.push_back({.id = next_link_++, .kind = kind, .dialled = false, .binding = {binding.begin(), binding.end()}});
    return links_.back().id;
}

void session::lost(link_id id, instant now) {
    if (std::erase_if(links_, [&](const link& l) { return l.id == id; }) == 0)
        return;
    for (auto* pending : {&says_, &answers_})
        if (*pending && (*pending)->on == id)
            pending->reset();
    if (wish_ && wish_->to == id)
        wish_.reset();
    const bool was_current = current_ == id;
    if (was_current)
        current_.reset();
    if (links_.empty()) {
        if (!alone_since_) // links that never joined change nothing
            alone_since_ = now;
        followed_.reset(); // it goes on under another number, or not at all
    }
    if (own_ && own_->to == id) {
        tell(end_, *own_, handover_end::failed, now);
        own_.reset();
        recover(now);
    } else if (own_ && own_->at == phase::announced && was_current) {
        fall_into_hard(now);
    } else if (!own_ && !followed_ && was_current) {
        recover(now);
    }
}

void session::shut(link_id id, link_end why, instant now) {
    events_.push_back(close_link{id, why});
    lost(id, now);
}

// ---- joining
// ----------------------------------------------------------------------------------------------------------

void session::set_proofs(link& l, std::span<const std::uint8_t> binding) const {
    l.dialler = prove(secret_, prover::dialler, tsid_, l.group, binding);
    l.accepter = prove(secret_, prover::accepter, tsid_, l.group, binding);
}

void session::has_joined(link& l) {
    l.joined = true;
    alone_since_.reset();
    events_.push_back(link_ready{l.id});
}

void session::take_join(link& l, const message& m, instant now) {
    const auto group = m.number(field::group);
    if (l.dialled || (l.joined && l.group != group)) {
        count(error::second_join);
        return shut(l.id, link_end::refused, now);
    }
    if (m[field::tsid] != tsid_) {
        count(error::wrong_session);
        return shut(l.id, link_end::refused, now);
    }
    if (!l.joined) {
        l.group = group;
        set_proofs(l, l.binding);
        std::vector<std::uint8_t>().swap(l.binding);
    }
    if (!matches(l.dialler, m.tail())) {
        count(error::wrong_secret);
        return shut(l.id, link_end::refused, now);
    }
    l.joined_due = true;
    if (!l.joined)
        has_joined(l);
}

void session::take_joined(link& l, const message& m, instant now) {
    if (!l.dialled || !matches(l.accepter, m.tail())) {
        count(error::wrong_secret);
        return shut(l.id, link_end::refused, now);
    }
    l.retry_at.reset();
    if (l.joined)
        return;
    has_joined(l);
    follow_wish(now);
}

bool session::put_join(link& l, frame_writer& out, instant now) {
    if (l.join_due) {
        if (!out.put(message(verb::join).set(field::tsid, tsid_).set(field::group, l.group).set_tail(l.dialler)))
            return false;
        l.join_due = false;
        if (l.kind == carrier::datagrams)
            l.retry_at = now + l.retry;
    }
    if (l.joined_due && !out.put(message(verb::joined).set_tail(l.accepter)))
        return false;
    l.joined_due = false;
    return true;
}

// ---- frames
// -----------------------------------------------------------------------------------------------------------

void session::receive(link_id id, std::span<const std::uint8_t> frame, instant now) {
    if (find(id) == nullptr)
        return;
    frame_reader in(frame);
    while (const auto m = in.next()) {
        take(id, *m, now);
        if (find(id) == nullptr)
            return; // shut for it
    }
    if (in.bad()) {
        count(error::malformed);
        return shut(id, link_end::malformed, now);
    }
    // The other end found its way back and did not say to where: it does not know yet that the last network is gone.
    const auto* l = find(id);
    if (l->joined && l->kind == carrier::stream && !current_ && !own_ && !followed_)
        begin_hard(id, reason::lost, now);
}

void session::take(link_id id, const message& m, instant now) {
    auto& l = *find(id);
    if (m.what() == verb::join)
        return take_join(l, m, now);
    if (m.what() == verb::joined)
        return take_joined(l, m, now);
    if (!l.joined)
        return count(error::not_joined);
    switch (m.what()) {
    case verb::open:
        return take_open(m);
    case verb::data:
        return take_data(m);
    case verb::ack:
        return take_ack(m);
    case verb::window:
        return take_window(m);
    case verb::close:
        return take_close(m);
    case verb::reset:
        return take_reset(m);
    case verb::datagram:
        return take_datagram(m);
    default:
        return take_procedure(l, m, now);
    }
}

std::size_t session::pull(link_id id, std::vector<std::uint8_t>& out, std::size_t max, instant now) {
    auto* l = find(id);
    if (l == nullptr)
        return 0;
    const auto before = out.size();
    frame_writer frame(out, max);
    if (put_join(*l, frame, now) && put_procedures(*l, frame, now)) {
        put_datagrams(*l, frame, now);
        if (may_send(id)) {
            put_streams(frame, now);
            put_datagrams(*l, frame, now); // of streams that were opened just now
        }
    }
    return out.size() - before;
}

bool session::has_more(link_id id) const noexcept {
    const auto* l = find(id);
    if (l == nullptr)
        return false;
    const auto here = [&](const std::optional<saying>& s) { return s && s->on == id; };
    return l->join_due || l->joined_due || here(says_) || here(answers_) ||
           (datagram_link() == id && datagrams_.any([this](const auto& d) { return ready(d); })) ||
           (may_send(id) && !(ready_.empty() && gone_.empty()));
}

// ---- time
// -------------------------------------------------------------------------------------------------------------

std::optional<instant> session::due() const noexcept {
    std::optional<instant> first;
    const auto consider = [&](const std::optional<instant>& at) {
        if (at && (!first || *at < *first))
            first = at;
    };
    for (const auto& l : links_)
        consider(l.retry_at);
    for (const auto* p : {&own_, &followed_})
        if (*p) {
            consider((*p)->deadline);
            consider((*p)->retry_at);
        }
    consider(retry_at_);
    if (alone_since_)
        consider(*alone_since_ + limits_.keep);
    return first;
}

void session::poll(instant now) {
    poll_joins(now);
    poll_procedures(now);
    if (retry_at_ && now >= *retry_at_)
        ask_again(now);
    if (alone_since_ && now >= *alone_since_ + limits_.keep)
        expire(now);
}

void session::poll_joins(instant now) {
    for (auto& l : links_)
        if (l.retry_at && now >= *l.retry_at) {
            l.retry_at.reset();
            l.join_due = true;
            l.retry = std::min(2 * l.retry, limits_.retry_max);
        }
}

void session::expire(instant) {
    alone_since_.reset();
    own_.reset();
    followed_.reset();
    says_.reset();
    answers_.reset();
    wish_.reset();
    streams_.clear();
    ready_.clear();
    gone_.clear();
    datagrams_.clear();
    buffered_ = keeping_ = theirs_ = 0;
    retry_at_.reset();
    events_.push_back(expired{});
}

std::uint64_t session::fingerprint(instant now) const {
    std::uint64_t h = 7;
    const auto mix = [&](std::uint64_t v) { h = (h ^ v) * 0x9E3779B97F4A7C15U, h ^= h >> 31; };
    const auto time = [&](const std::optional<instant>& t) {
        mix(t ? static_cast<std::uint64_t>((*t - now).count()) : ~std::uint64_t{0});
    };
    const auto said = [&](const std::optional<saying>& s) {
        mix(s ? std::uint64_t{s->number} << 32 | std::uint64_t{s->on} << 16 | std::uint64_t{s->hard} << 8 |
                    std::uint64_t{s->listing} << 9 | static_cast<std::uint64_t>(s->what)
              : 1);
    };
    for (const auto& l : links_) {
        mix(std::uint64_t{l.id} << 32 | std::uint64_t{l.joined} | std::uint64_t{l.join_due} << 1 |
            std::uint64_t{l.joined_due} << 2 | std::uint64_t{l.group} << 8);
        time(l.retry_at);
    }
    for (const auto* p : {&own_, &followed_})
        if (*p) {
            mix(std::uint64_t{(*p)->number} << 32 | std::uint64_t{(*p)->to} << 8 |
                static_cast<std::uint64_t>((*p)->at) << 4 | static_cast<std::uint64_t>((*p)->kind));
            time((*p)->deadline);
            time((*p)->retry_at);
        } else {
            mix(3);
        }
    said(says_);
    said(answers_);
    mix(std::uint64_t{own_number_} << 32 | heeded_);
    mix(std::uint64_t{completed_} << 32 | over_);
    mix(std::uint64_t{current_.value_or(0)} << 32 | (wish_ ? wish_->to : 0U));
    mix(std::uint64_t{next_own_} << 32 | next_theirs_);
    time(retry_at_);
    for (const auto& [id, s] : streams_) {
        mix(id);
        s.fingerprint(h);
    }
    for (const auto id : ready_)
        mix(id);
    for (const auto id : gone_)
        mix(id + std::uint64_t{1000});
    return h;
}

} // namespace tandem::session_layer
